"""The front door's life: construction, health, closing, forks, the end of the interpreter."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from support import tiny
from support.toy_task import toy_bundle

from esccs_edge import Classifier, Prediction
from esccs_edge.backends.cpu import compiled as cpu_compiled
from esccs_edge.errors import (
    ArtifactError,
    BackendError,
    ClosedError,
    ForkedProcessError,
    InputError,
)


@pytest.fixture
def classifier(bundle):
    with Classifier(bundle, backend="cpu", max_batch=8) as made:
        yield made


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "cuda"},
        {"max_batch": 0},
        {"threads": 0},
        {"lanes": 0},
        {"queue_size": 0},
        {"max_delay_ms": -1.0},
        {"sar_unit": "power"},
    ],
)
def test_arguments_out_of_range_are_refused(bundle, options):
    with pytest.raises(InputError, match="expected"):
        Classifier(bundle, **{"backend": "cpu", **options})


def test_a_missing_bundle_is_an_artifact_error(tmp_path):
    with pytest.raises(ArtifactError, match="no bundle folder"):
        Classifier(tmp_path / "nowhere")


def test_a_bundle_of_another_task_is_refused_with_what_opens_it(tmp_path):
    toy = toy_bundle(tmp_path / "toy")
    with pytest.raises(InputError, match="toy-mapping.*open_model"):
        Classifier(toy, "cpu")


def test_a_bundle_opens_from_its_folder(bundle):
    with Classifier(str(bundle.folder), "cpu") as made:
        assert made.bundle == bundle and made.manifest == bundle.manifest


def test_a_model_that_answers_nan_is_refused_at_construction(tmp_path, monkeypatch):
    weight, bias = tiny.weights(tiny.tiny_manifest())
    monkeypatch.setattr(tiny, "weights", lambda manifest: (weight, bias * np.nan))
    with pytest.raises(BackendError, match="NaN"):
        Classifier(tiny.tiny_bundle(tmp_path / "b"), "cpu")


def test_health_names_backend_and_bundle(classifier):
    health = classifier.health()
    assert health.ok and health.problem is None and health.latency_ms > 0
    assert health.backend["backend"] == "cpu"
    assert health.bundle["name"] == "tiny"
    assert health.bundle["digest"] == classifier.bundle.digest


def test_health_turns_red_when_answers_change(classifier, monkeypatch):
    lane_type = type(classifier._model.backend.open_lane())
    finish = lane_type.finish

    def damaged(self):
        output = finish(self)
        output.outputs["logits"][:] = output.outputs["logits"][:, ::-1]
        return output

    monkeypatch.setattr(lane_type, "finish", damaged)
    health = classifier.health()
    assert not health.ok and "differently" in health.problem


def test_health_turns_red_when_the_backend_fails(classifier, monkeypatch):
    lane_type = type(classifier._model.backend.open_lane())
    finish = lane_type.finish

    def broken(self):
        finish(self)
        raise BackendError("device lost")

    monkeypatch.setattr(lane_type, "finish", broken)
    health = classifier.health()
    assert not health.ok and "device lost" in health.problem


def test_health_turns_red_when_the_queue_is_full(bundle, hold, gate):
    with Classifier(bundle, "cpu", lanes=1, queue_size=1) as made:
        hold(made, tiny.raw_pair(made.manifest))
        made.submit(*tiny.raw_pair(made.manifest))
        health = made.health()
        gate.opened.set()
    assert not health.ok and "1 requests are waiting" in health.problem


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_after_warmup_nothing_is_compiled_any_more(bundle, monkeypatch, cores):
    with Classifier(bundle, "cpu", max_batch=20) as made:
        backend: Any = made._model.backend
        backend._models.cores = cores
        made.warmup()

        def compile_model(*args, **options):
            raise AssertionError("a model was compiled after the warm-up")

        monkeypatch.setattr(cpu_compiled, "_load_model", compile_model)
        optical, sar = tiny.raw_pair(made.manifest)
        for pairs in range(1, 21):
            answers = made.classify_batch([optical] * pairs, [sar] * pairs)
            assert {type(answer) for answer in answers} == {Prediction}


def test_warmup_leaves_the_counts_alone(classifier):
    before = classifier.stats()
    classifier.warmup()
    assert classifier.stats() == before


def test_after_close_every_use_is_refused(bundle):
    made = Classifier(bundle, "cpu")
    pair = tiny.raw_pair(made.manifest)
    made.close()
    made.close()
    uses = (
        lambda: made.classify(*pair),
        lambda: made.classify_batch([pair[0]], None),
        lambda: made.submit(*pair),
        lambda: made.stream([pair]),
        lambda: asyncio.run(made.aclassify(*pair)),
        made.warmup,
        made.health,
    )
    for use in uses:
        with pytest.raises(ClosedError):
            use()


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_classifier_cannot_be_copied(classifier, copier):
    with pytest.raises(TypeError, match="one in each process"):
        copier(classifier)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_can_make_its_own(classifier):
    pair = tiny.raw_pair(classifier.manifest)
    label = classifier.classify(*pair).label
    child = os.fork()
    if child == 0:
        try:
            classifier.classify(*pair)
        except ForkedProcessError:
            with Classifier(classifier.bundle, "cpu") as own:
                os._exit(0 if own.classify(*pair).label == label else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert classifier.classify(*pair).label == label


PROGRAM = """
    import sys
    sys.path.insert(0, {tests!r})
    from support import tiny
    from esccs_edge import Classifier
    made = Classifier({folder!r}, "cpu", max_delay_ms=1.0)
    pair = tiny.raw_pair(made.manifest)
    futures = [made.submit(*pair) for _ in range(100)]
"""


def run_program(bundle, lines: str) -> subprocess.Popen:
    text = PROGRAM.format(tests=os.path.dirname(__file__), folder=str(bundle.folder))
    program = textwrap.dedent(text) + textwrap.dedent(lines)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_exit_without_close_answers_what_was_accepted_and_does_not_hang(bundle):
    child = run_program(bundle, "futures[-1].add_done_callback(lambda f: print(f.result().label))")
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0 and not err
    assert out.strip() in tiny.CLASSES


def test_ctrl_c_ends_a_busy_program(bundle):
    lines = """
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
        print("ready", flush=True)
        while True:
            made.classify(*pair)
            for answer in made.stream(pair for _ in range(50)):
                pass
    """
    child = run_program(bundle, lines)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert err.strip().endswith("KeyboardInterrupt")
