"""What a bundle answers by its ONNX file on the CPU, for hosts without OpenVINO.

By ONNX Runtime where it is installed, else by the reference of the onnx package, which is slow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import numpy as np

from esccs_edge.backends.base import LaneOutput
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MODEL_FILES, GraphPrecision
from esccs_edge.contracts.values import Sample
from esccs_edge.pixels.preprocess import preprocess

Network = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def onnx_answer(
    bundle: Bundle, samples: Sequence[Sample], precision: GraphPrecision = "fp32"
) -> LaneOutput:
    """Answer samples as a lane would."""
    manifest, feed, stats = bundle.manifest, {}, {}
    for name, spec in manifest.modalities.items():
        feed[name] = np.empty((len(samples), *manifest.inputs[name].row), np.float32)
        images = [sample.pixels[name] for sample in samples]
        stats[name] = preprocess(images, spec, feed[name])
    pixels = np.prod(manifest.sample.grid)
    valid = [[found.valid for found in each] for each in stats.values()]
    feed[manifest.availability] = np.array(valid, np.float32).T / np.float32(pixels)
    outputs = network_of(bundle.read(MODEL_FILES[precision]))(feed)
    return LaneOutput({name: outputs[name] for name in manifest.returned}, stats)


@functools.lru_cache(maxsize=8)
def network_of(onnx: bytes) -> Network:
    """Return a graph as a function from inputs to outputs, by name."""
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda feed: dict(zip(names, session.run(names, dict(feed)), strict=True))
    from support.fake_trt import onnx_network

    return onnx_network(onnx)
