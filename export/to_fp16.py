"""Student ONNX in float32 -> the same student with its convolutions in float16.

A strongly typed TensorRT network takes its precision from the graph, so FP16 has to stand in the
ONNX. Pooling, gate and head stay float32: the gate's floor of 1e-12 does not exist in float16.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MODEL_FILES
from esccs_edge.errors import ArtifactError

#: Operations that may follow a convolution and stay in float16 with it.
_BETWEEN = frozenset({"Relu", "Clip", "Add", "MaxPool", "AveragePool", "Identity"})
_SUFFIX = "_float16"
_LARGEST = float(np.finfo(np.float16).max)


def add_float16(bundle: Bundle) -> Bundle:
    """Add ``student.fp16.onnx`` to the bundle; returns the extended bundle."""
    content = float16_model(bundle.read(MODEL_FILES["fp32"]))
    return bundle.add({MODEL_FILES["fp16"]: content})


def float16_model(content: bytes) -> bytes:
    """Convert a model; inputs and outputs stay float32.

    Every convolution becomes float16, and so does what lies between convolutions (activation,
    residual sum, pooling that keeps the image). All other nodes keep float32.

    Raises:
        ArtifactError: The model is quantized, has no convolution, or holds a weight beyond
            float16's range.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    _constants_to_initializers(graph)
    trunk = _trunk(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = {name for node in trunk for name in node.output}
    nodes: list[NodeProto] = []
    cast: set[str] = set()
    for node in graph.node:
        if id(node) not in {id(member) for member in trunk}:
            nodes.append(node)
            continue
        for name in _real_inputs(node):
            if name not in made and name not in weights and name not in cast:
                nodes.append(_cast(name, name + _SUFFIX, TensorProto.FLOAT16))
                cast.add(name)
        nodes.append(_halved(node))
        nodes.extend(_cast(name + _SUFFIX, name, TensorProto.FLOAT) for name in node.output)
    used = {name for node in trunk for name in _real_inputs(node)} & weights.keys()
    graph.initializer.extend(_halved_tensor(weights[name]) for name in sorted(used))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _trunk(graph: onnx.GraphProto) -> list[NodeProto]:
    """Convolutions, and the nodes fed by nothing but them and constants."""
    if any(node.op_type == "QuantizeLinear" for node in graph.node):
        raise ArtifactError("the model is quantized already, expected the float32 student")
    constants = {tensor.name for tensor in graph.initializer}
    inside: set[str] = set()
    trunk: list[NodeProto] = []
    for node in graph.node:
        between = node.op_type in _BETWEEN and any(name in inside for name in node.input)
        closed = all(name in inside or name in constants for name in _real_inputs(node))
        if node.op_type == "Conv" or between and closed:
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


def _real_inputs(node: NodeProto) -> Iterable[str]:
    return [name for name in node.input if name]


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _halved(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [name + _SUFFIX if name else "" for name in node.input]
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
    """Remove casts back to float32, and float32 weights, that nobody reads any more."""
    read = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    nodes = [node for node in graph.node if any(name in read for name in node.output)]
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
