"""A model that looks after itself: weights are loaded anew, batches that hang are given up."""

from __future__ import annotations

import gc
import logging
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.fake import (
    CLASSES,
    PATIENCE_S,
    FakeBackend,
    balance,
    labels,
    numbered,
    numbered_manifest,
    numbered_pair,
    submit,
    until,
)
from support.tiny import tiny_bundle

from esccs_edge import Classifier
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import BackendError, InputError, Remedy
from esccs_edge.runtime import model as runtime_model
from esccs_edge.runtime import postprocess
from esccs_edge.runtime.model import ModelRuntime
from esccs_edge.system.gpu_heat import GpuHeat
from esccs_edge.system.heat import Heat

MANIFEST = numbered_manifest()
OFTEN_S = 0.02


class Weights:
    """Answers with the number of the pair plus what a flipped bit adds."""

    def __init__(self, flipped: int = 0) -> None:
        self.flipped = flipped

    def __call__(self, numbers):
        logits = np.zeros((len(numbers), CLASSES), np.float32)
        logits[np.arange(len(numbers)), (np.array(numbers) + self.flipped) % CLASSES] = 20
        return logits


def model(weights, reopen=None, **options) -> ModelRuntime:
    return ModelRuntime(
        FakeBackend(max_batch=4, script=weights),
        MANIFEST,
        bundle={},
        reopen=reopen,
        **{"check_every_s": OFTEN_S, **options},
    )


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch):
    """Let the test sample carry a number that is a class."""
    pair = numbered_pair(7)
    monkeypatch.setattr(runtime_model, "golden_sample", lambda _: pair)


def raw(number):
    return numbered_pair(number).pixels


@pytest.mark.fault(90)
def test_changed_weights_are_loaded_anew_while_requests_go_on(caplog):
    weights, reopened = Weights(), []

    def reopen():
        reopened.append(FakeBackend(max_batch=4, script=Weights()))
        return reopened[-1]

    with model(weights, reopen) as running:
        first = running.backend
        assert isinstance(first, FakeBackend)
        assert running.run(raw(3)).label == "c3" and running.health().reloads == 0
        weights.flipped = 5
        until(lambda: running.health().reloads == 1)
        assert running.health().ok and running.backend is reopened[0]
        assert labels(running.run_batch([raw(n) for n in range(20)])) == [
            f"c{n}" for n in range(20)
        ]
        assert running.submit(raw(9)).result(PATIENCE_S).label == "c9"
        until(lambda: first.closed == 1)
        assert first.open_lanes == 0 and len(reopened) == 1
    assert reopened[0].closed == 1 and reopened[0].open_lanes == 0
    assert "loaded anew" in caplog.text and "may be wrong" in caplog.text


@pytest.mark.fault(90)
def test_a_model_that_is_wrong_on_disk_too_does_not_take_over(caplog):
    weights, reopened = Weights(), []

    def reopen():
        reopened.append(FakeBackend(max_batch=4, script=Weights(1)))
        return reopened[-1]

    with model(weights, reopen) as running:
        weights.flipped = 5
        until(lambda: len(reopened) > 1)
        until(lambda: reopened[0].closed == 1)
        health = running.health()
        assert not health.ok and "restart" in health.problem and health.reloads == 0
        assert running.backend not in reopened


@pytest.mark.fault(90)
def test_lanes_at_work_while_the_model_is_renewed_are_closed_when_they_come_back(make, gate):
    pipeline = make(FakeBackend(max_batch=1, script=gate), lanes=2)
    at_work = submit(pipeline, numbered_pair(1))
    gate.await_entry()
    former, fresh = pipeline._pool._backend, FakeBackend(max_batch=1)
    renewing = threading.Thread(target=pipeline.renew, args=(fresh, PATIENCE_S), daemon=True)
    renewing.start()
    assert submit(pipeline, numbered_pair(2)).result(PATIENCE_S).label == "c2"
    assert former.closed == 0
    gate.opened.set()
    renewing.join(PATIENCE_S)
    assert at_work.result(PATIENCE_S).label == "c1"
    assert former.closed == 1 and former.open_lanes == 0
    assert labels(pipeline.run(numbered(range(6)))) == [f"c{n}" for n in range(6)]
    pipeline.close()
    assert fresh.closed == 1 and former.closed == 1


