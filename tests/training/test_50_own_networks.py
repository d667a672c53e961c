"""Encoders, a teacher and data of the user's own, from a training to its graph and engine."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load
from support.cli_parts import refused, run
from support.own_networks import LevelTeacher, pretrained
from support.tiny_data import BRANCH, CLASSES, tiny_document, tiny_index, tiny_pair

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import STUDENT_WEIGHTS
from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.errors import ArtifactError, InputError, ManifestError
from esccs_edge.training.datasets.dataset import MemoryDataset
from esccs_edge.training.learning import factories
from esccs_edge.training.options_file import options_from
from esccs_edge.training.run import train

OWN = "support.own_networks:"
CONVOLUTIONS, TOKENS = OWN + "convolutions", OWN + "pretrained"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_index(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(autouse=True)
def trusts_nobody(monkeypatch):
    monkeypatch.setattr(factories, "_trusted", set(factories.ENCODERS))


def document(data, out, optical=CONVOLUTIONS, sar=CONVOLUTIONS, **changes):
    """Options of a tiny run with encoders of the user's on both branches."""
    found = tiny_document(data, out, epochs=1, **changes)
    parts = {"optical": {**BRANCH, "encoder": optical}, "sar": {**BRANCH, "encoder": sar}}
    for name in ("auxiliary", "student"):
        found[name] |= parts
    found["teacher"]["network"] = parts["optical"]
    return found


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("mixed") / "run"
    return train(options_from(document(data, out, optical=TOKENS, warm_start=True)))


@pytest.fixture
def mixed(trained, tmp_path):
    """Pretrained tokens for optical, foreign convolutions for SAR, from start to student."""
    shutil.copytree(trained.folder, tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")


def test_a_pretrained_encoder_stays_as_it_came_and_its_head_learns(mixed):
    weights, fresh = load(mixed.read(STUDENT_WEIGHTS)), pretrained(13, None).state_dict()
    learned = {
        name for name, value in fresh.items() if not torch.equal(value, weights[f"optical.{name}"])
    }
    assert learned == {"head.0.weight", "head.0.bias"}
    parts = mixed.manifest.architecture
    assert (parts["optical"]["encoder"], parts["sar"]["encoder"]) == (TOKENS, CONVOLUTIONS)


def test_export_imports_only_the_encoders_that_are_named_to_it(mixed):
    onnx = pytest.importorskip("onnx")
    from esccs_edge.export.to_onnx import export_student

    with pytest.raises(ManifestError, match="names the encoder 'support.own_networks:pretrained'"):
        export_student(mixed)
    with pytest.raises(ManifestError, match="names the encoder 'support.own_networks:convol"):
        export_student(mixed, encoders=[TOKENS])
    with pytest.raises(InputError, match="encoder is 'os:getcwd', and the bundle names 'support"):
        export_student(mixed, encoders=["os:getcwd"])
    exported = export_student(mixed, encoders=[TOKENS, CONVOLUTIONS])
    graph = onnx.load_from_string(exported.read("student.onnx")).graph
    # `export_student` has held it against the network.
    assert {"Softmax", "Conv"} <= {node.op_type for node in graph.node}


def test_an_encoder_that_no_graph_can_follow_is_refused(mixed):
    pytest.importorskip("onnx")
    from esccs_edge.export.to_onnx import export_student

    named = OWN + "looks_at_values"
    parts = dict(mixed.manifest.architecture)
    parts["sar"] = {**parts["sar"], "encoder": named}  # of the same weights
    files = {name: mixed.read(name) for name in mixed.manifest.files}
    manifest = mixed.manifest.evolve(architecture=parts)
    bundle = Bundle.create(mixed.folder.parent / "other", manifest, files)
    with pytest.raises(ArtifactError, match="cannot be written as one graph: .+") as refusal:
        export_student(bundle, encoders=[TOKENS, named])
    assert "look at no value of a tensor" in str(refusal.value.hint)
    assert not (bundle.folder / "student.onnx").exists()


def test_foreign_encoders_go_through_int8_and_an_engine_build(mixed, tmp_path):
    onnx = pytest.importorskip("onnx")
    from support.small_student import small_index

    from esccs_edge.calibration.quantize import quantize_student
    from esccs_edge.export.parity import check_parity
    from esccs_edge.export.to_onnx import export_student

    exported = export_student(mixed, encoders=[TOKENS, CONVOLUTIONS])
    int8 = quantize_student(exported, small_index(tmp_path / "pairs", exported.manifest))
    graph = onnx.load_from_string(int8.read("student.int8.onnx")).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    reads = {
        kind: {made_by.get(node.input[0]) for node in graph.node if node.op_type == kind}
        for kind in ("Conv", "MatMul")
    }
    assert "DequantizeLinear" in reads["Conv"]
    assert "DequantizeLinear" not in reads["MatMul"]  # attention stays float
    assert not [row.problem for row in check_parity(int8).rows if row.problem]
    if find_spec("tensorrt_rtx_bindings") is not None:
        from esccs_edge.export.to_engine import build_engine

        for precision in ("fp32", "int8"):
            report = build_engine(int8, precision=precision, out=tmp_path, target="8.6")
            assert report.bytes > 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.at_all:encoder", "expected package.module:factory"),
        (OWN + "missing", "expected package.module:factory"),
        (OWN + "__doc__", "which is no factory"),
        (OWN + "no_encoder", "makes Identity with features None, expected a torch module"),
        (OWN + "forgets_to_pool", "makes features \\(2, 16, 16\\) of two patches, expected"),
        (OWN + "needs_large_images", "cannot encode patches of \\(2, 16, 16\\): RuntimeError"),
    ],
)  # fmt: skip
def test_what_is_no_encoder_is_refused_before_anything_is_written(data, tmp_path, name, words):
    with pytest.raises(InputError, match=words):
        train(options_from(document(data, tmp_path / "run", sar=name)))
    assert not (tmp_path / "run").exists()


