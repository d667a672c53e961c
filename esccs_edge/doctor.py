"""What this machine has for running on a GPU, and what to install or set where it has not.

Nothing is changed and no GPU context is made. `root` stands for ``/``, so that a Jetson's files can
be laid out in a test; ``esccs-edge doctor`` prints the result.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .backends.trt.library import RTX_TARGETS, FlavorName, load_flavor
from .backends.trt.pixel_kernels import load_fatbin
from .cuda.fatbin import images_of
from .cuda.probe import DriverInfo, probe_driver
from .errors import EsccsError
from .power import RailMeter, find_meter, nvpmodel_mode
from .system.packages import installed_version

#: Oldest and newest Python this package is tested on.
PYTHONS = ((3, 10), (3, 13))
#: First cuda-bindings that release the interpreter's lock during the driver's calls.
OLDEST_BINDINGS = (12, 9, 1)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: What was looked for.
        ok: It is there and fits.
        detail: What was found.
        advice: What to install or set; empty when nothing needs doing.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


def diagnose(root: Path = Path("/"), driver: DriverInfo | None = None) -> list[Finding]:
    """Look at Python, GPU, libraries and, on a Jetson, at the board.

    Args:
        root: Root of the file system.
        driver: What the CUDA driver answered; None asks it.
    """
    driver = probe_driver() if driver is None else driver
    return [
        _python(),
        _gpu(driver, root),
        *_tensorrt(driver, root),
        _cuda_binding(driver),
        _kernels(driver),
        _nvcc(root),
        _power_sensor(driver, root),
        _openvino(),
        *_jetson(root),
    ]


def _python() -> Finding:
    found = sys.version_info[:2]
    oldest, newest = PYTHONS
    ok = oldest <= found <= newest
    advice = "" if ok else f"Use Python {_dotted(oldest)} to {_dotted(newest)}"
    return Finding("Python", ok, sys.version.split()[0], advice)


def _gpu(driver: DriverInfo, root: Path) -> Finding:
    if not driver.problem:
        names = ", ".join(f"{gpu.name} (compute capability {gpu.sm})" for gpu in driver.gpus)
        return Finding("NVIDIA GPU", True, f"{names}; driver for CUDA {driver.version}")
    advice = "Install the NVIDIA driver; without a GPU the CPU backend is used"
    if _is_jetson(root):
        advice = "Add this user to the groups video and render, then log in again"
    return Finding("NVIDIA GPU", False, driver.problem, advice)


def _tensorrt(driver: DriverInfo, root: Path) -> Iterator[Finding]:
    names: tuple[FlavorName, ...] = ("tensorrt", "rtx")
    for name in names:
        label = "TensorRT" if name == "tensorrt" else "TensorRT for RTX"
        try:
            flavor = load_flavor(name)
        except EsccsError as error:
            yield Finding(label, False, error.message, _tensorrt_advice(name, error.hint, root))
            continue
        unfit = [] if name != "rtx" else [g for g in driver.gpus if g.sm not in RTX_TARGETS]
        if unfit:
            advice = "This GPU is not one of its targets: install tensorrt instead"
            yield Finding(label, False, f"{flavor.version}, but {unfit[0].name}", advice)
        else:
            yield Finding(label, True, flavor.version)


def _tensorrt_advice(name: FlavorName, hint: str, root: Path) -> str:
    if not _is_jetson(root):
        return hint
    if name == "rtx":
        return "Not made for Jetson; use tensorrt"
    system = _system_python(root)
    if system and system != sys.version_info[:2]:
        return (
            f"JetPack's TensorRT is for the system's Python {_dotted(system)}, this is Python "
            f"{_dotted(sys.version_info[:2])}: make the environment with /usr/bin/python3"
        )
    if sys.prefix != sys.base_prefix:
        return (
            "JetPack's TensorRT belongs to the system Python: make the environment with "
            "python3 -m venv --system-site-packages, after sudo apt install python3-libnvinfer"
        )
    return "Run: sudo apt install python3-libnvinfer"


def _cuda_binding(driver: DriverInfo) -> Finding:
    found = {
        name: number
        for name in ("cuda-bindings", "pycuda")
        if (number := installed_version(name)) is not None
    }
    major = driver.version.split(".")[0]
    install = (
        f'Run: pip install "cuda-python=={major}.*"' if major else "Run: pip install cuda-python"
    )
    if not found:
        return Finding("CUDA binding", False, "neither cuda-python nor pycuda", install)
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    bindings = _numbers(found.get("cuda-bindings", ""))
    if major and bindings and bindings[0] > int(major):
        advice = f"The driver is of CUDA {driver.version}. {install}"
        return Finding("CUDA binding", False, detail, advice)
    if bindings and bindings < OLDEST_BINDINGS:
        oldest = ".".join(map(str, OLDEST_BINDINGS))
        advice = (
            "Its calls keep other Python threads waiting, so that lanes cannot overlap. "
            f'Run: pip install "cuda-bindings>={oldest},<{bindings[0] + 1}"'
        )
        return Finding("CUDA binding", False, detail, advice)
    return Finding("CUDA binding", True, detail)


def _kernels(driver: DriverInfo) -> Finding:
    label = "CUDA kernels"
    try:
        content = load_fatbin()
        images = images_of(content)
    except EsccsError as error:
        return Finding(label, False, error.message, error.hint)
    detail = f"{len(content):,} bytes for {', '.join(str(image) for image in images)}"
    for gpu in driver.gpus:
        if not any(image.runs_on(gpu.compute_capability) for image in images):
            major, minor = gpu.compute_capability
            advice = (
                "Install esccs-edge from source on this machine, with "
                f"-C cmake.define.ESCCS_CUDA_ARCHITECTURES={major}{minor}"
            )
            return Finding(label, False, f"{detail}; none for {gpu.name} ({gpu.sm})", advice)
    return Finding(label, True, detail)


def _nvcc(root: Path) -> Finding:
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=str(root / "usr/local/cuda/bin"))
    if nvcc:
        return Finding("nvcc", True, nvcc)
    return Finding("nvcc", False, "not found", "Only for building this package: CUDA toolkit")


def _openvino() -> Finding:
    number = installed_version("openvino")
    if number is not None and importlib.util.find_spec("openvino") is not None:
        return Finding("OpenVINO (CPU backend)", True, number)
    return Finding("OpenVINO (CPU backend)", False, "not installed", "Run: pip install openvino")


def _power_sensor(driver: DriverInfo, root: Path) -> Finding:
    """Energy is reported by `build --choose` where there is a sensor; nothing else needs one."""
    label = "Power sensor"
    rails = RailMeter.find(root)
    if rails is not None:
        return Finding(label, True, rails.name)
    if driver.problem:
        return Finding(label, False, "none, as there is no GPU", "Not needed without a GPU")
    if _is_jetson(root):
        return Finding(label, False, "no INA3221 rails under /sys", "Energy is not reported")
    meter = find_meter(root)
    if meter is not None:
        return Finding(label, True, meter.name)
    advice = "Energy is not reported; NVML comes with the NVIDIA driver"
    return Finding(label, False, "NVML reports no power of this GPU", advice)


def _system_python(root: Path) -> tuple[int, int] | None:
    """Return the version of ``/usr/bin/python3``, whose link names it; None if it does not."""
    try:
        name = (root / "usr/bin/python3").readlink().name
    except OSError:
        return None
    found = re.fullmatch(r"python(\d+)\.(\d+)", name)
    return (int(found[1]), int(found[2])) if found else None


def _jetson(root: Path) -> Iterator[Finding]:
    if not _is_jetson(root):
        return
    model = _text(root / "proc/device-tree/model").strip("\0 \n") or "unknown board"
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(_release_file(root)))
    l4t = f"L4T {release[1]}.{release[2]}" if release else "unknown L4T"
    yield Finding("Jetson", True, f"{model}, {l4t}")
    yield _power_mode(root)


def _power_mode(root: Path) -> Finding:
    """Name the mode as nvpmodel's configuration does, and a faster one."""
    number = nvpmodel_mode(root)
    if number is None:
        return Finding("Power mode", False, "unknown", "Look with: sudo nvpmodel -q")
    listed = re.findall(r"POWER_MODEL ID=(\d+) NAME=(\S+)", _text(root / "etc/nvpmodel.conf"))
    names = {int(mode): name for mode, name in listed}
    detail = names.get(number, f"mode {number}")
    fastest = next((mode for mode, name in names.items() if name.startswith("MAXN")), None)
    if fastest is None or fastest == number:
        return Finding("Power mode", True, detail)
    advice = f"For full speed: sudo nvpmodel -m {fastest} && sudo jetson_clocks"
    return Finding("Power mode", True, detail, advice)


def _is_jetson(root: Path) -> bool:
    return _release_file(root).is_file()


def _release_file(root: Path) -> Path:
    return root / "etc/nv_tegra_release"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    """Return the first three numbers of a version; empty if there is none."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _dotted(number: tuple[int, int]) -> str:
    return "{}.{}".format(*number)
