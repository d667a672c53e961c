"""A manifest is read back equal or refused with a ManifestError; nothing third happens."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny

from esccs_edge.contracts.familiarity import Familiarity
from esccs_edge.contracts.manifest import MAX_MANIFEST_BYTES, BatchProfile, FileRecord, Manifest
from esccs_edge.contracts.stac_mlm import MLM_SCHEMA, mlm_item
from esccs_edge.contracts.tasks.scene_classification import SceneClassification
from esccs_edge.errors import BackendError, ManifestError

RICH = tiny.tiny_manifest(
    files={"student.onnx": FileRecord("0" * 64, 5)},
    quantization={"scheme": "int8", "nodes": ["Conv_1", "Conv_2"]},
    provenance={"simulated": ["clouds", "sar"], "metrics": {"test": {"oa": 0.9}}, "name": "Ümlaut"},
)
DOCUMENT = json.loads(RICH.to_json())

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**30), 1e308, 5e-324, "\ud800", "", "\0"])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(node, path=()):
    """Every place in a JSON document that a value can be put."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


PLACES = list(places(DOCUMENT))


def read(document) -> Manifest:
    return Manifest.from_json(json.dumps(document))


def test_a_manifest_is_read_back_equal():
    assert Manifest.from_json(RICH.to_json()) == RICH
    assert Manifest.from_json(RICH.to_json().encode()).to_json() == RICH.to_json()


@pytest.mark.fault(50)
@given(st.sampled_from(PLACES), JSON_VALUES, st.sampled_from(["replace", "delete", "insert"]))
def test_any_change_is_read_or_refused(place, value, how):
    document = copy.deepcopy(DOCUMENT)
    node = document
    for key in place[:-1]:
        node = node[key]
    if how == "replace":
        node[place[-1]] = value
    elif how == "delete":
        del node[place[-1]]
    elif isinstance(node, dict):
        node["unheard_of"] = value
    else:
        node.insert(place[-1], value)
    try:
        manifest = read(document)
    except ManifestError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.fault(50)
@given(st.binary(max_size=64) | st.text(max_size=64))
def test_noise_is_refused(noise):
    with pytest.raises(ManifestError):
        Manifest.from_json(noise)


@given(st.integers(0, len(RICH.to_json()) - 2))
def test_a_truncated_manifest_is_refused(length):
    with pytest.raises(ManifestError):
        Manifest.from_json(RICH.to_json()[:length])


@pytest.mark.fault(50)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"schema_version": 1, "temperature": NaN}',
        '{"schema_version": 1, "temperature": Infinity}',
        "null",
        "[]",
        '"manifest"',
        '{"schema_version": 1, "name": "\\ud800"}',
        " " * (MAX_MANIFEST_BYTES + 1),
    ],
    ids=["deep", "nan", "infinity", "null", "list", "string", "surrogate", "huge"],
)
def test_hostile_json_is_refused(text):
    with pytest.raises(ManifestError):
        Manifest.from_json(text)


@pytest.mark.parametrize("version", [0, 3, None, "1", "2", True])
def test_another_schema_version_is_refused_with_a_hint(version):
    with pytest.raises(ManifestError, match="schema_version") as caught:
        read({**DOCUMENT, "schema_version": version})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("classes", ["A"]),
        ("classes", ["A", "A"]),
        ("sample", {"height": 0, "width": 16, "pixel_size_m": 10.0}),
        ("sample", {"height": 16, "width": True, "pixel_size_m": 10.0}),
        ("sample", {"height": 16, "width": 16, "pixel_size_m": -10.0}),
        ("task", "no-such-task"),
        ("temperature", 0.0),
        ("temperature", 10**400),
        ("batch", {"min": 4, "opt": 2, "max": 8}),
        ("inputs", []),
    ],
)
def test_a_field_out_of_its_range_is_named(field, value):
    named = "height|width|pixel_size_m" if field == "sample" else field
    with pytest.raises(ManifestError, match=named):
        read({**DOCUMENT, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", ["B01"] * 13),
        ("mean", [0.1]),
        ("std", [0.0] * 13),
        ("dn_scale", 0.0),
        ("dn_scale", -1e-4),
        ("clip", [1.0, 1.0]),
        ("unit", "kelvin"),
        ("nodata", "0"),
    ],
)
def test_a_modality_out_of_its_range_is_named(field, value):
    document = copy.deepcopy(DOCUMENT)
    document["modalities"]["optical"][field] = value
    with pytest.raises(ManifestError, match=field):
        read(document)


