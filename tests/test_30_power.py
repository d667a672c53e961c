"""Power meters over files laid out like a board's, and over a stand-in for NVML."""

from __future__ import annotations

import ctypes
import time

import pytest
from support.power_meters import Steady, lay_out

from esccs_edge import power as energy
from esccs_edge.cuda import probe
from esccs_edge.errors import BackendError
from esccs_edge.power import EnergyLog, RailMeter, RaplMeter, find_meter, nvml_meter


def test_rail_that_holds_the_board_counts_alone(tmp_path):
    lay_out(tmp_path, "1-0040", 4, [("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 600)])
    meter = find_meter(tmp_path)
    assert meter.watts() == {"VDD_IN": pytest.approx(10.0), "VDD_CPU_GPU_CV": pytest.approx(3.0)}
    assert meter.total_watts() == pytest.approx(10.0)


def test_rails_of_two_monitors_add_up_and_unconnected_channels_do_not(tmp_path):
    lay_out(tmp_path, "1-0040", 3, [("VDD_GPU_SOC", 20000, 400), ("NC", 1, 1)])
    lay_out(tmp_path, "1-0041", 4, [("VIN_SYS_5V0", 5000, 1000)])
    meter = find_meter(tmp_path)
    assert meter.total_watts() == pytest.approx(13.0)
    assert meter.name == "INA3221 rails: VDD_GPU_SOC, VIN_SYS_5V0"


def test_rail_that_disappears_is_an_error(tmp_path):
    folder = lay_out(tmp_path, "1-0040", 4, [("VDD_IN", 5000, 2000)])
    meter = RailMeter.find(tmp_path)
    (folder / "curr1_input").unlink()
    with pytest.raises(BackendError, match="cannot be read any more"):
        meter.watts()


def test_machine_without_a_sensor_has_no_meter(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "pci_bus_id", lambda ordinal: "")
    assert find_meter(tmp_path) is None
    assert find_meter(tmp_path, gpu=None) is None
    monkeypatch.setattr(energy, "pci_bus_id", lambda ordinal: "0000:01:00.0")
    monkeypatch.setattr(energy, "NVML", "libno-such-library.so")
    assert find_meter(tmp_path) is None


class Nvml:
    """The calls of NVML, with their statuses; the counter moves whenever it is read."""

    def __init__(self, **statuses):
        self.statuses, self.asked, self.drawn = statuses, None, 10**6

    def nvmlInit_v2(self):
        return self.statuses.get("init", 0)

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus_id, device):
        self.asked = bus_id
        return self.statuses.get("handle", 0)

    def nvmlDeviceGetPowerUsage(self, device, milliwatts):
        milliwatts._obj.value = 123_456
        return self.statuses.get("power", 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, device, millijoules):
        self.drawn += 2500
        millijoules._obj.value = self.drawn
        return self.statuses.get("energy", 0)


def test_nvml_counts_the_energy_of_the_gpu_at_its_pci_address():
    library = Nvml()
    meter = nvml_meter(library, "0000:0A:00.0")
    assert library.asked == b"0000:0A:00.0" and "energy counter" in meter.name
    with EnergyLog(meter, every_s=60) as log:
        pass
    assert log.joules == pytest.approx(2.5)
    library.statuses["energy"] = 15
    with pytest.raises(BackendError, match="error 15"):
        meter.read()


def test_nvml_without_a_counter_reads_the_power():
    library = Nvml(energy=3)
    meter = nvml_meter(library, "0000:0A:00.0")
    assert meter.watts() == {"GPU": pytest.approx(123.456)}
    library.statuses["power"] = 15
    with pytest.raises(BackendError, match="error 15"):
        meter.watts()


@pytest.mark.parametrize("call", ["init", "handle", "power"])
def test_nvml_that_does_not_answer_is_no_meter(call):
    assert nvml_meter(Nvml(**{call: 3, "energy": 3}), "0000:0A:00.0") is None


@pytest.fixture
def packages(tmp_path):
    """Counters of two processor packages, of the cores inside one, and of the whole platform."""
    zones = tmp_path / "sys/class/powercap"
    for zone, name, reading in (
        ("intel-rapl:0", "package-0", 900), ("intel-rapl:1", "package-1", 100),
        ("intel-rapl:0:0", "core", 5), ("intel-rapl:2", "psys", 5),
    ):  # fmt: skip
        (zones / zone).mkdir(parents=True)
        (zones / zone / "name").write_text(f"{name}\n")
        (zones / zone / "energy_uj").write_text(f"{reading}\n")
        (zones / zone / "max_energy_range_uj").write_text("1000\n")
    return zones


def test_rapl_counts_packages_once_and_survives_the_end_of_its_range(tmp_path, packages):
    meter = find_meter(tmp_path, gpu=None)
    assert meter.name == "RAPL, whole processor packages"
    with EnergyLog(meter, every_s=0.001) as log:
        (packages / "intel-rapl:0" / "energy_uj").write_text("50\n")  # 900 -> 1000 -> 50
        (packages / "intel-rapl:1" / "energy_uj").write_text("160\n")
    assert log.joules == pytest.approx((150 + 60) * 1e-6)


def test_rapl_that_disappears_is_an_error(tmp_path, packages):
    meter = RaplMeter.find(tmp_path)
    (packages / "intel-rapl:1" / "energy_uj").unlink()
    with pytest.raises(BackendError, match="counter cannot be read any more"):
        meter.read()


def test_counters_of_the_cpu_do_not_stand_for_a_gpu(tmp_path, packages, monkeypatch):
    monkeypatch.setattr(energy, "pci_bus_id", lambda ordinal: "")
    assert find_meter(tmp_path, gpu=0) is None


def test_rails_of_a_board_come_before_the_counters_of_its_cpu(tmp_path, packages):
    lay_out(tmp_path, "1-0040", 4, [("VDD_IN", 5000, 2000)])
    assert isinstance(find_meter(tmp_path, gpu=None), RailMeter)


def test_energy_is_power_over_time():
    with EnergyLog(Steady(8.0), every_s=0.005) as log:
        time.sleep(0.05)
    assert log.seconds >= 0.05
    assert log.joules == pytest.approx(8.0 * log.seconds)
    assert log.watts == pytest.approx(8.0)


def test_energy_of_changing_power_lies_between_its_bounds():
    with EnergyLog(Steady(2.0, 4.0, 6.0), every_s=0.005) as log:
        time.sleep(0.05)
    assert 2.0 * log.seconds < log.joules < 6.0 * log.seconds


def test_sensor_that_dies_is_told_at_the_end_of_the_block():
    with pytest.raises(BackendError, match="gone"):
        with EnergyLog(Steady(1.0, None), every_s=0.001):
            time.sleep(0.05)


def test_error_of_the_block_is_not_hidden_by_the_sensor():
    with pytest.raises(KeyError):
        with EnergyLog(Steady(1.0, None), every_s=0.001):
            time.sleep(0.02)
            raise KeyError


def test_pci_address_of_no_gpu_is_empty(monkeypatch):
    monkeypatch.setattr(probe, "probe_driver", lambda: probe.DriverInfo("", (), "none"))
    assert probe.pci_bus_id(0) == ""


def test_pci_address_comes_from_the_driver(monkeypatch):
    gpu = probe.GpuInfo("a", (8, 9), False, 1)

    class Library:
        def cuDeviceGet(self, device, ordinal):
            device._obj.value = 40 + ordinal
            return 0

        def cuDeviceGetPCIBusId(self, text, size, device):
            ctypes.memmove(text, f"0000:{device.value}:00.0".encode(), 13)
            return 0

    monkeypatch.setattr(probe, "probe_driver", lambda: probe.DriverInfo("13.0", (gpu, gpu), ""))
    monkeypatch.setattr(probe, "driver_library", Library)
    assert probe.pci_bus_id(1) == "0000:41:00.0"
