"""Run the float model over batches and look inside: histograms for the ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from .observers import Histogram


def session_with_tensors(model: onnx.ModelProto, tensors: Sequence[str]) -> ort.InferenceSession:
    """Open a CPU session whose extra outputs are the named inner tensors.

    The optimizer is off, since it would fuse away the tensors to be seen.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    present = {value.name for value in opened.graph.output}
    inner = [name for name in tensors if name not in present]
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def collect_histograms(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Iterable[Mapping[str, npt.NDArray[np.float32]]],
) -> dict[str, Histogram]:
    """Return the histogram of magnitudes of each tensor over all batches.

    Args:
        model: The float student.
        tensors: Graph inputs or inner tensors.
        batches: Network inputs by name.
    """
    inputs = {value.name for value in model.graph.input}
    inner = [name for name in tensors if name not in inputs]
    session = session_with_tensors(model, inner)
    histograms = {name: Histogram() for name in tensors}
    for batch in batches:
        values = dict(zip(inner, session.run(inner, dict(batch)), strict=True))
        for name in tensors:
            histograms[name].add(batch[name] if name in inputs else values[name])
    return histograms
