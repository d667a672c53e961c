"""Several GPUs in one process, each a fake one, behind one pool of lanes."""

from __future__ import annotations

from typing import Any

import pytest
from support.fake_gpu import FakeDriver
from support.fake_trt import fake_flavor
from support.trt_machine import Machine, assert_same, awkward_batch, cpu_answer, host_pairs

from esccs_edge import Classifier
from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt.library import Flavor, LoadedEngine, error_log
from esccs_edge.backends.trt.several import open_gpus
from esccs_edge.cuda.device import Device
from esccs_edge.errors import BackendError, CudaError


class Machines(Machine):
    """As `Machine`, with a driver for each ordinal and engines that run on it."""

    def __init__(self, monkeypatch, folder):
        super().__init__(monkeypatch, folder)
        self.drivers: dict[int, FakeDriver] = {}
        monkeypatch.setenv("ESCCS_CACHE_DIR", str(folder / "engines"))
        monkeypatch.setattr(trt_backend.Device, "open", self._opened)

    def _opened(self, ordinal=0):
        if ordinal > 2:
            raise BackendError(f"GPU {ordinal} was asked for, this host shows 3")
        self.drivers[ordinal] = self.driver = FakeDriver(seed=ordinal)
        return Device(self.driver, ordinal)

    def _load(self, flavor, plan):
        self.loads.append(plan)
        flavor = fake_flavor(self.driver, self.manifest)
        return LoadedEngine(flavor, flavor.trt.engine, error_log(flavor), None)


@pytest.fixture
def machines(monkeypatch, tmp_path):
    return Machines(monkeypatch, tmp_path)


def test_lanes_are_spread_and_each_answers(machines):
    backend = open_gpus((0, 2), machines.bundle, machines.manifest, max_batch=8)
    assert (backend.devices, backend.name, backend.max_batch) == (2, "tensorrt", 8)
    lanes: list[Any] = [backend.open_lane() for _ in range(4)]
    pairs = awkward_batch(machines.manifest)
    for lane in lanes:
        lane.start(pairs)
    for lane in lanes:
        assert_same(lane.finish(), cpu_answer(machines.folder / "bundle", pairs))
    for driver in machines.drivers.values():
        assert driver.log.count("synchronize_event") == 2
    lanes[0].close(), lanes[2].close()  # both on the first GPU, so the next two go there
    again: list[Any] = [backend.open_lane(), backend.open_lane()]
    assert {lane._device.ordinal for lane in again} == {lanes[0]._device.ordinal}
    assert [one["ordinal"] for one in backend.describe()["devices"]] == [0, 2]
    backend.close()
    assert all(driver.released for driver in machines.drivers.values())
    assert machines.builds == 1  # GPUs of one kind share the engine


def test_a_classifier_keeps_every_gpu_busy(machines):
    pairs = host_pairs(machines.manifest, 24)
    columns = [pair.optical for pair in pairs], [pair.sar for pair in pairs]
    with Classifier(machines.bundle, "tensorrt", 2, lanes=1, device="0,1") as model:
        answers = model.classify_batch(*columns)
        assert model.health().ok
    with Classifier(machines.bundle, "cpu", 2) as model:
        assert [a.label for a in answers] == [a.label for a in model.classify_batch(*columns)]
    for driver in machines.drivers.values():
        assert driver.log.count("synchronize_event") > 3 and driver.released


def test_one_gpu_is_no_more_than_itself(machines):
    backend = open_gpus((1,), machines.bundle, machines.manifest, max_batch=4)
    assert isinstance(backend, trt_backend.TrtBackend) and backend.devices == 1
    assert backend.describe()["ordinal"] == 1
    backend.close()


def test_those_that_were_opened_are_closed_where_one_cannot_be(machines):
    with pytest.raises(BackendError, match="GPU 3 was asked for"):
        open_gpus((0, 1, 3), machines.bundle, machines.manifest, max_batch=4)
    assert [driver.released for driver in machines.drivers.values()] == [True, True]


def test_a_lost_gpu_says_so_and_the_others_close_well(machines):
    backend = open_gpus((0, 1), machines.bundle, machines.manifest, max_batch=4)
    lanes = [backend.open_lane(), backend.open_lane()]
    machines.drivers[0].calls_to_live = 0
    with pytest.raises(CudaError) as caught:
        lanes[0].answer(host_pairs(machines.manifest, 1))
    assert caught.value.action == "restart"
    lanes[1].answer(host_pairs(machines.manifest, 1))
    backend.close()
    assert not machines.drivers[0].released and machines.drivers[1].released


def test_flavor_is_passed_on(machines, monkeypatch):
    asked = []

    def load(name):
        asked.append(name)
        return Flavor("tensorrt", "10.3.0", machines.flavor.trt)

    monkeypatch.setattr(trt_backend, "load_flavor", load)
    with Classifier(machines.bundle, "tensorrt", 2, flavor="rtx"):
        pass
    monkeypatch.setenv("ESCCS_FLAVOR", "tensorrt")
    with Classifier(machines.bundle, "tensorrt", 2):
        pass
    assert asked == ["rtx", "tensorrt"]