def in_memory(count=48):
    """The tiny pairs as arrays, without a single label where they train."""
    rng = np.random.default_rng(0)
    pairs = [tiny_pair(i % len(CLASSES), rng) for i in range(count)]
    splits = tuple(("train", "train", "val", "test")[i // len(CLASSES) % 4] for i in range(count))
    labels = [-1 if split == "train" else i % len(CLASSES) for i, split in enumerate(splits)]
    return MemoryDataset(
        "arrays", CLASSES, np.array(labels), tuple(f"place-{i}" for i in range(count)), splits,
        SENTINEL2_L1C_BANDS, SENTINEL1_POLARIZATIONS,
        np.stack([optical for optical, _ in pairs]), np.stack([sar for _, sar in pairs]),
    )  # fmt: skip


def test_a_teacher_and_arrays_of_the_users_own_train_a_student_without_a_label(tmp_path):
    teacher = LevelTeacher(CLASSES)
    options = options_from(tiny_document("", tmp_path / "run", epochs=2, warm_start=True))
    bundle = train(options, dataset=in_memory(), teacher=teacher)
    assert not list((tmp_path / "run" / "checkpoints").glob("teacher*"))
    asked = torch.cat(teacher.asked)
    assert 0 <= float(asked.min()) and 0.05 < float(asked.mean()) < 1.1  # reflectance
    provenance = bundle.manifest.provenance
    assert provenance["options"]["teacher"]["factory"] == "object support.own_networks.LevelTeacher"
    found = provenance["metrics"]["test"]["teacher on clear images"]["overall"]
    assert found["balanced_accuracy"] == 1.0  # it knows the spectra; nothing was trained to
    assert provenance["data"]["name"] == "arrays"


def test_a_run_does_not_go_on_with_another_teacher(tmp_path):
    options = options_from(tiny_document("", tmp_path / "run", epochs=1))
    data = in_memory()

    def stops(pixels, spec):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options, dataset=data, teacher=stops)
    with pytest.raises(InputError, match="started with other options: teacher"):
        train(options, dataset=data, teacher=LevelTeacher(CLASSES), resume=True)
    with pytest.raises(InputError, match="started with other options: teacher"):
        train(options, dataset=data, resume=True)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda pixels, _: torch.zeros(len(pixels), 7), "expected logits of shape \\(\\d+, 3\\)"),
        (lambda pixels, _: np.zeros((len(pixels), 3)), "the teacher answers ndarray, expected"),
        (lambda pixels, _: torch.full((len(pixels), 3), torch.nan), "NaN or infinity"),
    ],
)  # fmt: skip
def test_a_teacher_that_answers_something_else_is_refused(tmp_path, answer, words):
    options = options_from(tiny_document("", tmp_path / "run", epochs=1))
    with pytest.raises(InputError, match=words):
        train(options, dataset=in_memory(), teacher=answer)


def test_commands_name_a_teacher_by_its_factory(data, tmp_path):
    lines = ["threads = 1"]
    for part, key in (("auxiliary", "optical"), ("auxiliary", "sar"), ("student", "optical"),
                      ("student", "sar")):  # fmt: skip
        lines += [f"[{part}.{key}]", "width = 4", "blocks = [1, 1]"]
    for part in ("auxiliary", "student"):
        lines += [f"[{part}.schedule]", "epochs = 1", "batch_size = 8"]
    (tmp_path / "run.toml").write_text("\n".join(lines))
    words = ("train", "--config", tmp_path / "run.toml", "--data", data, "--out", tmp_path / "run")
    said = refused(run(*words, "--teacher", OWN + "nobody"))
    assert "'teacher.factory' is 'support.own_networks:nobody'" in " ".join(said.split())
    done = run(*words, "--teacher", OWN + "level_teacher")
    assert done.exit_code == 0, done.output
    assert not list((tmp_path / "run" / "checkpoints").glob("teacher*"))


def test_tasks_refuse_what_they_do_not_take(tmp_path):
    series = options_from({"task": "series-classification", "out": str(tmp_path / "run")})
    with pytest.raises(InputError, match="is a MemoryDataset, expected a SeriesDataset"):
        train(series, dataset=in_memory())
    maps = options_from({"task": "semantic-segmentation", "data": "x", "out": str(tmp_path / "r")})
    with pytest.raises(InputError, match="'semantic-segmentation' trains its own teacher"):
        train(maps, teacher=LevelTeacher(CLASSES))
    assert not list(tmp_path.iterdir())
