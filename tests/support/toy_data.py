"""Radar images and maps of classes for the toy task, and a network with skips that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from esccs_edge.calibration.collect import session_with_tensors
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.rasters.pair_index import PairIndex, SampleRow, read_index, write_index

UNKNOWN = -1


def toy_index(folder: Path, bundle: Bundle, count: int = 96, seed: int = 0) -> PairIndex:
    """Write radar images and maps of what the float network sees in them.

    A twentieth of the pixels has another class, and the upper rows are not known.
    """
    rng = np.random.default_rng(seed)
    manifest = bundle.manifest
    folder.mkdir(parents=True, exist_ok=True)
    images = np.stack([radar_image(manifest, rng) for _ in range(count)])
    labels = answers(bundle.read("student.onnx"), manifest, images).argmax(axis=1)
    mistaken = rng.uniform(size=labels.shape) < 0.05
    labels[mistaken] = rng.integers(0, len(manifest.classes), mistaken.sum())
    labels[:, :2] = UNKNOWN
    rows = []
    for i, (image, target) in enumerate(zip(images, labels, strict=True)):
        files = folder / f"{i}-radar.npy", folder / f"{i}-target.npy"
        np.save(files[0], image)
        np.save(files[1], target.astype(np.int16))
        split = ("train", "val", "test")[i % 3]
        paths = {"radar": files[0]}
        rows.append(SampleRow(paths, None, f"place-{i // 2}", split, i % 5 / 5, files[1]))
    write_index(folder / "index.csv", rows)
    return read_index(folder / "index.csv", manifest.classes, ["radar"])


def radar_image(manifest: Manifest, rng: np.random.Generator) -> np.ndarray:
    """``(1, H, W)`` dB: smooth ground under speckle."""
    shape = (1, manifest.sample.height, manifest.sample.width)
    ground = rng.normal(0, 3, (1, 1, 1)) + 4 * _smooth(rng.normal(0, 1, shape))
    speckle = 10 * np.log10(rng.gamma(8, 1 / 8, shape))
    return np.clip(-14 + ground + speckle, -34, -1).astype(np.float32)


def network_inputs(manifest: Manifest, images: np.ndarray) -> dict[str, np.ndarray]:
    """Preprocessed radar images that are present as a whole."""
    spec = manifest.modalities["radar"]
    normalized = (np.clip(images, *spec.clip) - spec.mean[0]) / spec.std[0]
    shares = np.ones((len(images), 1), np.float32)
    return {"radar": normalized.astype(np.float32), "availability": shares}


def answers(content: bytes, manifest: Manifest, images: np.ndarray) -> np.ndarray:
    """Logits ``(N, K, H, W)`` of an ONNX file for radar images, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(["class_scores"], network_inputs(manifest, images))[0]


def encoder_decoder_onnx(manifest: Manifest, seed: int = 0) -> bytes:
    """An encoder, a residual block, two ways up, two skips and a head per pixel.

    Weights are random, but the head is fitted to tell dark, usual and bright ground apart.
    """
    constants = _random_constants(manifest, np.random.default_rng(seed))
    model = _encoder_decoder(manifest, constants)
    rng = np.random.default_rng(seed)
    images = np.stack([radar_image(manifest, rng) for _ in range(32)])
    inputs = network_inputs(manifest, images)
    features = session_with_tensors(model, ["last"]).run(["last"], inputs)[0]
    brightness = _smooth(images[:, 0])
    classes = np.digitize(brightness, np.quantile(brightness, (1 / 3, 2 / 3)))
    rows = np.concatenate([features, np.ones_like(features[:, :1])], axis=1)
    rows = np.moveaxis(rows, 1, -1).reshape(classes.size, -1)
    targets = 4 * np.eye(len(manifest.classes))[classes.ravel()]
    solution = np.linalg.lstsq(rows, targets, rcond=1e-3)[0].astype(np.float32)
    constants["head.weight"] = solution[:-1].T[:, :, None, None].copy()
    constants["head.bias"] = solution[-1]
    return _encoder_decoder(manifest, constants).SerializeToString()


def _random_constants(manifest: Manifest, rng: np.random.Generator) -> dict[str, np.ndarray]:
    classes, width = len(manifest.classes), 8
    shapes = {
        "down1": (width, 1, 3, 3), "down2": (2 * width, width, 3, 3),
        "same": (2 * width, 2 * width, 3, 3), "up": (2 * width, width, 2, 2),
        "merge": (width, 2 * width, 3, 3), "wide": (width, 2 * width, 3, 3),
        "head": (classes, 2 * width, 1, 1),
    }  # fmt: skip
    constants: dict[str, np.ndarray] = {
        "factors": np.array([1, 1, 2, 2], np.float32),
        "axes": np.array([2, 3], np.int64),
    }
    for name, shape in shapes.items():
        spread = 1.5 / np.sqrt(np.prod(shape[1:]))
        constants[f"{name}.weight"] = rng.normal(0, spread, shape).astype(np.float32)
        outputs = shape[1] if name == "up" else shape[0]
        constants[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    return constants


def _encoder_decoder(manifest: Manifest, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    def conv(name: str, source: str, target: str, kind: str = "Conv", **options):
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        return helper.make_node(kind, inputs, [target], name=name, **options)

    def node(kind: str, inputs: list[str], target: str, **options):
        return helper.make_node(kind, inputs, [target], name=target, **options)

    around = [1, 1, 1, 1]
    nodes = [
        conv("down1", "radar", "fine0", pads=around),
        node("Relu", ["fine0"], "fine"),
        conv("down2", "fine", "coarse0", pads=around, strides=[2, 2]),
        node("Relu", ["coarse0"], "coarse1"),
        conv("same", "coarse1", "residual", pads=around),
        node("Add", ["residual", "coarse1"], "coarse2"),
        node("Relu", ["coarse2"], "coarse"),
        conv("up", "coarse", "up0", "ConvTranspose", strides=[2, 2]),
        node("Relu", ["up0"], "upsampled"),
        node("Concat", ["upsampled", "fine"], "both", axis=1),
        conv("merge", "both", "merged0", pads=around),
        node("Relu", ["merged0"], "merged"),
        node("Resize", ["coarse", "", "factors"], "resized", mode="linear",
             coordinate_transformation_mode="half_pixel"),
        conv("wide", "resized", "widened", pads=around),
        node("Concat", ["merged", "widened"], "last", axis=1),
        conv("head", "last", "scores"),
        node("Unsqueeze", ["availability", "axes"], "share"),
        node("Mul", ["scores", "share"], "class_scores"),
    ]  # fmt: skip

    def info(tensor):
        return helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.shape)

    graph = helper.make_graph(
        nodes, "student", [info(t) for t in manifest.inputs.values()],
        [info(t) for t in manifest.outputs.values()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _smooth(field: np.ndarray) -> np.ndarray:
    for axis in (-2, -1):
        field = sum(np.roll(field, shift, axis) for shift in range(-2, 3))
    return field / field.std()
