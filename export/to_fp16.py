"""Student ONNX in float32 -> the same student with its convolutions in float16.

A strongly typed TensorRT network takes its precision from the graph, so FP16 has to stand in the
ONNX. Inputs, outputs and what makes the outputs stay float32: a gate's floor of 1e-12 does not
exist in float16, and one rounding of a logit may change the class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MODEL_FILES
from esccs_edge.contracts.onnx_file import read_model
from esccs_edge.errors import ArtifactError

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_WEIGHTED = _CONVOLUTIONS | {"Gemm", "MatMul"}
#: Operations that may follow a convolution and stay in float16 with it: they keep the image.
_BETWEEN = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Clip", "Add", "Mul",
     "MaxPool", "AveragePool", "Concat", "Resize", "DepthToSpace", "Pad", "Identity"}
)  # fmt: skip
#: Operations of which only the first input holds values; the others say where and how far.
_PLACING = frozenset({"Resize", "Pad"})
_SUFFIX = "_float16"
_LARGEST = float(np.finfo(np.float16).max)


def add_float16(bundle: Bundle) -> Bundle:
    """Add ``student.fp16.onnx`` to the bundle; returns the extended bundle."""
    content = float16_model(read_model(bundle, MODEL_FILES["fp32"]), bundle.manifest.outputs)
    return bundle.add({MODEL_FILES["fp16"]: content})


def float16_model(content: bytes, exact_outputs: Collection[str]) -> bytes:
    """Convert a model; inputs and outputs stay float32.

    Every convolution becomes float16, and so does what lies between convolutions (activation,
    residual sum, concatenation, resizing, pooling that keeps the image). All other nodes keep
    float32.

    Args:
        content: The float32 student.
        exact_outputs: Names of outputs whose last layer with weights stays float32, be it a
            convolution. The student's are ``manifest.outputs``.

    Raises:
        ArtifactError: The model is quantized, has no convolution, or holds a weight beyond
            float16's range.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    _constants_to_initializers(graph)
    trunk = _trunk(graph, _heads(graph, exact_outputs))
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = {name for node in trunk for name in node.output}
    nodes: list[NodeProto] = []
    cast: set[str] = set()
    for node in graph.node:
        if made.isdisjoint(node.output):
            nodes.append(node)
            continue
        for name in _values(node):
            if name not in made and name not in weights and name not in cast:
                nodes.append(_cast(name, name + _SUFFIX, TensorProto.FLOAT16))
                cast.add(name)
        nodes.append(_halved(node))
        nodes.extend(_cast(name + _SUFFIX, name, TensorProto.FLOAT) for name in node.output)
    used = {name for node in trunk for name in _values(node)} & weights.keys()
    graph.initializer.extend(_halved_tensor(weights[name]) for name in sorted(used))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _heads(graph: onnx.GraphProto, outputs: Iterable[str]) -> set[str]:
    """Return what layers with weights make and no further such layer has to pass to an output."""
    producer = {name: node for node in graph.node for name in node.output}
    heads: set[str] = set()
    seen: set[str] = set()
    ahead = list(outputs)
    while ahead:
        name = ahead.pop()
        if name in seen or name not in producer:
            continue
        seen.add(name)
        if producer[name].op_type in _WEIGHTED:
            heads.add(name)
        else:
            ahead.extend(producer[name].input)
    return heads


def _trunk(graph: onnx.GraphProto, heads: set[str]) -> list[NodeProto]:
    """Convolutions but heads, and the nodes fed by nothing but these and constants."""
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        raise ArtifactError("the model is quantized already, expected the float32 student")
    constants = {tensor.name for tensor in graph.initializer}
    inside: set[str] = set()
    trunk: list[NodeProto] = []
    for node in graph.node:
        convolution = node.op_type in _CONVOLUTIONS and heads.isdisjoint(node.output)
        between = node.op_type in _BETWEEN and any(name in inside for name in _values(node))
        closed = all(name in inside or name in constants for name in _values(node))
        if convolution or between and closed:
            trunk.append(node)
            inside.update(node.output)
    if not trunk:
        raise ArtifactError("the model has no convolution, so there is nothing to run in float16")
    return trunk


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = [a.t for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and value:
            value[0].name = node.output[0]
            graph.initializer.append(value[0])
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _values(node: NodeProto) -> list[str]:
    """Return the inputs whose number type is that of the node."""
    inputs = list(node.input[:1] if node.op_type in _PLACING else node.input)
    if node.op_type == "Pad":
        inputs += node.input[2:3]  # what it pads with
    return [name for name in inputs if name]


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _halved(node: NodeProto) -> NodeProto:
    copy, values = NodeProto(), set(_values(node))
    copy.CopyFrom(node)
    copy.input[:] = [name + _SUFFIX if name in values else name for name in node.input]
    copy.output[:] = [name + _SUFFIX for name in node.output]
    return copy


def _halved_tensor(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if values.dtype != np.float32:
        raise ArtifactError(f"constant {tensor.name} is {values.dtype}, expected float32")
    if values.size and np.abs(values).max() > _LARGEST:
        raise ArtifactError(f"constant {tensor.name} exceeds the float16 range of {_LARGEST:.0f}")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name + _SUFFIX)


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove casts back to float32, and float32 weights, that no node reads any more."""
    read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    nodes = [node for node in graph.node if any(name in read for name in node.output)]
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
