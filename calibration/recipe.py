"""Where Q/DQ pairs go in a student's graph, and putting them there.

The recipe is the one TensorRT fuses best and refuses least: symmetric int8, weights per output
channel, activations per tensor; the input of every convolution and the shortcut side of every
residual add; never an add of a constant. Concatenations, pooling and resizing move values without
changing their scale, so that the Q/DQ pair of the convolution behind them serves what they read
too: TensorRT moves it in front of them. What makes the outputs stays float: a head of linear layers
or of a convolution per pixel, a gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

from esccs_edge.errors import ArtifactError

#: Operation -> axis of its weights that counts the output channels.
CHANNEL_AXES: Mapping[str, int] = {"Conv": 0, "ConvTranspose": 1}
_WEIGHTED = (*CHANNEL_AXES, "Gemm", "MatMul")


@dataclass(frozen=True)
class Recipe:
    """What becomes INT8.

    Attributes:
        convolutions: Nodes that read int8 data and int8 weights.
        activations: Tensors that get a Q/DQ pair, in the order of the graph.
        float_nodes: Nodes with weights that stay float.
    """

    convolutions: tuple[str, ...]
    activations: tuple[str, ...]
    float_nodes: tuple[str, ...]


def tensorrt_recipe(model: onnx.ModelProto, *, float_stems: bool = False) -> Recipe:
    """Choose nodes and tensors.

    Args:
        model: A float student; every node has a name.
        float_stems: Keep convolutions that read a graph input float, for inputs whose channels
            differ so much in range that one scale cannot serve them.

    Raises:
        ArtifactError: The graph has no convolution, or is quantized already.
    """
    graph = model.graph
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node):
        raise ArtifactError("the model is quantized already, expected a float model")
    inputs = [value.name for value in graph.input]
    weights = {tensor.name for tensor in graph.initializer}
    heads = _heads(graph)
    weighted = [node for node in graph.node if node.op_type in _WEIGHTED]
    chosen = [
        node
        for node in weighted
        if _is_quantizable(node, weights)
        and node.name not in heads
        and not (float_stems and node.input[0] in inputs)
    ]
    if not chosen:
        raise ArtifactError("the model has no convolution to quantize")
    names = {node.name for node in chosen}
    tensors = {node.input[0] for node in chosen} | set(_shortcuts(graph, names))
    order = [*inputs, *(name for node in graph.node for name in node.output)]
    return Recipe(
        convolutions=tuple(node.name for node in chosen),
        activations=tuple(name for name in order if name in tensors),
        float_nodes=tuple(node.name for node in weighted if node.name not in names),
    )


def channel_axes(quantized: onnx.ModelProto) -> dict[str, int]:
    """Return the axis of the channels of each int8 weight, by the name of its integers."""
    return {
        node.input[0]: attribute.i
        for node in quantized.graph.node
        for attribute in node.attribute
        if node.op_type == "DequantizeLinear" and attribute.name == "axis"
    }


def per_channel(ndim: int, axis: int) -> tuple[int, ...]:
    """Return the shape in which one value per channel broadcasts over a weight."""
    return tuple(-1 if i == axis else 1 for i in range(ndim))


def insert_qdq(
    model: onnx.ModelProto, recipe: Recipe, amax: Mapping[str, float]
) -> onnx.ModelProto:
    """Return a copy of the model with int8 weights and Q/DQ pairs.

    Args:
        model: The float student.
        recipe: What becomes INT8.
        amax: Largest magnitude to represent, for each tensor of ``recipe.activations``.
    """
    quantizer = QDQQuantizer(
        _copy(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=_ranges(recipe, amax),
        nodes_to_quantize=list(recipe.convolutions),
        nodes_to_exclude=[],
        op_types_to_quantize=list(CHANNEL_AXES),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": False,  # weights are stored as int8, so the file shrinks
            "QuantizeBias": False,  # TensorRT adds biases in float
            # A Q/DQ pair between convolution and add would keep TensorRT from fusing them.
            "OpTypesToExcludeOutputQuantization": list(CHANNEL_AXES),
        },
    )
    for name in recipe.activations:
        quantizer.quantize_activation_tensor(name)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    onnx.checker.check_model(result)
    return result


def _is_quantizable(node: onnx.NodeProto, weights: set[str]) -> bool:
    """Whether INT8 kernels exist: transposed convolutions in groups have none."""
    if node.op_type not in CHANNEL_AXES or node.input[1] not in weights:
        return False
    groups = [a.i for a in node.attribute if a.name == "group"]
    return node.op_type == "Conv" or groups in ([], [1])


def _heads(graph: onnx.GraphProto) -> set[str]:
    """Return the nodes with weights whose values reach an output through no other such node."""
    producer = {name: node for node in graph.node for name in node.output}
    heads, seen = set(), set()
    to_follow = [value.name for value in graph.output]
    while to_follow:
        node = producer.get(to_follow.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.op_type in _WEIGHTED:
            heads.add(node.name)
        else:
            to_follow.extend(node.input)
    return heads


def _shortcuts(graph: onnx.GraphProto, quantized: set[str]) -> list[str]:
    """Return the other side of each add of two activations that quantized convolutions make.

    Where both sides come from convolutions, the smaller kernel is the shortcut.
    """
    producer = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}

    def main_path_rank(name: str) -> int:
        node = producer.get(name)
        is_convolution = node is not None and node.name in quantized
        return int(np.prod(weights[node.input[1]].dims[2:])) if node and is_convolution else 0

    adds = (node for node in graph.node if node.op_type == "Add")
    return [
        min(reversed(node.input), key=main_path_rank)
        for node in adds
        if not any(name in weights for name in node.input)
        and any(main_path_rank(name) for name in node.input)
    ]


def _ranges(recipe: Recipe, amax: Mapping[str, float]) -> TensorsData:
    data = {
        name: TensorData(lowest=np.float32(-amax[name]), highest=np.float32(amax[name]))
        for name in recipe.activations
    }
    return TensorsData(CalibrationMethod.MinMax, data)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