def test_tensors_follow_from_modalities_classes_and_grid():
    shapes = {name: tensor.shape for name, tensor in RICH.inputs.items()}
    assert shapes == {
        "optical": ("N", 13, 16, 16),
        "sar": ("N", 2, 16, 16),
        "availability": ("N", 2),
    }
    shapes = {name: tensor.shape for name, tensor in RICH.outputs.items()}
    assert shapes == {"logits": ("N", 4), "gate": ("N", 2)}
    assert RICH.logits == "logits"


def test_evolve_checks_again():
    assert RICH.evolve(temperature=2.0).temperature == 2.0
    with pytest.raises(ManifestError):
        RICH.evolve(temperature=-1.0)
    with pytest.raises(ManifestError):
        BatchProfile(0, 1, 2)


def test_the_stac_item_lists_bands_classes_and_files():
    item = json.loads(mlm_item(RICH))
    assert item["stac_extensions"] == [MLM_SCHEMA] and item["id"] == RICH.name
    optical, sar = item["properties"]["mlm:input"]
    assert tuple(optical["bands"]) == RICH.modalities["optical"].channels
    assert sar["input"]["shape"] == [-1, 2, 16, 16]
    classes = item["properties"]["mlm:output"][0]["classification:classes"]
    assert [entry["name"] for entry in classes] == list(RICH.classes)
    assert item["assets"]["student.onnx"]["roles"] == ["mlm:model"]


FAMILIAR = RICH.evolve(
    familiarity={
        name: Familiarity(1.5, 0.975, 600, 40, {"clear": {"0.5": 0.6, "0.95": 1.2}})
        for name in RICH.modalities
    }
)


def test_a_manifest_that_knows_what_is_familiar_asks_the_network_for_distances():
    assert Manifest.from_json(FAMILIAR.to_json()) == FAMILIAR
    assert list(FAMILIAR.outputs) == ["logits", "gate", "distance"]
    distance = FAMILIAR.outputs["distance"]
    assert (distance.shape, distance.role) == (("N", 2), "distance")
    old = json.loads(RICH.to_json())
    del old["familiarity"]  # as earlier versions wrote it
    assert Manifest.from_json(json.dumps(old)) == RICH


@pytest.mark.parametrize(
    ("names", "changes", "match"),
    [
        (["optical"], {}, "familiarity"),
        (["sar", "optical"], {}, "familiarity"),
        (["optical", "sar"], {"threshold": 0.0}, "threshold"),
        (["optical", "sar"], {"quantile": 1.0}, "quantile"),
        (["optical", "sar"], {"places": 0}, "places"),
    ],
)
def test_familiarity_that_cannot_be_is_refused(names, changes, match):
    document = json.loads(FAMILIAR.to_json())
    known = document["familiarity"]["optical"] | changes
    document["familiarity"] = dict.fromkeys(names, known)
    with pytest.raises(ManifestError, match=match):
        read(document)


@pytest.mark.parametrize(
    ("distances", "flags"),
    [((0.0, 1.4), set()), ((1.6, 0.0), {"UNFAMILIAR"}), ((1.0, 9.0), {"UNFAMILIAR"})],
)
def test_a_distance_above_its_threshold_raises_the_flag(distances, flags):
    task = SceneClassification()
    outputs = {
        "logits": np.zeros((1, 4), np.float32),
        "gate": np.full((1, 2), 0.5, np.float32),
        "distance": np.array([distances], np.float32),
    }
    (row,) = task.rows(outputs, FAMILIAR)
    assert {flag.value for flag in task.answer(row, set(), FAMILIAR).flags} == flags
    (row,) = task.rows(outputs, RICH)  # a model that does not know says nothing
    assert not task.answer(row, set(), RICH).flags
    outputs["distance"][:] = np.nan
    (row,) = task.rows(outputs, FAMILIAR)
    assert isinstance(task.answer(row, set(), FAMILIAR), BackendError)


@pytest.mark.parametrize("name", ["NODATA", "nodata", "NoData", "", " ", " Forest", "a\nb", "a\0b",
                                  "\x1b[31mForest", "\x9b2J", "\u202eforest"])  # fmt: skip
def test_a_class_name_that_misleads_is_refused(name):
    with pytest.raises(ManifestError, match="expected (no class called NODATA|printable text)"):
        tiny.tiny_manifest(classes=(name, "River", "Residential", "SeaLake"))
