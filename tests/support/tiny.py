"""A model small enough to check by hand: channel means, availability gate, one linear layer.

It honors the same contract as a trained student, so every layer of the runtime can be tested
without torch and without training. `expected` is its NumPy twin.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import BatchProfile, Manifest
from esccs_edge.contracts.modality import ModalitySpec, SampleSpec
from esccs_edge.contracts.sensors import SENTINEL1_POLARIZATIONS, SENTINEL2_L1C_BANDS
from esccs_edge.contracts.values import PatchPair
from esccs_edge.pixels.checks import checked_sample

CLASSES = ("Forest", "River", "Residential", "SeaLake")
GATE_EPS = 1e-12


def tiny_manifest(patch_size: int = 16, **changes) -> Manifest:
    bands = len(SENTINEL2_L1C_BANDS)
    return Manifest(
        name="tiny",
        classes=CLASSES,
        modalities={
            "optical": ModalitySpec(
                channels=SENTINEL2_L1C_BANDS, sensor="Sentinel-2 MSI", level="L1C",
                unit="reflectance", dn_scale=1e-4, dn_offset=0.0, nodata=0.0, clip=(0.0, 1.0),
                mean=tuple(np.linspace(0.05, 0.3, bands).round(3).tolist()), std=(0.1,) * bands,
            ),
            "sar": ModalitySpec(
                channels=SENTINEL1_POLARIZATIONS, sensor="Sentinel-1 SAR-C", level="GRD IW",
                unit="dB", dn_scale=None, dn_offset=0.0, nodata=0.0, clip=(-35.0, 5.0),
                mean=(-11.8, -18.3), std=(4.5, 4.4),
            ),
        },
        sample=SampleSpec(patch_size, patch_size, pixel_size_m=10.0),
        batch=BatchProfile(1, 4, 8),
    ).evolve(**changes)  # fmt: skip


def weights(manifest: Manifest) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear layer ``(K, C + P)`` and its bias ``(K,)``."""
    rng = np.random.default_rng(7)
    features = len(manifest.modalities["optical"].channels) + len(
        manifest.modalities["sar"].channels
    )
    weight = rng.normal(0, 1, (len(manifest.classes), features)).astype(np.float32)
    return weight, rng.normal(0, 0.1, len(manifest.classes)).astype(np.float32)


def tiny_onnx(manifest: Manifest) -> bytes:
    weight, bias = weights(manifest)
    nodes = [
        helper.make_node("GlobalAveragePool", ["optical"], ["optical_pool"]),
        helper.make_node("Flatten", ["optical_pool"], ["optical_features"], axis=1),
        helper.make_node("GlobalAveragePool", ["sar"], ["sar_pool"]),
        helper.make_node("Flatten", ["sar_pool"], ["sar_features"], axis=1),
        helper.make_node("ReduceSum", ["availability", "axis"], ["total"], keepdims=1),
        helper.make_node("Max", ["total", "eps"], ["floored"]),
        helper.make_node("Div", ["availability", "floored"], ["gate"]),
        helper.make_node("Split", ["gate", "halves"], ["gate_optical", "gate_sar"], axis=1),
        helper.make_node("Mul", ["optical_features", "gate_optical"], ["gated_optical"]),
        helper.make_node("Mul", ["sar_features", "gate_sar"], ["gated_sar"]),
        helper.make_node("Concat", ["gated_optical", "gated_sar"], ["gated"], axis=1),
        helper.make_node("Gemm", ["gated", "weight", "bias"], ["logits"], transB=1),
    ]
    constants = {
        "weight": weight,
        "bias": bias,
        "axis": np.array([1], np.int64),
        "halves": np.array([1, 1], np.int64),
        "eps": np.array([GATE_EPS], np.float32),
    }
    shapes = {**manifest.inputs, **manifest.outputs}

    def info(name: str):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name].shape)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(name) for name in manifest.inputs],
        [info(name) for name in manifest.outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def tiny_bundle(folder: Path, patch_size: int = 16, **changes) -> Bundle:
    manifest = tiny_manifest(patch_size, **changes)
    return Bundle.create(folder, manifest, {"student.onnx": tiny_onnx(manifest)})


def expected(
    manifest: Manifest, optical: np.ndarray, sar: np.ndarray, availability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """NumPy twin of the graph: normalized inputs ``(N, ...)`` -> logits, gate."""
    weight, bias = weights(manifest)
    gate = availability / np.maximum(availability.sum(1, keepdims=True), GATE_EPS)
    features = np.concatenate(
        [gate[:, :1] * optical.mean((2, 3)), gate[:, 1:] * sar.mean((2, 3))], axis=1
    )
    return features @ weight.T + bias, gate


def raw_pair(manifest: Manifest, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels in the manifest's raw form: uint16 DN and float32 dB."""
    rng = np.random.default_rng(seed)
    size = manifest.sample.height
    optical = rng.integers(
        200, 6000, (len(manifest.modalities["optical"].channels), size, size), np.uint16
    )
    sar = rng.normal(-14, 4, (len(manifest.modalities["sar"].channels), size, size)).astype(
        np.float32
    )
    return optical, np.clip(sar, -34, -1)


def checked_pair(optical, sar, manifest: Manifest, memory=None) -> PatchPair:
    """Check one optical and one SAR patch, as a classifier does."""
    sample = checked_sample({"optical": optical, "sar": sar}, manifest, memory)
    return PatchPair(*sample.pixels.values())


def linear_sar(manifest: Manifest) -> Manifest:
    """The same contract for SAR that comes in as linear sigma0."""
    return manifest.with_modality("sar", manifest.modalities["sar"].stored_as("linear"))
