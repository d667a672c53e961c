"""The doctor on machines that are laid out as files; the boards themselves are not here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.fatbins import fatbin_for_all
from support.power_meters import lay_out

from esccs_edge import doctor
from esccs_edge.backends.trt.library import Flavor
from esccs_edge.cuda.probe import DriverInfo, GpuInfo
from esccs_edge.doctor import diagnose
from esccs_edge.errors import BackendError, MissingDependencyError

NO_DRIVER = DriverInfo("", (), "no CUDA driver library (libcuda.so.1) on this host")
ORIN = DriverInfo("12.6", (GpuInfo("Orin", (8, 7), True, 64 << 30),), "")
ADA = DriverInfo("13.0", (GpuInfo("NVIDIA RTX 4000", (8, 9), False, 20 << 30),), "")

NVPMODEL = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=30W >
"""


@pytest.fixture
def jetson(tmp_path):
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.7, GCID: 42, BOARD: generic",
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        "var/lib/nvpmodel/status": "pmode:0002",
        "etc/nvpmodel.conf": NVPMODEL,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def named(findings, name):
    return next(finding for finding in findings if finding.name == name)


def install(monkeypatch, *flavors):
    def load(name):
        if name in flavors:
            return Flavor(name, "10.3.0", None)
        raise MissingDependencyError(f"no {name}", hint=f"install {name}")

    monkeypatch.setattr(doctor, "load_flavor", load)


def test_every_problem_comes_with_advice(tmp_path, monkeypatch):
    install(monkeypatch)
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    findings = diagnose(tmp_path, NO_DRIVER)
    assert all(finding.advice for finding in findings if not finding.ok)
    assert {f.name for f in findings if not f.ok} >= {
        "NVIDIA GPU", "TensorRT", "TensorRT for RTX", "CUDA binding", "OpenVINO (CPU backend)",
    }  # fmt: skip


def test_this_host_is_diagnosed_without_raising():
    findings = diagnose()
    assert named(findings, "Python").ok
    assert len({finding.name for finding in findings}) == len(findings) >= 8


def test_jetson_names_board_release_and_the_faster_power_mode(jetson, monkeypatch):
    install(monkeypatch, "tensorrt")
    findings = diagnose(jetson, ORIN)
    assert named(findings, "Jetson").detail == "NVIDIA Jetson AGX Orin Developer Kit, L4T 36.4.7"
    power = named(findings, "Power mode")
    assert power.detail == "30W" and "nvpmodel -m 0" in power.advice
    assert named(findings, "TensorRT").ok


def test_full_power_needs_no_advice(jetson, monkeypatch):
    install(monkeypatch, "tensorrt")
    (jetson / "var/lib/nvpmodel/status").write_text("pmode:0000")
    power = named(diagnose(jetson, ORIN), "Power mode")
    assert power.ok and power.detail == "MAXN" and not power.advice


def test_unreadable_power_mode_says_how_to_look(jetson, monkeypatch):
    install(monkeypatch, "tensorrt")
    (jetson / "var/lib/nvpmodel/status").unlink()
    assert "nvpmodel -q" in named(diagnose(jetson, ORIN), "Power mode").advice


def test_jetson_environment_that_hides_the_systems_tensorrt(jetson, monkeypatch):
    install(monkeypatch)
    monkeypatch.setattr(sys, "prefix", "/some/venv")
    findings = diagnose(jetson, ORIN)
    assert "--system-site-packages" in named(findings, "TensorRT").advice
    assert "Not made for Jetson" in named(findings, "TensorRT for RTX").advice


def test_jetson_environment_of_another_python_than_the_systems(jetson, monkeypatch):
    install(monkeypatch)
    link = jetson / "usr/bin/python3"
    link.parent.mkdir(parents=True)
    other = sys.version_info[1] + 1
    link.symlink_to(f"python3.{other}")
    advice = named(diagnose(jetson, ORIN), "TensorRT").advice
    assert f"system's Python 3.{other}" in advice and "/usr/bin/python3" in advice
    link.unlink()
    link.symlink_to(f"python3.{sys.version_info[1]}")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert "python3-libnvinfer" in named(diagnose(jetson, ORIN), "TensorRT").advice