@pytest.mark.fault(85)
def test_requests_that_hang_in_the_backend_fail_and_others_go_on(make, gate):
    def hang_on_zero(numbers):
        if 0 in numbers:
            gate(numbers)

    pipeline = make(FakeBackend(max_batch=1, script=hang_on_zero), lanes=2)
    hung = submit(pipeline, numbered_pair(0))
    gate.await_entry()
    time.sleep(0.05)
    assert pipeline.give_up(PATIENCE_S) == 0 and not hung.done()
    assert pipeline.give_up(0.01) == 1
    with pytest.raises(BackendError, match="has not answered") as caught:
        hung.result(PATIENCE_S)
    assert caught.value.action is Remedy.RESTART
    assert submit(pipeline, numbered_pair(5)).result(PATIENCE_S).label == "c5"
    assert pipeline.give_up(0.01) == 1 and balance(pipeline) == 0
    gate.opened.set()  # what comes too late is counted no second time
    until(lambda: pipeline.give_up(0.01) == 0)
    assert balance(pipeline) == 0 and pipeline.stats().failed == 1


@pytest.mark.fault(85)
def test_a_watch_gives_up_what_hangs_and_health_says_so(gate, monkeypatch):
    monkeypatch.setattr(runtime_model, "HANG_LIMIT_S", 0.1)

    def hang_on_zero(numbers):
        if 0 in numbers:
            gate(numbers)

    running = model(hang_on_zero)
    with pytest.raises(BackendError, match="has not answered"):
        running.submit(raw(0)).result(PATIENCE_S)
    assert "on the device" in running.health().problem
    assert running.submit(raw(3)).result(PATIENCE_S).label == "c3"
    gate.opened.set()
    until(lambda: running.health().ok)
    running.close()


@pytest.mark.fault(75, 77)
def test_a_watch_ends_with_its_model():
    def watches():
        return [t for t in threading.enumerate() if t.name == "esccs-edge-watch"]

    before = len(watches())
    closed, forgotten = model(Weights()), model(Weights())
    assert len(watches()) == before + 2
    closed.close()
    until(lambda: len(watches()) == before + 1)
    del forgotten
    until(lambda: gc.collect() is not None and len(watches()) == before)


@pytest.mark.parametrize("every", [0, -1, "5", float("nan"), True])
def test_a_period_that_is_no_positive_number_is_refused(every):
    with pytest.raises(InputError, match="check_every_s"):
        model(Weights(), check_every_s=every)


def test_a_classifier_that_is_watched_answers_as_any_other(tmp_path, caplog):
    bundle = tiny_bundle(tmp_path / "bundle")
    optical, sar = raw(1)["optical"], raw(1)["sar"]
    with Classifier(bundle) as plain, Classifier(bundle, check_every_s=OFTEN_S) as watched:
        with caplog.at_level(logging.WARNING):
            for _ in range(20):
                assert watched.classify(optical, sar) == plain.classify(optical, sar)
                time.sleep(OFTEN_S / 4)
        assert watched.health().ok and watched.health().reloads == 0
    assert "not well" not in caplog.text


# ---- heat ---------------------------------------------------------------------------------------


def board(root, **zones):
    """Lay out thermal zones and cooling devices: name -> file -> text."""
    for name, files in zones.items():
        folder = root / "sys/class/thermal" / name
        folder.mkdir(parents=True)
        for file, text in files.items():
            (folder / file).write_text(f"{text}\n")
    return root


