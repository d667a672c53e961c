"""The student's FP32 ONNX graph as a torch module, so that torch runs the very same weights.

A graph of `torch.fx`: straight-line Python without an interpreter, which `torch.compile` takes too.
Only what a student is made of is known; anything else is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import fx

from esccs_edge.errors import ArtifactError

#: Makes the torch call of one ONNX node: (its tensors, its attributes, its constants) -> node.
Call = Callable[[fx.Graph, "list[fx.Node]", "dict[str, Any]", "list[Any]"], fx.Node]


def torch_module(content: bytes) -> fx.GraphModule:
    """Return a module from the graph's inputs to its outputs, in their order, for evaluation.

    Args:
        content: An ONNX file whose tensors are stored inside.

    Raises:
        ArtifactError: The graph holds an operator that a student has not.
    """
    source = onnx.load_from_string(content).graph
    constants = {item.name: numpy_helper.to_array(item) for item in source.initializer}
    root, graph = torch.nn.Module(), fx.Graph()
    values: dict[str, fx.Node] = {item.name: graph.placeholder(item.name) for item in source.input}
    for name, array in constants.items():
        if np.issubdtype(array.dtype, np.floating):
            key = name.replace(".", "_")
            root.register_buffer(key, torch.from_numpy(array.copy()))
            values[name] = graph.get_attr(key)
    for node in source.node:
        if node.op_type not in _CALLS:
            raise ArtifactError(f"the conversion to torch does not know {node.op_type}")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        tensors = [values[name] for name in node.input if name in values]
        fixed = [constants[name].tolist() for name in node.input[1:] if name in constants]
        values[node.output[0]] = _CALLS[node.op_type](graph, tensors, attributes, fixed)
    graph.output(tuple(values[item.name] for item in source.output))
    graph.eliminate_dead_code()
    graph.lint()
    return fx.GraphModule(root, graph).eval()


def _conv(graph: fx.Graph, tensors: Sequence[Any], attributes: Any, fixed: Any) -> fx.Node:
    top, left, bottom, right = attributes["pads"]
    if (top, left) != (bottom, right):
        raise ArtifactError(f"Conv has pads {attributes['pads']}, expected the same on both sides")
    image, weight, *bias = tensors
    options = {"stride": attributes["strides"], "padding": [top, left],
               "dilation": attributes["dilations"], "groups": attributes["group"]}  # fmt: skip
    return graph.call_function(torch.conv2d, (image, weight, *bias), options)


def _gemm(graph: fx.Graph, tensors: Sequence[Any], attributes: Any, fixed: Any) -> fx.Node:
    found = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | attributes
    expected = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    if found != expected:
        raise ArtifactError(f"Gemm has {found}, expected {expected}")
    return graph.call_function(torch.nn.functional.linear, tuple(tensors))


def _reduce(function: Any) -> Call:
    def call(graph: fx.Graph, tensors: Sequence[Any], attributes: Any, fixed: Any) -> fx.Node:
        keep = bool(attributes.get("keepdims", 1))
        return graph.call_function(function, (tensors[0], fixed[0]), {"keepdim": keep})

    return call


def _slice(graph: fx.Graph, tensors: Sequence[Any], attributes: Any, fixed: Any) -> fx.Node:
    (start,), (end,), (axis,), (step,) = fixed
    if (axis, step) != (1, 1):
        raise ArtifactError(f"Slice has axis {axis} and step {step}, expected 1 and 1")
    columns = (slice(None), slice(start, end))
    return graph.call_function(operator.getitem, (tensors[0], columns))


def _clip(graph: fx.Graph, tensors: Sequence[Any], attributes: Any, fixed: Any) -> fx.Node:
    if not fixed:
        raise ArtifactError("Clip has no constant bounds, expected a lower one or both")
    return graph.call_function(torch.clamp, (tensors[0], *fixed))


def _plain(function: Any) -> Call:
    return lambda graph, tensors, attributes, fixed: graph.call_function(function, tuple(tensors))


def _with_axis(function: Any, *, of_list: bool) -> Call:
    def call(graph: fx.Graph, tensors: Sequence[Any], attributes: Any, fixed: Any) -> fx.Node:
        first = list(tensors) if of_list else tensors[0]
        return graph.call_function(function, (first, attributes["axis"]))

    return call


_CALLS: dict[str, Call] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "Ceil": _plain(torch.ceil),
    "Clip": _clip,
    "Concat": _with_axis(torch.cat, of_list=True),
    "Conv": _conv,
    "Div": _plain(torch.div),
    "Gemm": _gemm,
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "Mul": _plain(torch.mul),
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": _plain(torch.relu),
    "Slice": _slice,
    "Softmax": _with_axis(torch.softmax, of_list=False),
    "Sqrt": _plain(torch.sqrt),
    "Sub": _plain(torch.sub),
}