def test_power_sensor_of_a_jetson_is_its_rails(jetson, monkeypatch):
    install(monkeypatch, "tensorrt")
    assert not named(diagnose(jetson, ORIN), "Power sensor").ok
    lay_out(jetson, "1-0040", 1, [("VDD_IN", 5000, 1000)])
    found = named(diagnose(jetson, ORIN), "Power sensor")
    assert found.ok and "VDD_IN" in found.detail


def test_discrete_gpu_without_nvml_is_told(tmp_path, monkeypatch):
    install(monkeypatch, "tensorrt")
    monkeypatch.setattr(doctor, "find_meter", lambda root: None)
    found = named(diagnose(tmp_path, ADA), "Power sensor")
    assert not found.ok and "NVML" in found.detail and found.advice


def test_jetson_without_access_to_its_gpu(jetson):
    assert "groups video" in named(diagnose(jetson, NO_DRIVER), "NVIDIA GPU").advice


@pytest.mark.parametrize(
    "gpu, ok",
    [((8, 7), True), ((8, 9), True), ((9, 0), True), ((11, 0), True), ((12, 1), True),
     ((7, 5), True), ((7, 2), False)],
)  # fmt: skip
def test_kernels_are_held_against_the_gpu(tmp_path, monkeypatch, gpu, ok):
    install(monkeypatch)
    monkeypatch.setattr("esccs_edge.doctor.load_fatbin", fatbin_for_all)
    driver = DriverInfo("13.0", (GpuInfo("Some GPU", gpu, False, 1),), "")
    found = named(diagnose(tmp_path, driver), "CUDA kernels")
    assert found.ok is ok and "PTX" in found.detail
    assert ok or "ESCCS_CUDA_ARCHITECTURES=72" in found.advice


def test_rtx_on_a_gpu_it_was_not_made_for(tmp_path, monkeypatch):
    install(monkeypatch, "rtx")
    assert named(diagnose(tmp_path, ADA), "TensorRT for RTX").ok
    unfit = named(diagnose(tmp_path, ORIN), "TensorRT for RTX")
    assert not unfit.ok and "install tensorrt" in unfit.advice


@pytest.mark.parametrize(
    "versions, driver, ok, advice",
    [
        ({"cuda-bindings": "13.5.0"}, ADA, True, ""),
        ({"cuda-bindings": "13.5.0"}, ORIN, False, "cuda-python==12.*"),
        ({"cuda-bindings": "12.9.1"}, ADA, True, ""),
        ({"cuda-bindings": "12.9.0"}, ORIN, False, "cuda-bindings>=12.9.1"),
        ({"cuda-bindings": "12.8.0.post1"}, ADA, False, "cuda-bindings>=12.9.1"),
        ({"cuda-bindings": "12.10.0"}, ORIN, True, ""),
        ({"cuda-bindings": "13.0.0"}, ADA, True, ""),
        ({"pycuda": "2026.1"}, ORIN, True, ""),
        ({}, ORIN, False, "cuda-python==12.*"),
        ({}, NO_DRIVER, False, "pip install cuda-python"),
    ],
)
def test_cuda_binding_must_not_be_newer_than_the_driver(
    tmp_path, monkeypatch, versions, driver, ok, advice
):
    install(monkeypatch)
    monkeypatch.setattr(doctor, "installed_version", versions.get)
    found = named(diagnose(tmp_path, driver), "CUDA binding")
    assert found.ok is ok and advice in found.advice


def test_package_without_kernels_says_how_to_get_them(tmp_path, monkeypatch):
    def missing():
        raise BackendError("the CUDA kernels are not part of this installation", hint="nvcc")

    monkeypatch.setattr(doctor, "load_fatbin", missing)
    assert named(diagnose(tmp_path, ADA), "CUDA kernels").advice == "nvcc"


def test_root_of_a_plain_machine_is_no_jetson(tmp_path):
    assert "Jetson" not in {f.name for f in diagnose(Path(tmp_path), NO_DRIVER)}
