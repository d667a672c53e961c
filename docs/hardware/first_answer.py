"""Does this engine run here, and with the right answers? ``first_answer.py ENGINE PRECISION``.

ENGINE is ``tensorrt``, ``rtx`` or ``stand-in``, which is torch on the same stream and proves all
but TensorRT. Runs the shipped model plainly, while its graph is recorded and from the graph, with
several sizes of batches on two lanes, and holds it against the same ONNX file on the CPU (ONNX
Runtime). Prints JSON: largest differences to that and to the float32 graph, microseconds, switches.
What refuses is printed in its own words. Needs the folder ``tests`` on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any, get_args

import numpy as np
from support.onnx_answer import onnx_answer
from support.real_gpu import ENGINES, running, zero_copy

from esccs_edge.backends.base import Lane
from esccs_edge.backends.trt.backend import TrtBackend
from esccs_edge.backends.trt.layers import layers_of_inspector
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import GraphPrecision
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.values import Sample
from esccs_edge.errors import EsccsError
from esccs_edge.pixels.synthetic import random_samples, smooth_samples

BATCHES = (1, 3, 8, 32)
#: The first is enqueued plainly, the second recorded, the others are graphs.
TIMES = 4
ROUNDS, SECONDS = 200, 2.0
#: Largest difference to the same file on the CPU, relative to 1 + the value. INT8 may round to
#: another level, here and there, where a fused layer sums in another order.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.2}


def mixed_samples(manifest: Manifest, count: int) -> list[Sample]:
    """Return samples whose answers differ: smooth, rough, and either with one modality absent."""
    first, *_, last = manifest.modalities
    pairs = zip(smooth_samples(manifest, count), random_samples(manifest, count), strict=True)
    kinds = itertools.cycle(
        (
            lambda smooth, rough: smooth,
            lambda smooth, rough: rough,
            lambda smooth, rough: {**smooth, last: None},
            lambda smooth, rough: {**rough, first: None},
        )
    )
    return [Sample(kind(a.pixels, b.pixels)) for kind, (a, b) in zip(kinds, pairs, strict=False)]


def largest(found: Any, wanted: Any) -> float:
    """Return the largest difference over all outputs, relative to 1 + the value."""
    return max(
        float((np.abs(found.outputs[name] - values) / (1 + np.abs(values))).max())
        for name, values in wanted.outputs.items()
    )


def answers(backend: TrtBackend, bundle: Bundle, precision: GraphPrecision) -> dict[str, Any]:
    """Run every size of batch several times on two lanes at once; returns what differed."""
    lanes = [backend.open_lane() for _ in range(2)]
    by_file, by_float, same, of = 0.0, 0.0, 0, 0
    for batch in (size for size in BATCHES if size <= backend.max_batch):
        samples = mixed_samples(bundle.manifest, batch)
        wanted, exact = (onnx_answer(bundle, samples, kind) for kind in (precision, "fp32"))
        for _ in range(TIMES):
            for lane in lanes:
                lane.start(samples)
            for found in [lane.finish() for lane in lanes]:
                by_file = max(by_file, largest(found, wanted))
                by_float = max(by_float, largest(found, exact))
                classes = [each.outputs["logits"].argmax(1) for each in (found, exact)]
                same, of = same + int((classes[0] == classes[1]).sum()), of + batch
    for lane in lanes:
        lane.close()
    return {"differs by": by_file, "from float32": by_float, "same class": same, "of": of}


def microseconds(lane: Lane, bundle: Bundle) -> dict[int, float]:
    """Return the median time from raw pixels to results, by size of the batch."""
    found = {}
    for batch in (BATCHES[0], BATCHES[-1]):
        samples = smooth_samples(bundle.manifest, batch)
        lane.answer(samples)
        times: list[float] = []
        while len(times) < ROUNDS and sum(times) < SECONDS:
            start = time.perf_counter()
            lane.answer(samples)
            times.append(time.perf_counter() - start)
        found[batch] = round(1e6 * statistics.median(times), 1)
    return found


def first_answer(bundle: Bundle, precision: GraphPrecision) -> dict[str, Any]:
    """Run a bundle's graph of one precision on the GPU; returns what was found."""
    backend = TrtBackend(bundle, bundle.manifest, max_batch=32, precision=precision, wait="spin")
    try:
        found = answers(backend, bundle, precision)
        lane = backend.open_lane()
        found["microseconds"] = microseconds(lane, bundle)
        lane.close()
        if hasattr(backend._loaded.engine, "create_engine_inspector"):  # the stand-in has none
            listed = layers_of_inspector(backend.layers(), bundle.manifest.modalities)
            parts = [layer.part for layer in listed]
            found["layers"] = {part: parts.count(part) for part in sorted(set(parts))}
        return {**found, **backend.describe()}
    finally:
        backend.close()


def main(arguments: list[str]) -> int:
    """Print one line; returns 1 if the engine was refused or answers otherwise than it should."""
    parser = argparse.ArgumentParser("first_answer.py", description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("precision", choices=get_args(GraphPrecision))
    parser.add_argument(
        "--mapped",
        action="store_true",
        help="Copy nothing, as on a Jetson.",
    )
    chosen = parser.parse_args(arguments)
    try:
        with ExitStack() as stack:
            stack.enter_context(running(chosen.engine))
            if chosen.mapped:
                stack.enter_context(zero_copy())
            found = first_answer(Bundle.open(), chosen.precision)
    except EsccsError as error:
        print(json.dumps({**vars(chosen), "refused": str(error)}))
        return 1
    right = found["differs by"] <= TOLERANCE[chosen.precision]
    print(json.dumps({**vars(chosen), "right": right, **found}))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