PASSIVE = {"trip_point_0_type": "passive", "trip_point_0_temp": 85000}
BOARDS = [
    ({}, False),
    ({"thermal_zone0": {"temp": 60000, **PASSIVE}}, False),
    ({"thermal_zone0": {"temp": 85000, **PASSIVE}}, True),
    ({"thermal_zone0": {"temp": 60000, **PASSIVE}, "thermal_zone1": {"temp": 91000, **PASSIVE}},
     True),
    ({"thermal_zone0": {"temp": 91000, "trip_point_0_type": "active",
                        "trip_point_0_temp": 50000}}, False),
    ({"thermal_zone0": {"temp": 91000, "trip_point_0_type": "hot", "trip_point_0_temp": 90000}},
     True),
    ({"thermal_zone0": {"temp": 91000, "trip_point_0_type": "passive",
                        "trip_point_0_temp": 0}}, False),
    ({"thermal_zone0": {"temp": "?", **PASSIVE}}, False),
    ({"thermal_zone0": PASSIVE}, False),
    ({"cooling_device0": {"type": "pwm-fan", "cur_state": 3}}, False),
    ({"cooling_device0": {"type": "cpu-throttle-alert", "cur_state": 1}}, True),
    ({"cooling_device0": {"type": "cpu-throttle-alert", "cur_state": 0}}, False),
    ({"cooling_device0": {"type": "cpufreq-cpu0", "cur_state": 4}}, True),
    ({"cooling_device0": {"type": "Processor", "cur_state": 2}}, True),
    ({"cooling_device0": {"type": "intel_powerclamp", "cur_state": -1}}, False),
]  # fmt: skip


@pytest.mark.fault(91)
@pytest.mark.parametrize(("zones", "expected"), BOARDS)
def test_a_board_says_whether_it_is_throttled(tmp_path, zones, expected):
    assert Heat(board(tmp_path, **zones)).is_throttled() is expected


class Nvml:
    """NVML with one GPU, whose reasons for slower clocks a test sets."""

    def __init__(self, reasons=0, code=0, name="nvmlDeviceGetCurrentClocksEventReasons"):
        self.reasons, self.code = reasons, code
        setattr(self, name, self._tell)

    def nvmlInit_v2(self):
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus_id, device):
        return 0 if bus_id == b"0000:01:00.0" else 6

    def _tell(self, device, reasons):
        reasons._obj.value = self.reasons
        return self.code


OLD = "nvmlDeviceGetCurrentClocksThrottleReasons"
GPUS = [
    (Nvml(0x00), False),
    (Nvml(0x01), False),  # idle
    (Nvml(0x04), False),  # the limit of power, reached in everyday work
    (Nvml(0x08), True),
    (Nvml(0x20), True),
    (Nvml(0x40), True),
    (Nvml(0x84), True),
    (Nvml(0x40, name=OLD), True),
    (Nvml(0x40, code=3), False),  # not supported: says nothing
    (Nvml(0x40, name="another"), False),
]


@pytest.mark.fault(91)
@pytest.mark.parametrize(("library", "expected"), GPUS)
def test_a_gpu_says_whether_it_is_throttled(library, expected, tmp_path, monkeypatch):
    gpu = GpuHeat.of("0000:01:00.0", library)
    assert gpu.is_throttled() is expected
    monkeypatch.setattr("esccs_edge.system.heat.GpuHeat.of", lambda bus_id: gpu)
    heat = Heat(tmp_path)
    assert not heat.is_throttled()
    heat.watch_gpu("0000:01:00.0")
    assert heat.is_throttled() is expected


@pytest.mark.parametrize(
    ("bus_id", "library"), [("", Nvml()), ("0000:02:00.0", Nvml()), ("0000:01:00.0", object())]
)
def test_a_gpu_that_nvml_does_not_know_is_not_asked(bus_id, library):
    assert GpuHeat.of(bus_id, library) is None


@pytest.mark.fault(91)
def test_answers_of_a_throttled_board_carry_the_flag_until_it_has_cooled(
    make, tmp_path, monkeypatch
):
    root = board(tmp_path, thermal_zone0={"temp": 95000, **PASSIVE})
    heat = Heat(root)
    monkeypatch.setattr(postprocess, "BOARD", heat)
    pipeline = make(FakeBackend())
    (answer,) = pipeline.run(numbered([3]))
    assert answer.label == "c3" and Flag.THROTTLED in answer.flags
    assert Flag.THROTTLED in submit(pipeline, numbered_pair(4)).result(PATIENCE_S).flags
    (root / "sys/class/thermal/thermal_zone0/temp").write_text("40000\n")
    monkeypatch.setattr(heat, "_read_s", -1e9)
    (answer,) = pipeline.run(numbered([3]))
    assert replace(answer, flags=frozenset()).label == "c3" and Flag.THROTTLED not in answer.flags
