"""Where Q/DQ pairs go in a student's graph, and putting them there.

The recipe is the one TensorRT fuses best and refuses least: symmetric int8, weights per output
channel, activations per tensor; the input of every convolution and the shortcut side of every
residual add; never an add of a constant. Gate, pooling and head stay float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

from esccs_edge.errors import ArtifactError


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
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    chosen = [
        node
        for node in weighted
        if node.op_type == "Conv" and not (float_stems and node.input[0] in inputs)
    ]
    if not chosen:
        raise ArtifactError("the model has no convolution to quantize")
    tensors = {node.input[0] for node in chosen} | set(_shortcuts(graph))
    order = [*inputs, *(name for node in graph.node for name in node.output)]
    names = {node.name for node in chosen}
    return Recipe(
        convolutions=tuple(node.name for node in chosen),
        activations=tuple(name for name in order if name in tensors),
        float_nodes=tuple(node.name for node in weighted if node.name not in names),
    )


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
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": False,  # weights are stored as int8, so the file shrinks
            "QuantizeBias": False,  # TensorRT adds biases in float
            # A Q/DQ pair between convolution and add would keep TensorRT from fusing them.
            "OpTypesToExcludeOutputQuantization": ["Conv"],
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


def _shortcuts(graph: onnx.GraphProto) -> list[str]:
    """Return, for each add of two activations, the side that skips the main path.

    That is the side not made by a convolution, or the one made by the smaller kernel.
    """
    producer = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}

    def main_path_rank(name: str) -> int:
        node = producer.get(name)
        return (
            int(np.prod(weights[node.input[1]].dims[2:])) if node and node.op_type == "Conv" else 0
        )

    adds = (node for node in graph.node if node.op_type == "Add")
    return [
        min(reversed(node.input), key=main_path_rank)
        for node in adds
        if not any(name in weights for name in node.input)
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
