"""Resizing by constant factors instead of by sizes that the graph works out from its own shapes.

The torch exporter writes the size of every upsampling as a computation on shapes, since the batch
axis is open. TensorRT then plans for sizes that it does not know, and a quantized graph is cut at
every such place; all axes but the batch are fixed, so the factors are too.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

#: Position of ``scales`` and ``sizes`` among the inputs of ``Resize``.
_SCALES, _SIZES = 2, 3


def with_constant_scales(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which each Resize whose image sizes are known has constant scales."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        if node.op_type != "Resize" or len(node.input) <= _SIZES or not node.input[_SIZES]:
            continue
        before, after = (shapes.get(name, [])[2:] for name in (node.input[0], node.output[0]))
        if before and after and all(before) and all(after):
            factors = np.array([1, 1, *np.divide(after, before)], np.float32)
            name = f"{node.output[0]}_scales"
            changed.graph.initializer.append(numpy_helper.from_array(factors, name))
            del node.input[_SCALES:]
            node.input.append(name)
    _drop_unused(changed.graph)
    return changed


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that lead to no output any more."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
