"""Bundles written by version 0.1.0, whose manifests knew two modalities and one task."""

from __future__ import annotations

import copy
import json

import pytest
from support.tiny import raw_pair, tiny_manifest, tiny_onnx

from esccs_edge import Bundle, Classifier
from esccs_edge.contracts.bundle_files import MANIFEST
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import ManifestError

ARCHITECTURE = {"optical": {"width": 28, "blocks": [1, 1, 1]}, "sar": {"width": 16, "blocks": [1]}}
MODALITY = ("channels", "sensor", "level", "unit", "dn_scale", "dn_offset", "nodata", "clip",
            "mean", "std")  # fmt: skip


def modality(spec) -> dict:
    return {name: getattr(spec, name) for name in MODALITY}


def tensor(name: str, *shape) -> dict:
    return {"name": name, "shape": shape, "dtype": "float32"}


def document(files=None) -> dict:
    """The tiny model's manifest as version 0.1.0 wrote it."""
    tiny = tiny_manifest()
    return {
        "schema_version": 1,
        "name": "tiny",
        "classes": list(tiny.classes),
        "optical": modality(tiny.modalities["optical"]),
        "sar": modality(tiny.modalities["sar"]),
        "patch_size": 16,
        "pixel_size_m": 10.0,
        "temperature": 1.0,
        "batch": {"min": 1, "opt": 4, "max": 8},
        "model": "student.onnx",
        "task": "scene-classification",
        "files": files or {},
        "quantization": None,
        "provenance": {"architecture": ARCHITECTURE, "seed": 3},
        "inputs": [
            tensor("optical", "N", 13, 16, 16),
            tensor("sar", "N", 2, 16, 16),
            tensor("availability", "N", 2),
        ],
        "outputs": [tensor("logits", "N", 4), tensor("gate", "N", 2)],
        "gate_order": ["optical", "sar"],
    }


def read(fields: dict) -> Manifest:
    return Manifest.from_json(json.dumps(fields))


def test_version_1_is_read_as_the_same_contract():
    wanted = tiny_manifest(architecture=ARCHITECTURE, provenance={"seed": 3})
    assert read(document()) == wanted
    assert json.loads(read(document()).to_json())["schema_version"] == 2


def test_a_bundle_of_version_1_runs_and_is_extended_in_version_2(tmp_path):
    made = Bundle.create(
        tmp_path / "b", tiny_manifest(), {"student.onnx": tiny_onnx(tiny_manifest())}
    )
    record = made.manifest.files["student.onnx"]
    files = {"student.onnx": {"sha256": record.sha256, "bytes": record.bytes}}
    (made.folder / MANIFEST).write_text(json.dumps(document(files)))
    old = Bundle.open(made.folder)
    pair = raw_pair(old.manifest)
    with Classifier(old, "cpu") as first, Classifier(made, "cpu") as second:
        assert first.classify(*pair) == second.classify(*pair)
    old.add({"notes.txt": b"more"})
    assert json.loads((made.folder / MANIFEST).read_text())["schema_version"] == 2
    assert Bundle.open(made.folder).manifest.architecture == ARCHITECTURE


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("gate_order", ["sar", "optical"], "gate_order|modalities"),
        ("patch_size", 0, "height"),
        ("patch_size", None, "height"),
        ("pixel_size_m", -1.0, "pixel_size_m"),
        ("inputs", [], "inputs"),
        ("outputs", [tensor("logits", "N", 5), tensor("gate", "N", 2)], "outputs"),
        ("optical", None, "optical"),
        ("sar", {}, "sar"),
        ("task", "no-such-task", "task"),
    ],
)
def test_a_wrong_field_of_version_1_is_named(field, value, named):
    with pytest.raises(ManifestError, match=named):
        read({**document(), field: value})


def test_a_missing_field_of_version_1_is_refused():
    for field in document():
        fields = copy.deepcopy(document())
        del fields[field]
        if field in ("temperature", "batch", "model", "task", "files", "quantization",
                     "provenance"):  # fmt: skip
            read(fields)  # has a default
        else:
            with pytest.raises(ManifestError):
                read(fields)
