"""``esccs-edge doctor``: what works on this machine, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import click

from ..system.packages import installed_version
from .shell import CommandResult, command

#: Extra of pyproject.toml -> distributions it brings.
PACKAGES = {
    "geo": ("rasterio",),
    "view": ("opencv-python-headless", "matplotlib"),
    "train": ("torch", "lightning", "torchmetrics", "safetensors"),
    "export": ("onnx", "onnxscript", "onnxsim", "onnxruntime"),
    "scale": ("ray", "pyarrow"),
}


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: What was tried.
        ok: It works.
        required: Nothing works without it; the command then exits with 1.
        detail: What was found, or why it failed.
        advice: What to install or set; empty when nothing needs doing.
    """

    name: str
    ok: bool
    required: bool
    detail: str
    advice: str = ""


@command(
    "doctor",
    help="""
    Try what works on this machine.

    Tries the kernels, the bundle in the package and the CPU backend; looks for GPU, TensorRT and
    optional packages. Exits with 1 when something that everything needs does not work.
    """,
    example="esccs-edge doctor --json",
)
def run() -> CommandResult:
    from ..doctor import diagnose

    checks = [
        _try("native kernels", _kernels),
        _try("default bundle", _default_bundle),
        _try("an answer on the CPU", _cpu_answer),
        *(Check(f.name, f.ok, False, f.detail, f.advice) for f in diagnose()),
        *(_extra(extra) for extra in PACKAGES),
    ]
    ok = all(check.ok for check in checks if check.required)
    document = {"ok": ok, "checks": [asdict(check) for check in checks]}
    return CommandResult(document, "\n".join(map(_line, checks)), exit_code=0 if ok else 1)


def _try(name: str, attempt: Callable[[], str]) -> Check:
    """Report a failure of any kind instead of stopping at the first."""
    try:
        return Check(name, True, True, attempt())
    except Exception as error:
        return Check(
            name, False, True, str(error) or type(error).__name__, "Install esccs-edge again"
        )


def _kernels() -> str:
    from .. import _preprocess_cpu

    return str(_preprocess_cpu.__file__)


def _default_bundle() -> str:
    from ..contracts.bundle import Bundle

    bundle = Bundle.open("default")
    return f"{bundle.manifest.name}, {len(bundle.verify())} files match their SHA-256"


def _cpu_answer() -> str:
    from ..classifier import Classifier
    from ..pixels.synthetic import random_samples

    with Classifier("default", backend="cpu", max_batch=1, lanes=1) as classifier:
        (pair,) = random_samples(classifier.manifest, 1)
        classifier.classify(**pair.pixels)
        backend = classifier.health().backend
        return f"{backend['device']}, {backend['precision']}: {backend['precision_reason']}"


def _extra(extra: str) -> Check:
    found = {name: installed_version(name) for name in PACKAGES[extra]}
    missing = None in found.values()
    detail = ", ".join(f"{name} {number or '-'}" for name, number in found.items())
    advice = f'Run: pip install "esccs-edge[{extra}]"' if missing else ""
    return Check(f"extra {extra}", not missing, False, detail, advice)


def _line(check: Check) -> str:
    mark = "ok  " if check.ok else ("FAIL" if check.required else "no  ")
    color = "green" if check.ok else ("red" if check.required else "yellow")
    advice = f"\n       {check.advice}" if check.advice else ""
    return f"{click.style(mark, fg=color)} {check.name}: {check.detail}{advice}"
