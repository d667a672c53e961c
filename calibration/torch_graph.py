"""An INT8 graph as a network that can learn: every Q/DQ pair becomes fake quantization.

The Q/DQ graph itself is run, node by node, so what learns and what is written cannot differ in
where they round. Any exported bundle will do, since only its ONNX file is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor

from esccs_edge.errors import ArtifactError

from .recipe import CHANNEL_AXES, per_channel
from .torch_operations import OPERATIONS

#: Largest level of a symmetric int8; a weight reaches both ends, an activation one more below.
TOP_LEVEL = 127
#: Scale of a channel whose weights are all zero, which has none of its own.
TINY = 1e-30
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


class FakeQuantGraph:
    """A Q/DQ graph with learnable weights, biases and activation scales.

    Gradients pass a rounding as if it were not there (Bengio et al., 2013) and stop where a value
    is clipped; the logarithm of a scale is learned, so that it stays positive and changes in
    proportion (Jain et al., 2020). Weights are held in units of their own first scale and biases in
    units of what they are added to, so one learning rate suits channels of any size.

    Attributes:
        weights: Weight name -> the weight in its units.
        biases: Bias name -> ``(C_out,)`` in its units.
        log_scales: Activation name -> logarithm of its scale.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        quantized: onnx.ModelProto,
        outputs: Collection[str] | None = None,
    ) -> None:
        """Take rounding from ``quantized`` and exact weights from ``model``, the float student.

        Only what leads to ``outputs``, all by default, is run: images of bytes behind the network
        have no gradient.

        Raises:
            ArtifactError: A node has no counterpart here.
        """
        self._outputs = list(outputs or (value.name for value in quantized.graph.output))
        self._nodes = _leading_to(self._outputs, quantized.graph.node)
        self._constants = _tensors(quantized)
        self._attributes = [_attributes(node) for node in self._nodes]
        for node in self._nodes:
            if node.op_type not in OPERATIONS and node.op_type not in _QUANTIZERS:
                raise ArtifactError(
                    f"node {node.name!r} is a {node.op_type}, expected one of {sorted(OPERATIONS)}",
                    hint="A graph with this operation can be calibrated but not fine-tuned",
                )
        exact = _tensors(model)
        self.weights: dict[str, Tensor] = {}
        self.biases: dict[str, Tensor] = {}
        self.log_scales: dict[str, Tensor] = {}
        self._units: dict[str, Tensor] = {}
        self._weight_of: dict[str, str] = {}
        self._channel_axes: dict[str, int] = {}
        producer = {name: node for node in self._nodes for name in node.output}
        for node in self._nodes:
            if node.op_type == "QuantizeLinear":
                scale = self._constants[node.input[1]]
                self.log_scales[node.input[0]] = scale.log().requires_grad_()
            if node.op_type in CHANNEL_AXES and node.input[1] in producer:
                self._add_convolution(node, producer, exact)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph; returns its outputs by name."""
        values = {**self._constants, **inputs, **{n: self.exact(n) for n in self.biases}}
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            name = node.input[0]
            found: Tensor | tuple[Tensor, ...]
            if node.op_type == "QuantizeLinear":
                found = _on_levels(values[name], self.log_scales[name].exp(), TOP_LEVEL + 1)
            elif node.op_type == "DequantizeLinear":
                weight = self._weight_of.get(name)
                found = values[name] if weight is None else self._rounded_weight(weight)
            else:
                arguments = [values[n] if n else None for n in node.input]
                found = OPERATIONS[node.op_type](attributes, *arguments)
            parts = found if isinstance(found, tuple) else (found,)
            values.update(zip(node.output, parts, strict=True))
        return {name: values[name] for name in self._outputs}

    def exact(self, name: str) -> Tensor:
        """Return a weight or bias before rounding, in its own unit."""
        multiples = self.weights[name] if name in self.weights else self.biases[name]
        return multiples * self._units[name]

    def amax(self) -> dict[str, float]:
        """Return the largest magnitude that each activation represents."""
        return {
            name: TOP_LEVEL * float(log.detach().exp()) for name, log in self.log_scales.items()
        }

    def learned_into(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a copy of the float student with the learned weights and biases."""
        tuned = onnx.ModelProto()
        tuned.CopyFrom(model)
        for tensor in tuned.graph.initializer:
            if tensor.name in self._units:
                value = self.exact(tensor.name).detach().numpy()
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        return tuned

    def _add_convolution(
        self, node: onnx.NodeProto, producer: Mapping[str, onnx.NodeProto], exact: dict[str, Tensor]
    ) -> None:
        integers, scales = producer[node.input[1]].input[:2]
        name = integers.removesuffix("_quantized")
        scale = self._constants[scales]
        axis = CHANNEL_AXES[node.op_type]
        unit = scale.reshape(per_channel(exact[name].ndim, axis))
        self._weight_of[integers] = name
        self._channel_axes[name] = axis
        self._units[name] = unit
        self.weights[name] = (exact[name] / unit).requires_grad_()
        if len(node.input) > 2:
            # One level of the input, through the largest weight of the channel.
            of_input = self._constants[producer[node.input[0]].input[1]]
            self._units[node.input[2]] = unit = TOP_LEVEL * scale * of_input
            self.biases[node.input[2]] = (exact[node.input[2]] / unit).requires_grad_()

    def _rounded_weight(self, name: str) -> Tensor:
        """Round to the levels that the largest weight of each channel sets, as writing does."""
        weight = self.exact(name)
        others = [axis for axis in range(weight.ndim) if axis != self._channel_axes[name]]
        largest = weight.detach().abs().amax(others, keepdim=True)
        return _on_levels(weight, (largest / TOP_LEVEL).clamp_min(TINY), TOP_LEVEL)


def _leading_to(outputs: Collection[str], nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    return kept[::-1]


def _on_levels(values: Tensor, scale: Tensor, lowest: int) -> Tensor:
    levels = (values / scale).clamp(-lowest, TOP_LEVEL)
    return (levels + (levels.round() - levels).detach()) * scale


def _tensors(model: onnx.ModelProto) -> dict[str, Tensor]:
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
