"""Pixel series with gaps all the way: train, export, calibrate, verify, run, compile, classify."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support.cli_parts import refused, run, run_json
from support.tiny_series import GRASS, MAIZE, MONTHS, season, write_worldcereal

from esccs_edge import Bundle, Flag, InputError, SeriesClassifier, open_model

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("pyarrow", reason="WorldCereal is Parquet")

CONFIG = """
task = "series-classification"
threads = 1
[network]
width = 20
features = 24
[teacher.schedule]
epochs = 8
batch_size = 16
learning_rate = 5e-3
[student.schedule]
epochs = 10
batch_size = 16
learning_rate = 5e-3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("series-journey")


@pytest.fixture(scope="module")
def calibrated(folder) -> Bundle:
    data = write_worldcereal(folder / "tiny.geoparquet", count=100)
    config = folder / "run.toml"
    config.write_text(CONFIG)
    words = ("--config", config, "--data", f"worldcereal:{data}", "--out", folder / "run")
    run_json("train", *words)
    bundle = folder / "run" / "bundle"
    run_json("export", bundle)
    run_json("calibrate", bundle, folder / "run" / "heldout" / "index.csv")
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def classifier(calibrated):
    with SeriesClassifier(calibrated, backend="cpu", threads=1) as opened:
        yield opened


