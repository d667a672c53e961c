"""A small segmentation student taught for seconds, and the scenes that taught it. All simulated.

It has the inputs and outputs of the task and a head that serves training alone, so that export,
calibration and the runtime can be tested without a training run.
"""

from __future__ import annotations

import csv
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.pixels.preprocess import preprocess
from support.tiny import tiny_manifest

SIDE = 32
TASK = "semantic-segmentation"
STEPS = 80


class Scene(NamedTuple):
    """``optical (13, H, W)`` uint16, ``sar (2, H, W)`` dB, and ``(H, W)`` classes and clouds."""

    optical: np.ndarray
    sar: np.ndarray
    classes: np.ndarray
    cloud: np.ndarray


def scene(height: int, width: int, seed: int, cover: float = 0.3) -> Scene:
    """Patches of four classes under clouds; SAR separates them less well than clear optical."""
    rng = np.random.default_rng(seed)
    ground, haze = _smooth(rng, height, width, 4), _smooth(rng, height, width, 6)
    classes = np.digitize(ground, np.quantile(ground, np.sort(rng.uniform(0.1, 0.9, 3))))
    cloud = haze >= np.quantile(haze, 1 - cover) if cover else np.zeros(haze.shape, bool)
    ramp = np.linspace(0, 1, 13)[:, None, None]
    spectra = 0.12 + 0.09 * np.cos(2 * np.pi * (ramp * (1 + classes / 2) + classes / 5))
    clear = spectra + rng.normal(0, 0.012, spectra.shape)
    cloudy = 0.6 + 0.05 * haze + rng.normal(0, 0.012, spectra.shape)
    optical = np.clip(np.where(cloud, cloudy, clear) * 1e4, 1, 1e4).astype(np.uint16)
    speckle = 10 * np.log10(rng.gamma(4.4, 1 / 4.4, (2, height, width)))
    sar = np.array([-8.0, -15.0])[:, None, None] - 3.0 * classes + speckle
    return Scene(optical, np.clip(sar, -34, -0.5).astype(np.float32), classes, cloud)


def segmenter_manifest(side: int = SIDE, **changes) -> Manifest:
    return tiny_manifest(
        side, name="small-segmenter", task=TASK, architecture={"width": 8}, temperature=1.25,
        provenance={"simulated": "all"},
    ).evolve(**changes)  # fmt: skip


