"""``esccs-edge doctor``: what works on this machine, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import click

from ..errors import ArtifactError, BackendError
from .shell import Answer, command

#: Extra of pyproject.toml -> distributions it brings.
PACKAGES = {
    "base": ("numpy", "openvino", "click"),
    "geo": ("rasterio",),
    "view": ("opencv-python-headless", "matplotlib"),
    "train": ("torch", "lightning", "torchmetrics", "safetensors"),
    "export": ("onnx", "onnxscript", "onnxsim", "onnxruntime"),
    "trt": ("tensorrt",),
    "rtx": ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
    "cuda": ("cuda-python", "pycuda"),
}


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What was tried.
        ok: It works.
        required: Nothing works without it; the command then exits with 1.
        detail: What was found, or why it failed.
    """

    name: str
    ok: bool
    required: bool
    detail: str


@command("doctor", example="esccs-edge doctor --json")
def run() -> Answer:
    """Try what works on this machine.

    Tries the kernels, the bundle in the package and the CPU backend; lists packages and GPU.
    Exits with 1 when something that everything needs does not work.
    """
    checks = [
        _try("native kernels", True, _kernels),
        _try("default bundle", True, _default_bundle),
        _try("CPU backend", True, _cpu_answer),
        _try("CUDA kernels", False, _cuda_kernels),
        _try("NVIDIA GPU", False, _gpu),
    ]
    versions = {
        extra: {name: _version(name) for name in names} for extra, names in PACKAGES.items()
    }
    ok = all(check.ok for check in checks if check.required)
    document = {"ok": ok, "checks": [asdict(check) for check in checks], "packages": versions}
    return Answer(document, _text(checks, versions), exit_code=0 if ok else 1)


def _try(name: str, required: bool, attempt: Callable[[], str]) -> Check:
    """A doctor reports every failure, of whatever kind, instead of stopping at the first."""
    try:
        return Check(name, True, required, attempt())
    except Exception as error:
        return Check(name, False, required, str(error) or type(error).__name__)


def _kernels() -> str:
    from .. import _preprocess_cpu

    return str(_preprocess_cpu.__file__)


def _default_bundle() -> str:
    from ..bundle import Bundle

    bundle = Bundle.open("default")
    return f"{bundle.manifest.name}, {len(bundle.verify())} files match their SHA-256"


def _cpu_answer() -> str:
    from ..bench import random_pairs
    from ..classifier import Classifier

    with Classifier("default", backend="cpu", max_batch=1, lanes=1) as classifier:
        pairs = random_pairs(classifier.manifest, 1)
        classifier.classify(pairs.optical[0], pairs.sar[0])
    return f"openvino {version('openvino')} answers"


def _cuda_kernels() -> str:
    from importlib.resources import files

    found = files("esccs_edge") / "preprocess.fatbin"
    if not found.is_file():
        raise ArtifactError("not compiled: there was no nvcc when the package was built")
    return str(found)


def _gpu() -> str:
    from ..cuda.probe import probe_driver

    driver = probe_driver()
    if driver.problem:
        raise BackendError(driver.problem)
    names = ", ".join(f"{gpu.name} (sm {gpu.sm})" for gpu in driver.gpus)
    return f"{names}, driver for CUDA {driver.version}"


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _text(checks: list[Check], versions: dict[str, dict[str, str | None]]) -> str:
    lines = []
    for check in checks:
        mark = "ok  " if check.ok else ("FAIL" if check.required else "no  ")
        lines.append(
            f"{click.style(mark, fg='green' if check.ok else 'red')} {check.name}: {check.detail}"
        )
    for extra, packages in versions.items():
        found = ", ".join(f"{name} {number or '-'}" for name, number in packages.items())
        missing = None in packages.values() and extra not in ("base", "cuda")
        lines.append(
            f"     {extra:<7} {found}"
            + (f'   pip install "esccs-edge[{extra}]"' if missing else "")
        )
    return "\n".join(lines)
