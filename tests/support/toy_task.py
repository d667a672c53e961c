"""A task that the package does not know: one modality, a map as output.

It shows that nothing between pixels and answers depends on two modalities, on a gate, on one class
per patch, or on the names of tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import BatchProfile, Manifest
from esccs_edge.contracts.modality import ModalitySpec, SampleSpec
from esccs_edge.contracts.task import input_tensors, prevailing_class
from esccs_edge.contracts.tasks import register
from esccs_edge.contracts.tensor import Tensor
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import BackendError

CLASSES = ("Land", "Water", "Ice")
SIDE = 16


@dataclass(frozen=True)
class ToyMap:
    """Class and probabilities of every pixel.

    Attributes:
        labels: ``(H, W)`` class numbers, or None without pixels.
        probabilities: ``(K, H, W)``, or None.
        flags: What to know about the pixels.
    """

    labels: np.ndarray | None
    probabilities: np.ndarray | None
    flags: frozenset[Flag] = field(default_factory=frozenset)


class ToyMapping:
    """One modality -> a class per pixel."""

    name = "toy-mapping"
    target = "map"
    measure = "balanced_accuracy"
    network = "two convolutions"

    def inputs(self, contract):
        return input_tensors(contract)

    def outputs(self, contract):
        grid = contract.sample.height, contract.sample.width
        return (Tensor("class_scores", ("N", len(contract.classes), *grid), "logits"),)

    def returned(self, contract):
        return self.outputs(contract)

    def rows(self, outputs, contract):
        return list(outputs["class_scores"])

    def answer(self, row, flags, contract):
        if not np.isfinite(row).all():
            return BackendError("the network answered NaN, expected finite scores")
        weights = np.exp((row - row.max(axis=0)) / contract.temperature)
        return ToyMap(row.argmax(axis=0), weights / weights.sum(axis=0), frozenset(flags))

    def stratum(self, labels):
        return prevailing_class(labels)

    def masked(self, answer, valid):
        return answer

    def without_pixels(self, flags, contract):
        return ToyMap(None, None, frozenset(flags))

    def is_same(self, first, second):
        return np.allclose(first.probabilities, second.probabilities, atol=0.02)

    def map_layers(self, contract):
        return ()

    def map_masks(self, contract):
        return ()

    def map_values(self, answer, contract):
        return None if answer.probabilities is None else np.float32(answer.probabilities)


register(ToyMapping())


def toy_manifest(side: int = SIDE, **changes) -> Manifest:
    radar = ModalitySpec(
        channels=("VV",), sensor="Sentinel-1 SAR-C", level="GRD IW", unit="dB", dn_scale=None,
        dn_offset=0.0, nodata=0.0, clip=(-35.0, 5.0), mean=(-14.0,), std=(5.0,),
    )  # fmt: skip
    return Manifest(
        name="toy",
        classes=CLASSES,
        modalities={"radar": radar},
        sample=SampleSpec(side, side, pixel_size_m=10.0),
        task=ToyMapping.name,
        batch=BatchProfile(1, 2, 4),
    ).evolve(**changes)


def toy_onnx(manifest: Manifest) -> bytes:
    """A 3 x 3 and a 1 x 1 convolution; dark pixels are water."""
    rng = np.random.default_rng(3)
    classes = len(manifest.classes)
    mean = np.full((1, 1, 3, 3), 1 / 9, np.float32)
    constants = {
        "smooth": np.concatenate([factor * mean for factor in (1, -1, 2, -2)]),
        "mix": rng.normal(0, 1, (classes, 4, 1, 1)).astype(np.float32),
        "bias": np.linspace(0, 0.3, classes, dtype=np.float32),
        "axis": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["radar", "smooth"], ["soft"], pads=[1, 1, 1, 1], name="conv_1"),
        helper.make_node("Relu", ["soft"], ["bent"], name="relu_1"),
        helper.make_node("Conv", ["bent", "mix", "bias"], ["mixed"], name="conv_2"),
        helper.make_node("Unsqueeze", ["availability", "axis"], ["share"], name="unsqueeze_1"),
        helper.make_node("Mul", ["mixed", "share"], ["class_scores"], name="mul_1"),
    ]

    def info(tensor: Tensor):
        return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.shape)

    graph = helper.make_graph(
        nodes,
        "toy",
        [info(tensor) for tensor in manifest.inputs.values()],
        [info(tensor) for tensor in manifest.outputs.values()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def toy_bundle(folder: Path, side: int = SIDE, **changes) -> Bundle:
    manifest = toy_manifest(side, **changes)
    return Bundle.create(folder, manifest, {"student.onnx": toy_onnx(manifest)})


def toy_pixels(manifest: Manifest, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    side = manifest.sample.height
    return np.clip(rng.normal(-14, 5, (1, side, side)), -34, -1).astype(np.float32)
