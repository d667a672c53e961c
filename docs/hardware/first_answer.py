"""Does this TensorRT run here, and with the right answers? ``python first_answer.py FLAVOR``.

Runs the shipped model in each precision on the GPU and, in float32, on the CPU.
Prints what was found and judges nothing; what refuses is printed in its own words.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.backends.trt.backend import TrtBackend
from esccs_edge.backends.trt.layers import layers_of_inspector
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MODEL_FILES
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import EsccsError
from esccs_edge.pixels.synthetic import random_samples
from esccs_edge.system.sealed_cache import SealedCache

PAIRS = 8


def answer(backend: Any, manifest: Manifest) -> Any:
    """Run random pairs through one lane, three times, so that a CUDA graph is replayed too."""
    lane = backend.open_lane()
    for _ in range(3):
        lane.start(random_samples(manifest, PAIRS))
        found = lane.finish()
    lane.close()
    return found


def compare(bundle: Bundle, precision: Any, flavor: Any, folder: Path) -> dict[str, Any]:
    """Run a bundle on the GPU and, in float32, on the CPU; returns the largest differences."""
    manifest, cache = bundle.manifest, SealedCache(folder)
    cpu = CpuBackend(bundle, manifest, max_batch=PAIRS, precision="fp32", cache=False)
    wanted = answer(cpu, manifest).outputs
    cpu.close()
    gpu = TrtBackend(
        bundle, manifest, max_batch=PAIRS, precision=precision, flavor=flavor, cache=cache
    )
    try:
        found = answer(gpu, manifest).outputs
        parts = [layer.part for layer in layers_of_inspector(gpu.layers(), manifest.modalities)]
        same = found["logits"].argmax(1) == wanted["logits"].argmax(1)
        return {
            "logits differ by": float(np.abs(found["logits"] - wanted["logits"]).max()),
            "gates differ by": float(np.abs(found["gate"] - wanted["gate"]).max()),
            "same class": int(same.sum()),
            "of": PAIRS,
            "layers": {part: parts.count(part) for part in (*manifest.modalities, "both")},
            **gpu.describe(),
        }
    finally:
        gpu.close()


def main(flavor: str) -> int:
    """Print one line per precision that the bundle holds; returns 1 if any was refused."""
    bundle, refused = Bundle.open(None), 0
    with tempfile.TemporaryDirectory() as folder:
        for precision, model in MODEL_FILES.items():
            if model not in bundle.manifest.files:
                continue
            try:
                print(precision, compare(bundle, precision, flavor, Path(folder) / precision))
            except EsccsError as error:
                refused = 1
                print(precision, "refused:", error)
    return refused


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
