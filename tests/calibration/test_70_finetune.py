"""Fine-tuning: the graph that learns is the one that is written; it repairs what ranges cannot.

All students and pairs here are simulated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from click.testing import CliRunner
from support.small_student import calibrated_bundle, exported_bundle, small_index

from esccs_edge.calibration.batches import load_batches
from esccs_edge.calibration.budget import FINETUNE_BUDGET, Budget, Cost
from esccs_edge.calibration.finetune import Finetuned, finetune
from esccs_edge.calibration.quantize import quantize_student
from esccs_edge.calibration.recipe import insert_qdq, tensorrt_recipe
from esccs_edge.calibration.report import report_as_table
from esccs_edge.calibration.sampler import draw_pairs
from esccs_edge.calibration.torch_graph import FakeQuantGraph
from esccs_edge.cli import main
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError, InputError, MissingDependencyError
from esccs_edge.rasters.pair_index import read_index

HOSTILE_BLOCKS = ("optical.stages.0", "optical.stages.1")
EPOCHS = 30


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Bundle:
    return calibrated_bundle(tmp_path_factory.mktemp("calibrated"))


@pytest.fixture(scope="module")
def index(tmp_path_factory, calibrated) -> Path:
    return small_index(tmp_path_factory.mktemp("pairs"), calibrated.manifest, count=180)


@pytest.fixture(scope="module")
def repaired(tmp_path_factory, index) -> Bundle:
    bundle = hostile_bundle(tmp_path_factory.mktemp("hostile"))
    return quantize_student(bundle, index, budget=FINETUNE_BUDGET, finetune_epochs=EPOCHS)


@pytest.fixture(scope="module")
def float_model(calibrated) -> onnx.ModelProto:
    return onnx.load_from_string(calibrated.read("student.onnx"))


@pytest.fixture(scope="module")
def int8_model(calibrated) -> onnx.ModelProto:
    return onnx.load_from_string(calibrated.read("student.int8.onnx"))


def hostile_bundle(folder: Path, factor: float = 100.0) -> Bundle:
    """A channel that no node reads is ``factor`` times larger: one scale per tensor serves it."""
    bundle = exported_bundle(folder)
    model = onnx.load_from_string(bundle.read("student.onnx"))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def scale(name: str, channel: tuple, by: float) -> None:
        values = onnx.numpy_helper.to_array(tensors[name]).copy()
        values[channel] *= by
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))

    for block in HOSTILE_BLOCKS:
        scale(f"{block}.conv1.weight", (0,), factor)
        scale(f"{block}.conv1.weight_bias", (0,), factor)
        scale(f"{block}.conv2.weight", (slice(None), 0), 0.0)
    return bundle.add({"student.onnx": model.SerializeToString()})


def listing(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def report_of(bundle: Bundle) -> dict:
    return json.loads(bundle.read("calibration.json"))


def inputs_of(bundle: Bundle) -> dict[str, np.ndarray]:
    with np.load(bundle.folder / "reference.npz") as sheet:
        return {name: sheet[name] for name in ("optical", "sar", "availability")}


def learn(calibrated: Bundle, index: Path, *, seed: int = 0, epochs: int = 2) -> Finetuned:
    """Fine-tune the calibrated small student for a moment, whether it needs it or not."""
    pairs = read_index(index, calibrated.manifest.classes)
    model = onnx.load_from_string(calibrated.read("student.onnx"))
    return finetune(
        model,
        onnx.load_from_string(calibrated.read("student.int8.onnx")),
        tensorrt_recipe(model),
        draw_pairs(pairs, calibrated.manifest).calibration,
        lambda chosen: load_batches(pairs, calibrated.manifest, chosen),
        outputs=calibrated.manifest.outputs,
        epochs=epochs,
        seed=seed,
        progress=lambda done, total: None,
    )


# ---- the graph that learns ----------------------------------------------------------------------


def test_the_graph_that_learns_answers_like_the_int8_file(calibrated, float_model, int8_model):
    options = ort.SessionOptions()
    # Fused integer kernels sum in another order, which moves a value across a half now and then.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(int8_model.SerializeToString(), options)
    inputs = inputs_of(calibrated)
    wanted = dict(zip(("logits", "gate"), session.run(["logits", "gate"], inputs), strict=True))
    exact = ort.InferenceSession(float_model.SerializeToString()).run(["logits"], inputs)[0]
    graph = FakeQuantGraph(float_model, int8_model)
    found = graph({name: torch.from_numpy(array) for name, array in inputs.items()})
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].detach(), values, atol=0.02 * np.abs(values).max())
    rounding = np.mean((exact - wanted["logits"]) ** 2)
    assert np.mean((found["logits"].detach().numpy() - wanted["logits"]) ** 2) < rounding / 100


def test_it_rounds_every_weight_and_activation_of_the_recipe_and_all_of_them_learn(
    calibrated, float_model, int8_model
):
    recipe = tensorrt_recipe(float_model)
    graph = FakeQuantGraph(float_model, int8_model)
    assert set(graph.log_scales) == set(recipe.activations)
    assert set(graph.weights) == {f"{name}.weight" for name in recipe.convolutions}
    inputs = {name: torch.from_numpy(array) for name, array in inputs_of(calibrated).items()}
    graph(inputs)["logits"].square().sum().backward()
    for part in (graph.weights, graph.biases, graph.log_scales):
        for name, tensor in part.items():
            assert tensor.grad is not None and tensor.grad.abs().sum() > 0, name


def test_before_learning_it_is_written_as_it_was_read(float_model, int8_model):
    graph = FakeQuantGraph(float_model, int8_model)
    recipe = tensorrt_recipe(float_model)
    again = insert_qdq(graph.learned_into(float_model), recipe, graph.amax())
    was, now = (
        {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        for model in (int8_model, again)
    )
    assert was.keys() == now.keys()
    for name, values in was.items():
        if values.dtype == np.int8:  # w / step * step may fall on the other side of a half
            assert np.abs(now[name].astype(int) - values.astype(int)).max(initial=0) <= 1
        else:
            np.testing.assert_allclose(now[name], values, rtol=1e-5, err_msg=name)


def test_float_stems_are_not_touched(float_model):
    recipe = tensorrt_recipe(float_model, float_stems=True)
    quantized = insert_qdq(float_model, recipe, dict.fromkeys(recipe.activations, 1.0))
    graph = FakeQuantGraph(float_model, quantized)
    assert not {"optical.stem.0.weight", "sar.stem.0.weight"} & set(graph.weights)
    assert not {"optical", "sar"} & set(graph.log_scales)


def test_a_graph_with_an_unknown_operation_is_refused(float_model, int8_model):
    other = onnx.ModelProto()
    other.CopyFrom(int8_model)
    next(n for n in other.graph.node if n.op_type == "Relu").op_type = "Erf"
    with pytest.raises(ArtifactError, match="Erf"):
        FakeQuantGraph(float_model, other)


# ---- learning -----------------------------------------------------------------------------------


def test_equal_seeds_give_equal_files_and_another_seed_another(calibrated, index):
    first, again, other = (learn(calibrated, index, seed=seed) for seed in (5, 5, 6))
    assert first.model.SerializeToString(deterministic=True) == again.model.SerializeToString(
        deterministic=True
    )
    assert first.facts == again.facts
    assert other.model.SerializeToString(deterministic=True) != first.model.SerializeToString(
        deterministic=True
    )


def test_a_student_that_needs_no_repair_is_not_harmed(calibrated, index, tmp_path):
    from esccs_edge.export.parity import check_parity

    learned = learn(calibrated, index, epochs=4)
    bundle = calibrated.copy(tmp_path / "b")
    bundle = bundle.add({"student.int8.onnx": learned.model.SerializeToString()})
    row = next(r for r in check_parity(bundle).rows if r.name == "student.int8.onnx")
    assert not row.problem and row.label_agreement >= 0.9


def test_a_graph_that_is_written_otherwise_than_it_learned_is_refused(
    calibrated, index, monkeypatch
):
    def with_half_the_ranges(model, recipe, amax):
        return insert_qdq(model, recipe, {name: value / 2 for name, value in amax.items()})

    monkeypatch.setattr("esccs_edge.calibration.finetune.insert_qdq", with_half_the_ranges)
    with pytest.raises(ArtifactError, match="differs from the one that learned"):
        learn(calibrated, index, epochs=1)


# ---- what calibrate does with it ----------------------------------------------------------------


def test_fine_tuning_repairs_what_no_choice_of_ranges_does(repaired):
    attempts = report_of(repaired)["attempts"]
    calibration = [row for row in attempts if row["method"] != "finetune"]
    tuned = attempts[-1]  # one pair decides whether it is the first fine-tuning or that with stems
    assert [row["float_stems"] for row in calibration] == [False, True]
    for row in calibration:
        assert not row["in_budget"]
        assert row["balanced_accuracy_loss_points"] > 5 and row["label_agreement"] < 0.9
    assert tuned["method"] == "finetune" and tuned["in_budget"]
    allowed = FINETUNE_BUDGET.max_loss + tuned["loss_standard_error_points"]
    assert tuned["balanced_accuracy_loss_points"] <= allowed
    assert tuned["label_agreement"] > 0.95


def test_the_tuned_graph_has_the_nodes_of_the_recipe_and_weights_of_its_own(repaired):
    model = onnx.load_from_string(repaired.read("student.onnx"))
    tuned = onnx.load_from_string(repaired.read("student.int8.onnx"))
    kept = report_of(repaired)["attempts"][-1]
    recipe = tensorrt_recipe(model, float_stems=kept["float_stems"])
    plain = insert_qdq(model, recipe, dict.fromkeys(recipe.activations, 1.0))
    assert [(n.name, n.op_type, *n.input) for n in tuned.graph.node] == [
        (n.name, n.op_type, *n.input) for n in plain.graph.node
    ]
    name = "optical.stages.0.conv2.weight_quantized"
    before, after = (
        next(onnx.numpy_helper.to_array(t) for t in m.graph.initializer if t.name == name)
        for m in (plain, tuned)
    )
    assert before.dtype == after.dtype == np.int8 and (before != after).any()


def test_the_float_graph_stays_and_the_manifest_says_how_the_int8_graph_was_made(
    repaired, tmp_path
):
    untouched = hostile_bundle(tmp_path / "b")
    assert repaired.read("student.onnx") == untouched.read("student.onnx")
    manifest = Bundle.open(repaired.folder).manifest
    assert manifest.model == "student.int8.onnx"
    assert manifest.quantization["method"] == "finetune"
    learned = manifest.quantization["finetune"]
    assert (learned["epochs"], learned["seed"]) == (EPOCHS, 0)
    assert learned["pairs"] == manifest.quantization["calibration_pairs"]
    assert learned["last_error"] < learned["first_error"] / 10
    assert 0 <= learned["parity_error"] <= 0.01


def test_the_report_states_both_results_and_the_size(repaired):
    report = report_of(repaired)
    assert {row["method"] for row in report["methods"]} == {
        "max", "entropy", "percentile", "finetune"
    }  # fmt: skip
    sizes = report["bytes"]
    share = sizes["student.int8.onnx"] / sizes["student.onnx"]
    assert report["size_share"] == pytest.approx(share, abs=1e-4)
    assert report["size_share_wanted"] == pytest.approx(1 / 3, abs=1e-4)
    table = report_as_table(report)
    assert "over the budget" in table and "fine-tuned from" in table
    assert f"{100 * share:.1f} %" in table and "wanted at most 33.3 %" in table


def test_what_calibration_alone_can_do_is_not_fine_tuned(calibrated, index, tmp_path):
    budget = Budget(1.0, 0.9)
    alone, allowed = (
        quantize_student(
            exported_bundle(tmp_path / str(epochs)), index, budget=budget, finetune_epochs=epochs
        )
        for epochs in (0, 1)
    )
    assert allowed.read("student.int8.onnx") == alone.read("student.int8.onnx")
    report = report_of(allowed)
    assert report["finetune"] is None and "finetune" not in allowed.manifest.quantization
    assert any("nothing was fine-tuned" in note for note in report["notes"])
    assert report_of(alone)["notes"] == []


@pytest.mark.parametrize(("epochs", "hint"), [(0, "--finetune"), (1, "more epochs")])
def test_what_stays_over_the_budget_is_refused_and_nothing_written(index, tmp_path, epochs, hint):
    bundle = hostile_bundle(tmp_path / "b")
    before = listing(bundle.folder)
    with pytest.raises(ArtifactError, match="points of balanced accuracy") as refusal:
        quantize_student(bundle, index, budget=FINETUNE_BUDGET, finetune_epochs=epochs)
    assert hint in refusal.value.hint
    assert ("'finetune'" in str(refusal.value)) == bool(epochs)
    assert listing(bundle.folder) == before


def test_a_missing_torch_is_reported_before_any_work(calibrated, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "esccs_edge.calibration.finetune")
    with pytest.raises(MissingDependencyError, match="torch") as refusal:
        quantize_student(calibrated, "no-such-index.csv", finetune_epochs=1)
    assert 'pip install "esccs-edge[train]"' in refusal.value.hint


def test_calibration_alone_needs_no_torch():
    import subprocess

    program = (
        "import sys; sys.modules['torch'] = None; import esccs_edge.calibration.quantize;"
        "import esccs_edge.calibration.attempts"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_negative_epochs_are_refused(calibrated, index):
    with pytest.raises(InputError, match="epochs"):
        quantize_student(calibrated, index, finetune_epochs=-1)


# ---- the budget ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flips", "allowed"),
    [(0, True), (1, True), (4, True), (7, False)],  # of 200: 1 % is two, and the root of 4 is two
)
def test_the_label_agreement_is_held_to_its_limit_within_one_standard_error(flips, allowed):
    labels = np.arange(200) % 2
    answers = np.where(np.arange(200) < flips, 1 - labels, labels)
    cost = Cost.of(labels, answers, labels)
    assert cost.agreement == pytest.approx(1 - flips / 200)
    assert Budget(100.0, 0.99).allows(cost) == allowed
    assert Budget(100.0, 0.0).allows(cost)


def test_agreement_alone_can_cost_too_much():
    """As many answers become right as become wrong: no accuracy is lost, but many labels change."""
    labels = np.zeros(100, np.int64)
    cost = Cost.of(np.arange(100) < 20, np.arange(100) >= 80, labels)
    assert cost.loss == 0 and cost.agreement == 0.6
    assert Budget(0.3, 0.0).allows(cost) and not FINETUNE_BUDGET.allows(cost)


@pytest.mark.parametrize(
    ("options", "budget"),
    [
        ((), {"max_loss": 1.0, "min_agreement": 0.0}),
        (("--max-loss", 20), {"max_loss": 20.0, "min_agreement": 0.0}),
        (("--finetune", "--max-loss", 20, "--min-agreement", 90, "--epochs", 1),
         {"max_loss": 20.0, "min_agreement": 0.9}),
    ],
)  # fmt: skip
def test_the_command_sets_the_budget(index, tmp_path, options, budget):
    bundle = exported_bundle(tmp_path / "b")
    arguments = ("calibrate", bundle.folder, index, "--method", "percentile", *options, "--json")
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["budget"] == budget
