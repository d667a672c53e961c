"""A small student with a fitted head, and a data set that it classifies. Both are simulated.

The convolutions are random, their batch norms are measured and the head is solved by ridge
regression, so a bundle whose accuracy means something is made in about a second.
"""

from __future__ import annotations

import csv
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.pixels.preprocess import preprocess
from support.tiny import CLASSES, tiny_manifest

ARCHITECTURE = {
    "optical": {"width": 8, "blocks": [1, 1]},
    "sar": {"width": 4, "blocks": [1, 1]},
}
COLUMNS = ("optical", "sar", "label", "group", "split", "cover")
RIDGE = 0.1


def small_pair(label: int, cover: float, manifest: Manifest, rng: np.random.Generator):
    """One cloudy pair, uint16 DN and float32 dB; the class sets spectrum and texture."""
    size, bands = manifest.sample.height, len(manifest.modalities["optical"].channels)
    ramp = np.linspace(0, 1, bands)
    spectrum = 0.12 + 0.1 * np.cos(2 * np.pi * (ramp * (1 + label / 2) + label / 5))
    rows, columns = np.mgrid[:size, :size] / size
    waves = np.sin(2 * np.pi * ((1 + label) * rows + rng.uniform()) + 3 * columns)
    ground = spectrum[:, None, None] * (1 + 0.3 * waves) + _smooth(rng, (bands, size, size), 0.015)
    haze = _smooth(rng, (size, size), 1.0)
    cloud = haze >= np.quantile(haze, 1 - cover) if cover else np.zeros((size, size), bool)
    reflectance = np.where(cloud, 0.6 + 0.05 * haze, ground)
    backscatter = np.array([-9.0, -16.0])[:, None, None] - 2.0 * label + waves
    speckle = 10 * np.log10(rng.gamma(4.4, 1 / 4.4, (2, size, size)))
    optical = np.clip(reflectance * 1e4, 1, 1e4).astype(np.uint16)
    return optical, np.clip(backscatter + speckle, -34, -0.5).astype(np.float32)


def familiar_bundle(folder: Path) -> Bundle:
    """Export the small bundle with distances fitted on its training pairs; once per process."""
    manifest, files = _familiar()
    return Bundle.create(folder, manifest, files)