def series(code: int, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    optical, sar = season(code, np.random.default_rng(seed))
    return np.rint(optical).astype(np.uint16), sar.astype(np.float32)


def test_the_run_states_scores_by_rate_and_what_is_simulated(calibrated):
    provenance = calibrated.manifest.provenance
    scores = provenance["metrics"]["test"]
    assert {"student", "teacher", "teacher, interpolated"} <= scores.keys()
    shown = scores["student"]["optical+sar"]["uniform"]
    assert list(shown) == ["0", "0.1", "0.3", "0.5", "0.7"] and shown["0"]["macro_f1"] > 0.9
    assert scores["student"]["sar"].keys() == {"uniform", "gap", "seasonal"}
    assert "masked at random" in provenance["simulated"]["dates"]
    assert "no group is in two splits" in provenance["data"]["split"]


def test_every_form_answers_like_the_trained_network(calibrated):
    assert calibrated.manifest.quantization["balanced_accuracy"]["int8"] > 0.9
    found = json.dumps(run_json("verify", calibrated.folder))
    assert "student.onnx" in found and "student.int8.onnx" in found


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_graphs_compile_to_engines_without_a_gpu(calibrated, folder, precision):
    pytest.importorskip("tensorrt_rtx_bindings")
    words = ("--flavor", "rtx", "--precision", precision, "--out", folder / f"{precision}.plan")
    assert run_json("build", calibrated.folder, *words)["bytes"] > 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_crops_are_told_apart_with_and_without_gaps(calibrated, precision):
    with SeriesClassifier(calibrated, backend="cpu", precision=precision, threads=1) as model:
        for code, label in ((MAIZE, "temporary crops"), (GRASS, "other land")):
            optical, sar = series(code)
            whole = model.classify(optical, sar)
            assert whole.label == label and all(whole.seen["optical"]) and not whole.flags
            gappy = optical.copy()
            gappy[:, [1, 4, 7, 9]] = 0
            found = model.classify(gappy, sar)
            assert found.label == label and Flag.PARTIAL_NODATA in found.flags
            assert found.missing_share("optical") == pytest.approx(4 / 12)
            alone = model.classify(None, sar)
            assert alone.gate.optical == 0 and alone.gate.sar == pytest.approx(1)
            assert Flag.MODALITY_MISSING in alone.flags and not any(alone.seen["optical"])
        assert model.health().ok


ASK_BOTH = """
import sys, numpy as np
from esccs_edge import SeriesClassifier
optical, sar = (np.load(path) for path in sys.argv[2:])
for precision in ("fp32", "int8"):
    with SeriesClassifier(sys.argv[1], "cpu", precision=precision, threads=1) as model:
        print(model.classify(optical, sar).label)
"""


def test_both_precisions_answer_on_a_cpu_without_wide_vectors(calibrated, tmp_path):
    """Its norms are over 20 elements, at which OpenVINO 2026.4 would end the process there."""
    paths = [tmp_path / "optical.npy", tmp_path / "sar.npy"]
    for path, pixels in zip(paths, series(MAIZE), strict=True):
        np.save(path, pixels)
    done = subprocess.run(
        [sys.executable, "-c", ASK_BOTH, calibrated.folder, *paths], capture_output=True,
        text=True, timeout=250, env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()) == (0, ["temporary crops"] * 2), done.stderr


def test_a_series_with_dates_is_the_series_in_its_slots(classifier):
    optical, sar = series(MAIZE)
    chosen = [0, 3, 5, 8, 10]
    slots = np.zeros_like(optical)
    slots[:, chosen] = optical[:, chosen]
    dates = {"optical": MONTHS[chosen] + np.timedelta64(7, "D"), "sar": MONTHS}
    wanted = classifier.classify(slots, sar)
    assert classifier.classify(optical[:, chosen], sar, dates) == wanted
    batch = classifier.classify_batch([optical[:, chosen]] * 3, [sar] * 3, [dates] * 3)
    assert [answer.label for answer in batch] == [wanted.label] * 3
    future = classifier.submit(optical[:, chosen], sar, dates)
    assert future.result().label == wanted.label
    again = asyncio.run(classifier.aclassify(optical[:, chosen], sar, dates))
    assert again.label == wanted.label
    assert wanted.to_dict()["seen"]["optical"] == [i in chosen for i in range(12)]


def test_a_bad_series_gets_its_error_and_harms_no_other(classifier):
    optical, sar = series(GRASS)
    backwards = MONTHS[::-1]
    items = [(optical, sar), (optical, sar, backwards), (optical[:, :11], sar), (optical, None)]
    found = list(classifier.stream(items))
    assert found[0].label == found[3].label == "other land"
    assert isinstance(found[1], InputError) and "not sorted" in str(found[1])
    assert isinstance(found[2], InputError) and "11 dates, expected 12" in str(found[2])
    with pytest.raises(InputError, match="as many"):
        classifier.classify_batch([optical], [sar, sar])
    with pytest.raises(InputError, match="both lists are None"):
        classifier.classify_batch(None, None)
    with pytest.raises(InputError, match="2 opticals, 1 sars, expected as many"):
        classifier.classify_batch([optical] * 2, [sar])
    with pytest.raises(InputError, match="sars is a generator, expected a sequence"):
        classifier.classify_batch([optical], (one for one in [sar]))
    with pytest.raises(InputError, match=r"expected \(channels, dates\)"):
        classifier.classify(optical.T, None, MONTHS)
    nothing = classifier.classify(np.zeros_like(optical), None)
    assert nothing.label == "NODATA" and Flag.ALL_NODATA in nothing.flags
    with pytest.raises(InputError):  # SAR and optical swapped
        classifier.classify(sar, optical)


@pytest.mark.parametrize("item", [5, (), "series", None], ids=repr)
def test_what_is_no_series_gets_its_error_in_a_stream_and_harms_no_other(classifier, item):
    optical, sar = series(GRASS)
    bad, good = classifier.stream([item, (optical, sar)])
    assert isinstance(bad, InputError) and "expected (optical, sar, dates)" in str(bad)
    assert good.label == "other land"


def test_a_stream_of_nothing_that_can_be_read_is_refused_at_once(classifier):
    with pytest.raises(InputError, match="series is a int, expected an iterable"):
        classifier.stream(5)


def test_other_front_doors_say_which_one_to_use(calibrated, folder):
    from esccs_edge import Classifier

    with pytest.raises(InputError, match="series-classification") as caught:
        Classifier(calibrated, backend="cpu")
    assert "SeriesClassifier" in caught.value.hint
    with open_model(calibrated, "cpu") as model:
        optical, sar = series(MAIZE)
        assert model.run({"optical": optical, "sar": sar}).label == "temporary crops"


def test_an_unknown_data_set_is_refused_before_anything_is_written(folder):
    out = folder / "none"
    words = ("--task", "series-classification", "--data", "nowhere:x", "--out", out)
    assert "worldcereal" in refused(run("train", *words))
    assert not out.exists()
