"""Images of bytes that export adds behind logits and shares, for tasks that answer per pixel.

Float32 logits of every pixel are the largest part of what such a model would send back from a
device. Softmax, the largest and its place are worked out where the logits are; a byte per pixel
returns of each. The trained network's own outputs stay, so that every form can be held against it,
and the backends leave out what is not `Manifest.returned`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.tensor import NOT_FINITE, Role, Tensor
from esccs_edge.contracts.types import Array, Floats
from esccs_edge.errors import ManifestError

#: What 1 is in each kind of image.
IMAGE_UNITS: Mapping[Role, int] = {"confidence": 100, "percent": 100, "scores": 255}
#: A share in float16 may leave [0, 1] by rounding; anything further off is no share.
_SHARE_SLACK = 0.01


def with_answer_images(model: onnx.ModelProto, manifest: Manifest) -> onnx.ModelProto:
    """Return a copy of an exported graph that also answers the images of ``manifest.returned``.

    Raises:
        ManifestError: The task wants an image that cannot be made of its outputs.
    """
    images = [tensor for name, tensor in manifest.returned.items() if name not in manifest.outputs]
    if not images:
        return model
    made = _Nodes()
    probabilities = made.add("Softmax", made.times(manifest.logits, 1 / manifest.temperature),
                             axis=1)  # fmt: skip
    for tensor in images:
        if tensor.role == "label":
            made.add(
                "Cast", _places(made, manifest.logits), output=tensor.name, to=TensorProto.UINT8
            )
        elif tensor.role == "scores":
            made.bytes_of(made.times(probabilities, IMAGE_UNITS["scores"]), tensor.name)
        elif tensor.role == "confidence":
            top = made.add("ReduceMax", probabilities, made.axes(1), keepdims=0)
            made.percent_of(top, 0.5 / len(manifest.classes), tensor.name)
        elif tensor.role == "percent":
            first = made.add("Gather", _shares(manifest), made.constant(np.int64(0)), axis=1)
            made.percent_of(first, -_SHARE_SLACK, tensor.name)
        else:
            raise ManifestError(f"output {tensor.name!r} is {tensor.role}, which no graph can add")
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    extended.graph.node.extend(made.nodes)
    extended.graph.initializer.extend(made.constants)
    extended.graph.output.extend(
        helper.make_tensor_value_info(tensor.name, TensorProto.UINT8, tensor.shape)
        for tensor in images
    )
    return extended


def answer_images(outputs: Mapping[str, Floats], manifest: Manifest) -> dict[str, Array]:
    """Return what the graph makes of the network's outputs: its slow twin in NumPy."""
    logits = outputs[manifest.logits].astype(np.float64) / manifest.temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    values = {
        "label": logits.argmax(axis=1),
        "confidence": probabilities.max(axis=1) * IMAGE_UNITS["confidence"],
        "scores": probabilities * IMAGE_UNITS["scores"],
    }
    if any(tensor.role == "percent" for tensor in manifest.returned.values()):
        values["percent"] = outputs[_shares(manifest)][:, 0] * IMAGE_UNITS["percent"]
    return {
        name: outputs[name] if name in outputs else np.rint(values[tensor.role]).astype(np.uint8)
        for name, tensor in manifest.returned.items()
    }


class _Nodes:
    """Nodes and constants to add, with names that no exporter gives."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: int) -> str:
        output = output or f"image_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [output])
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        self.nodes.append(node)
        return output

    def constant(self, value: np.generic | Array) -> str:
        name = f"image_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def axes(self, *axes: int) -> str:
        return self.constant(np.array(axes, np.int64))

    def times(self, name: str, factor: float) -> str:
        return name if factor == 1 else self.add("Mul", name, self.constant(np.float32(factor)))

    def bytes_of(self, values: str, output: str) -> None:
        rounded = self.add("Round", values)
        self.add("Cast", rounded, output=output, to=TensorProto.UINT8)

    def percent_of(self, shares: str, lowest: float, output: str) -> None:
        """Write percent; `NOT_FINITE` for a share that no finite network answers, NaN above all.

        A comparison with NaN is false on every device, while maxima and casts of it differ.
        """
        high_enough = self.add("GreaterOrEqual", shares, self.constant(np.float32(lowest)))
        low_enough = self.add("LessOrEqual", shares, self.constant(np.float32(1 + _SHARE_SLACK)))
        known = self.add("And", high_enough, low_enough)
        full = self.constant(np.float32(IMAGE_UNITS["percent"]))
        percent = self.add("Mul", shares, full)
        bounded = self.add("Min", self.add("Max", percent, self.constant(np.float32(0))), full)
        missing = self.constant(np.float32(NOT_FINITE))
        self.bytes_of(self.add("Where", known, bounded, missing), output)


def _places(made: _Nodes, logits: str) -> str:
    """Return the position of the largest logit as float32, which every device casts to bytes."""
    places = made.add("ArgMax", logits, axis=1, keepdims=0)
    return made.add("Cast", places, to=TensorProto.FLOAT)


def _shares(manifest: Manifest) -> str:
    """Return the name of the output whose first channel is the share of the first modality."""
    found = [name for name, tensor in manifest.outputs.items() if _is_gate(tensor, manifest)]
    if len(found) != 1:
        raise ManifestError(
            f"task {manifest.task!r} has {len(found)} outputs of shares per pixel, expected one"
        )
    return found[0]


def _is_gate(tensor: Tensor, manifest: Manifest) -> bool:
    return tensor.role == "share" and tensor.row[:1] == (len(manifest.modalities),)
