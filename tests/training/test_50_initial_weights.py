"""A run that starts at a bundle: what it takes over, what starts anew, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load
from support.cli_parts import refused, run
from support.tiny_data import CLASSES, tiny_document, tiny_index

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import InputError
from esccs_edge.training.cross_validation import cross_validate
from esccs_edge.training.learning.initial_weights import InitialWeights
from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.options_file import options_from
from esccs_edge.training.run import train
from esccs_edge.training.scene_options import TrainOptions

NEW = ("Desert", "Forest", "River")  # one new class before two known ones, one is gone


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Bundle:
    """A trained bundle."""
    folder = tmp_path_factory.mktemp("before")
    return train(options_from(tiny_document(tiny_index(folder / "data"), folder / "run")))


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Data of which one class has another name."""
    path = tiny_index(tmp_path_factory.mktemp("others") / "data", seed=1)
    path.write_text(path.read_text().replace("SeaLake", "Desert"))
    return path


def started(before: Bundle, classes=NEW):
    task = learning_task("scene-classification")
    manifest = before.manifest.evolve(classes=classes, familiarity={})
    torch.manual_seed(5)
    return InitialWeights.read(str(before.folder), manifest, task.network), task.network(manifest)


def test_classes_keep_their_weights_by_name_and_new_ones_keep_what_was_drawn(before):
    initial, net = started(before)
    drawn = {name: value.clone() for name, value in net.state_dict().items()}
    known = load(before.read("student.safetensors"))
    assert initial.start(net)
    now = net.state_dict()
    assert initial.class_axes == {"head.weight": 0, "head.bias": 0}
    for head in initial.class_axes:
        assert torch.equal(now[head][0], drawn[head][0])
        for k, name in enumerate(NEW[1:], start=1):
            assert torch.equal(now[head][k], known[head][CLASSES.index(name)])
    same = [name for name in now if name not in initial.class_axes]
    assert all(torch.equal(now[name], known[name]) for name in same)


def test_a_network_of_other_sizes_starts_anew_and_whole(before):
    from esccs_edge.training.learning.networks import UnimodalNet
    from esccs_edge.training.scene_options import EncoderOptions

    initial, _ = started(before)
    branch = {"encoder.": "optical."}
    for sizes, starts in ((EncoderOptions(4, (1, 1)), True), (EncoderOptions(4, (1, 2)), False),
                          (EncoderOptions(8, (1, 1)), False)):  # fmt: skip
        net = UnimodalNet(13, 3, sizes)
        drawn = {name: value.clone() for name, value in net.state_dict().items()}
        assert initial.start(net, branch) is starts
        changed = {n for n, v in net.state_dict().items() if not torch.equal(v, drawn[n])}
        assert bool(changed) is starts and not any(name.startswith("head") for name in changed)


def test_a_run_goes_on_from_a_bundle_and_says_so(before, others, tmp_path, capsys):
    out = tmp_path / "run"
    options = options_from(tiny_document(others, out, epochs=1, init=str(before.folder)))
    assert isinstance(options, TrainOptions)
    slow = replace(options.student.schedule, learning_rate=1e-9)  # it stays where it starts
    bundle = train(options.evolve(student=replace(options.student, schedule=slow)))
    said = capsys.readouterr().err
    for stage in ("teacher", "sar-auxiliary", "optical-auxiliary", "student"):
        assert f"{stage} starts at {before.folder}" in said
    manifest = bundle.manifest
    assert manifest.classes == NEW
    for name, spec in before.manifest.modalities.items():
        assert (manifest.modalities[name].mean, manifest.modalities[name].std) == (
            spec.mean, spec.std,
        )  # fmt: skip
    stated = manifest.provenance["init"]
    assert stated["digest"] == before.digest and stated["classes_kept"] == ["Forest", "River"]
    assert "init" not in manifest.provenance["options"]  # a path means nothing elsewhere
    known, now = load(before.read("student.safetensors")), load(bundle.read("student.safetensors"))
    for name in ("optical.stem.0.weight", "sar.stem.0.weight", "gate.score.weight"):
        torch.testing.assert_close(now[name], known[name], rtol=0, atol=1e-5)
    for k, name in enumerate(NEW[1:], start=1):
        row = known["head.weight"][CLASSES.index(name)]
        torch.testing.assert_close(now["head.weight"][k], row, rtol=0, atol=1e-5)


def test_what_it_cannot_start_at_is_refused_before_anything_is_written(before, others, tmp_path):
    def said(**changes) -> str:
        out = tmp_path / "refused"
        document = tiny_document(others, out, **{"init": str(before.folder), **changes})
        with pytest.raises(InputError) as error:
            train(options_from(document))
        assert not out.exists()
        return str(error.value)

    assert "architecture" in said(student={"optical": {"width": 8, "blocks": [1, 1]}})
    assert "has no student.safetensors" in said(init="default")
    with pytest.raises(InputError, match="may have learned what a fold judges"):
        cross_validate(options_from(tiny_document(others, tmp_path, init=str(before.folder),
                                                  folds={"count": 2})))  # fmt: skip


def test_the_command_takes_the_bundle(others, tmp_path):
    arguments = ("train", "--data", others, "--out", tmp_path / "run", "--init", "default")
    assert "student.safetensors" in refused(run(*arguments))


def test_maps_start_at_a_bundle_too_and_their_classes_keep_their_weights(tmp_path, capsys):
    from support.tiny_maps import tiny_map_document, tiny_map_index

    from esccs_edge.training.segmentation_options import SegmentationOptions

    data = tiny_map_index(tmp_path / "data", count=4)
    first = train(options_from(tiny_map_document(data, tmp_path / "first", epochs=1)))
    document = tiny_map_document(data, tmp_path / "second", epochs=1, classes=["water", "land"])
    options = options_from({**document, "init": str(first.folder)})
    assert isinstance(options, SegmentationOptions)
    slow = replace(options.student.schedule, learning_rate=1e-9)
    second = train(options.evolve(student=replace(options.student, schedule=slow)))
    assert f"student starts at {first.folder}" in capsys.readouterr().err
    before, after = (load(one.read("student.safetensors")) for one in (first, second))
    (head,) = [name for name in before if name.startswith("head") and name.endswith("weight")]
    torch.testing.assert_close(after[head], before[head].flip(0), rtol=0, atol=1e-5)