def segmenter_index(folder: Path, manifest: Manifest, count: int = 64) -> Path:
    """Write pairs and their maps as .npy files with an index.csv; a quarter is for testing."""
    folder.mkdir(parents=True, exist_ok=True)
    side = manifest.sample.height
    with open(folder / "index.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("optical", "sar", "label", "target", "group", "split", "cover"))
        for i in range(count):
            one = scene(side, side, 5000 + i, cover=(i % 5) / 5)
            files = [f"{i}-optical.npy", f"{i}-sar.npy", f"{i}-target.npy"]
            arrays = one.optical, one.sar, one.classes.astype(np.int16)
            for name, array in zip(files, arrays, strict=True):
                np.save(folder / name, array)
            split = ("train", "train", "val", "test")[i % 4]
            about = files[2], f"place {i}", split, f"{one.cloud.mean():.4f}"
            writer.writerow((*files[:2], "", *about))
    return folder / "index.csv"


def trained_segmenter(folder: Path) -> Bundle:
    """A bundle as training leaves it: student.safetensors and manifest.json."""
    return Bundle.create(folder, *_trained())


def exported_segmenter(folder: Path) -> Bundle:
    """With student.onnx and reference.npz too; made once per process."""
    return Bundle.create(folder, *_exported())


def calibrated_segmenter(folder: Path) -> Bundle:
    """With student.int8.onnx as its model; made once per process."""
    return Bundle.create(folder, *_calibrated())


def export_segmenter(bundle: Bundle, student=None) -> Bundle:
    """Export through the house's exporter, with this file's network in place of the trained one."""
    from esccs_edge.export import to_onnx

    class Learning:
        @staticmethod
        def network(manifest):
            return student or segmenter_net(manifest)

    with mock.patch.object(to_onnx, "learning_task", lambda name: Learning):
        return to_onnx.export_student(bundle)


def segmenter_net(manifest: Manifest):
    """The network, its weights random."""
    import torch
    from torch import nn

    width, classes = manifest.architecture["width"], len(manifest.classes)

    class Stream(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.fine = nn.Conv2d(channels, width, 3, padding=1)
            self.coarse = nn.Conv2d(width, 2 * width, 3, 2, 1)
            self.up = nn.Conv2d(3 * width, width, 3, padding=1)

        def forward(self, pixels):
            fine = torch.relu(self.fine(pixels))
            coarse = torch.relu(self.coarse(fine))
            back = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
            return torch.relu(self.up(torch.cat([fine, back], dim=1)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.optical, self.sar = (
                Stream(len(spec.channels)) for spec in manifest.modalities.values()
            )
            self.gate = nn.Conv2d(2 * width, 1, 3, padding=1)
            self.head = nn.Conv2d(width, classes, 1)
            self.removal = nn.Conv2d(width, len(manifest.modalities["optical"].channels), 3)

        def forward(self, optical, sar, availability):
            first, second = self.optical(optical), self.sar(sar)
            share = torch.sigmoid(self.gate(torch.cat([first, second], dim=1)))
            there = (availability > 0).float()[:, :, None, None]
            weights = torch.cat([share, 1 - share], dim=1) * there
            gate = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-12)
            fused = gate[:, :1] * first + gate[:, 1:] * second
            return self.head(fused), gate

    return Net()


@lru_cache(maxsize=1)
def _trained() -> tuple[Manifest, dict[str, bytes]]:
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    manifest = segmenter_manifest()
    net = segmenter_net(manifest)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    scenes = [scene(SIDE, SIDE, seed, cover=(seed % 5) / 5) for seed in range(64)]
    optical, sar = (_normalized(scenes, name, manifest) for name in manifest.modalities)
    classes = torch.from_numpy(np.stack([one.classes for one in scenes]))
    cloud = torch.from_numpy(np.stack([one.cloud for one in scenes])).float()
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        part = torch.from_numpy(rng.choice(len(scenes), 16, replace=False))
        there = torch.ones(16, 2)
        there[:2, 0], there[2:4, 1] = 0, 0
        inputs = (x[part] * there[:, i, None, None, None] for i, x in enumerate((optical, sar)))
        logits, gate = net(*inputs, there)
        loss = torch.nn.functional.cross_entropy(logits, classes[part])
        both = there.sum(dim=1) == 2
        share = gate[both, 0].clamp(1e-4, 1 - 1e-4)
        loss = loss + torch.nn.functional.binary_cross_entropy(share, 1 - cloud[part][both])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    state = {name: value.contiguous() for name, value in net.eval().state_dict().items()}
    return manifest, {"student.safetensors": save(state)}


@lru_cache(maxsize=1)
def _exported() -> tuple[Manifest, dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        return _content(export_segmenter(trained_segmenter(Path(folder))))


@lru_cache(maxsize=1)
def _calibrated() -> tuple[Manifest, dict[str, bytes]]:
    from esccs_edge.calibration.quantize import quantize_student

    with tempfile.TemporaryDirectory() as folder:
        bundle = exported_segmenter(Path(folder, "bundle"))
        index = segmenter_index(Path(folder, "pairs"), bundle.manifest)
        return _content(quantize_student(bundle, index))


def _content(bundle: Bundle) -> tuple[Manifest, dict[str, bytes]]:
    return bundle.manifest, {name: bundle.read(name) for name in bundle.manifest.files}


def _normalized(scenes, name: str, manifest: Manifest):
    import torch

    out = np.empty((len(scenes), *manifest.inputs[name].row), np.float32)
    preprocess([getattr(one, name) for one in scenes], manifest.modalities[name], out)
    return torch.from_numpy(out)


def _smooth(rng: np.random.Generator, height: int, width: int, reach: int) -> np.ndarray:
    field = rng.normal(0, 1, (height, width))
    for axis in (0, 1):
        for _ in range(2):
            field = sum(np.roll(field, shift, axis) for shift in range(-reach, reach + 1))
    return field / field.std()