def small_index(folder: Path, manifest: Manifest, count: int = 96, seed: int = 0) -> Path:
    """Write ``count`` pairs as .npy files and their index.csv; a third each of train, val, test."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "index.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for i in range(count):
            label = i % len(manifest.classes)
            cover = float(rng.uniform(0, 0.9)) if i % 3 else 0.0
            optical, sar = small_pair(label, cover, manifest, rng)
            np.save(folder / f"{i}-optical.npy", optical)
            np.save(folder / f"{i}-sar.npy", sar)
            split = ("train", "val", "test")[i // len(manifest.classes) % 3]
            name = manifest.classes[label]
            row = (
                f"{i}-optical.npy",
                f"{i}-sar.npy",
                name,
                f"cell-{i // 4}",
                split,
                f"{cover:.4f}",
            )
            writer.writerow(row)
    return folder / "index.csv"


def small_bundle(
    folder: Path, patch_size: int = 32, architecture: dict = ARCHITECTURE, seed: int = 0
) -> Bundle:
    """Write a bundle as training leaves it: student.safetensors and manifest.json."""
    from safetensors.torch import save

    manifest = tiny_manifest(
        patch_size,
        name="small",
        architecture=architecture,
        provenance={"simulated": "all"},
    )
    state = {k: v.contiguous() for k, v in small_student(manifest, seed).state_dict().items()}
    return Bundle.create(folder, manifest, {"student.safetensors": save(state)})


def exported_bundle(folder: Path) -> Bundle:
    """A copy of the small bundle with student.onnx and reference.npz; made once per process."""
    manifest, files = _exported()
    return Bundle.create(folder, manifest, files)


def calibrated_bundle(folder: Path) -> Bundle:
    """A copy of the small bundle with student.int8.onnx as its model; made once per process."""
    manifest, files = _calibrated()
    return Bundle.create(folder, manifest, files)


@lru_cache(maxsize=1)
def _exported() -> tuple[Manifest, dict[str, bytes]]:
    from esccs_edge.export.to_onnx import export_student

    with tempfile.TemporaryDirectory() as folder:
        bundle = export_student(small_bundle(Path(folder)))
        return bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files}


@lru_cache(maxsize=1)
def _familiar() -> tuple[Manifest, dict[str, bytes]]:
    from safetensors.torch import save

    from esccs_edge.calibration.quantize import quantize_student
    from esccs_edge.export.to_onnx import export_student

    with tempfile.TemporaryDirectory() as folder:
        bundle = small_bundle(Path(folder, "bundle"))
        student = small_student(bundle.manifest)
        manifest = bundle.manifest.evolve(familiarity=fit_small_distances(student, bundle.manifest))
        weights = {k: v.contiguous() for k, v in student.state_dict().items()}
        files = {"student.safetensors": save(weights)}
        bundle = export_student(
            Bundle.create(Path(folder, "familiar"), manifest.evolve(files={}), files)
        )
        bundle = quantize_student(bundle, small_index(Path(folder, "pairs"), bundle.manifest))
        return bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files}


@lru_cache(maxsize=1)
def _calibrated() -> tuple[Manifest, dict[str, bytes]]:
    from esccs_edge.calibration.quantize import quantize_student

    with tempfile.TemporaryDirectory() as folder:
        bundle = exported_bundle(Path(folder, "bundle"))
        bundle = quantize_student(bundle, small_index(Path(folder, "pairs"), bundle.manifest))
        return bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files}


def small_student(manifest: Manifest, seed: int = 0):
    """A fitted `StudentNet` in eval mode."""
    import torch

    from esccs_edge.training.learning.networks import StudentNet
    from esccs_edge.training.scene_options import EncoderOptions

    torch.manual_seed(seed)
    sizes = {
        name: EncoderOptions(**{**part, "blocks": tuple(part["blocks"])})
        for name, part in manifest.architecture.items()
    }
    student = StudentNet(
        len(manifest.modalities["optical"].channels),
        len(manifest.modalities["sar"].channels),
        len(manifest.classes),
        **sizes,
    )
    optical, sar, availability, labels = map(torch.from_numpy, _training_tensors(manifest, seed))
    with torch.no_grad():
        _measure_batch_norms(student, optical, sar, availability)
        _solve_head(student, optical, sar, availability, labels)
    return student.eval()


def fit_small_distances(student, manifest: Manifest, seed: int = 0):
    """Fit the distances of a small student on what taught it, each fifth pair a place."""
    import torch

    from esccs_edge.training.judging.familiarity import Measured, fit

    *inputs, availability, labels = map(torch.from_numpy, _training_tensors(manifest, seed))
    places = np.array([f"place {i // 5}" for i in range(len(labels))])
    found = {}
    for i, distance in enumerate(student.add_distances()):
        there = availability[:, i] > 0
        statistics = distance.statistics(inputs[i][there], availability[there, i : i + 1])
        kinds = {"clouded": Measured(statistics, places[there.numpy()])}
        found[tuple(manifest.modalities)[i]] = fit(distance, kinds)
    return found


def _smooth(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    field = rng.normal(0, 1, shape)
    for axis in (-2, -1):
        field = sum(np.roll(field, shift, axis) for shift in range(-2, 3))
    return std * field / field.std()


def _training_tensors(manifest: Manifest, seed: int, count: int = 192):
    rng = np.random.default_rng(1000 + seed)
    labels = np.arange(count) % len(manifest.classes)
    covers = rng.uniform(0, 0.9, count) * (rng.uniform(size=count) < 0.7)
    pairs = [
        small_pair(int(k), float(c), manifest, rng) for k, c in zip(labels, covers, strict=True)
    ]
    use_optical = rng.uniform(size=count) > 0.15
    use_sar = (rng.uniform(size=count) > 0.15) | ~use_optical
    tensors = []
    for name, part, used in (("optical", 0, use_optical), ("sar", 1, use_sar)):
        out = np.zeros((count, *manifest.inputs[name].row), np.float32)
        images = [pair[part] if u else None for pair, u in zip(pairs, used, strict=True)]
        preprocess(images, manifest.modalities[name], out)
        tensors.append(out)
    availability = np.stack([use_optical, use_sar], axis=1).astype(np.float32)
    return *tensors, availability, labels


def _measure_batch_norms(student, *inputs) -> None:
    import torch

    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    student.train()
    student(*inputs)
    student.eval()


def _solve_head(student, optical, sar, availability, labels) -> None:
    import torch

    captured = []
    hook = student.head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    student(optical, sar, availability)
    hook.remove()
    features = torch.cat((captured[0], torch.ones(len(labels), 1)), 1).double()
    targets = 8 * torch.nn.functional.one_hot(labels, len(CLASSES)).double()
    normal = features.T @ features + RIDGE * torch.eye(features.shape[1], dtype=torch.double)
    solution = torch.linalg.solve(normal, features.T @ targets).float()
    student.head.weight.copy_(solution[:-1].T)
    student.head.bias.copy_(solution[-1])
