"""Stable, readable names for the nodes and tensors of an exported graph.

The exporter numbers them by internal counters and records the source lines of the machine it ran
on; calibration and error reports need names that stay, and the paths are of no use to a reader.
"""

from __future__ import annotations

from collections import Counter

import onnx

BATCH_AXIS = "N"


def with_stable_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with names from the weights, no traces of the exporting machine.

    A node that reads ``x.weight`` is called ``x`` (``x_1`` if another one reads it too), any other
    by its operator and a running number.
    A tensor is called after the node that makes it; graph inputs, outputs and weights keep theirs.
    """
    graph = model.graph
    parameters = {t.name for t in graph.initializer if "." in t.name}
    fixed = {value.name for value in (*graph.input, *graph.output)}
    renamed = _constant_names(graph, parameters)
    counter: Counter[str] = Counter()
    nodes = []
    for node in graph.node:
        name = _node_name(node, parameters, counter)
        for index, output in enumerate(node.output):
            if output not in fixed:
                renamed[output] = f"{name}.out" if index == 0 else f"{name}.out{index}"
        inputs = [renamed.get(i, i) for i in node.input]
        outputs = [renamed.get(o, o) for o in node.output]
        nodes.append(_clean_node(node, name, inputs, outputs))
    clean = onnx.helper.make_graph(
        nodes,
        "student",
        [_clean_value(v) for v in graph.input],
        [_clean_value(v) for v in graph.output],
        [_clean_tensor(t, renamed.get(t.name, t.name)) for t in graph.initializer],
    )
    result = onnx.helper.make_model(clean, opset_imports=list(model.opset_import))
    return onnx.shape_inference.infer_shapes(result, strict_mode=True, data_prop=True)


def _constant_names(graph: onnx.GraphProto, parameters: set[str]) -> dict[str, str]:
    """Number the constants that are no parameters, in the order in which nodes read them."""
    constants = {t.name for t in graph.initializer} - parameters
    used = dict.fromkeys(name for node in graph.node for name in node.input if name in constants)
    return {name: f"constant_{index}" for index, name in enumerate(used)}


def _node_name(node: onnx.NodeProto, parameters: set[str], counter: Counter[str]) -> str:
    for name in node.input:
        if name in parameters and name.endswith(".weight"):
            kept = str(name).removesuffix(".weight")
            counter[kept] += 1
            return kept if counter[kept] == 1 else f"{kept}_{counter[kept] - 1}"
    kind = node.op_type.lower()
    counter[kind] += 1
    return f"{kind}_{counter[kind] - 1}"


def _clean_node(
    node: onnx.NodeProto, name: str, inputs: list[str], outputs: list[str]
) -> onnx.NodeProto:
    clean = onnx.helper.make_node(node.op_type, inputs, outputs, name, domain=node.domain)
    clean.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    return clean


def _clean_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape = [BATCH_AXIS, *(axis.dim_value for axis in tensor.shape.dim[1:])]
    return onnx.helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


def _clean_tensor(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), name)
