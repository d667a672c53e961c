"""How the toy task is learned: one modality, a class per pixel, two stages, data from one file.

Importing it registers both halves of the task.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from esccs_edge.contracts.modality import ModalitySpec, SampleSpec
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.training.datasets.stored_samples import StoredSample
from esccs_edge.training.learning.losses import distillation_loss, soften
from esccs_edge.training.learning.tasks import register
from esccs_edge.training.options import RunOptions, Schedule
from esccs_edge.training.samples.epoch_samples import EpochSamples
from esccs_edge.training.stages.stage import Stage
from esccs_edge.training.stages.training_run import TrainingRun

from .toy_task import CLASSES, SIDE, ToyMapping


def write_toy_data(path: Path, count: int = 24, side: int = SIDE) -> Path:
    """Halves of an image are dark water or bright land; of four places two are for training."""
    rng = np.random.default_rng(7)
    maps = np.zeros((count, side, side), np.int64)
    for image, edge in zip(maps, rng.integers(side // 4, 3 * side // 4, count), strict=True):
        image[:, edge:] = 1
    levels = np.array([-8.0, -20.0, -14.0])[maps][:, None]
    pixels = (levels + rng.normal(0, 1, levels.shape)).astype(np.float32)
    splits = np.array(["train", "train", "val", "test"])[np.arange(count) % 4]
    np.savez(path, pixels=pixels, maps=maps, splits=splits)
    return path


@dataclass(frozen=True)
class ToyOptions(RunOptions):
    task: str = ToyMapping.name
    width: int = 4
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=20, batch_size=4, learning_rate=2e-2)
    )


@dataclass(frozen=True)
class ToyData:
    pixels: np.ndarray
    maps: np.ndarray
    splits: tuple[str, ...]
    name: str = "toy"
    classes: tuple[str, ...] = CLASSES

    @property
    def groups(self):
        return tuple(map(str, range(len(self))))

    def __len__(self):
        return len(self.maps)


class ToySamples(EpochSamples):
    def __init__(self, data: ToyData, spec: ModalitySpec, split: str) -> None:
        super().__init__(draws=1)
        self.data, self.spec = data, spec
        self.indices = np.flatnonzero(np.array(data.splits) == split)

    def __len__(self):
        return len(self.indices)

    def draw(self, position, epoch):
        index = self.indices[position]
        out = np.empty((1, *self.data.pixels.shape[1:]), np.float32)
        preprocess([self.data.pixels[index]], self.spec, out)
        labels = torch.from_numpy(self.data.maps[index])
        return {"radar": torch.from_numpy(out[0]), "availability": torch.ones(1), "target": labels}


class ToyNet(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, radar, availability):
        return self.head(torch.relu(self.first(radar))) * availability[:, :, None, None]


class ToyStage(Stage[ToyNet]):
    """Cross-entropy per pixel; a student imitates its teacher besides."""

    def __init__(self, run, name: str, teacher: ToyNet | None = None) -> None:
        options = run.options
        net = ToyNet(options.width, len(CLASSES))
        super().__init__(net, options.schedule, name, options.seed)
        if teacher is not None:
            self.keep_frozen(teacher=teacher)
        self.is_taught = teacher is not None

    def loss(self, batch):
        inputs = batch["radar"], batch["availability"]
        logits = self.net(*inputs)
        loss = nn.functional.cross_entropy(logits, batch["target"])
        if self.is_taught:
            target = soften(self.frozen("teacher")(*inputs))
            loss = loss + distillation_loss(target, logits, 1.0).mean()
        return loss, {}


class ToyRun(TrainingRun):
    def train_stage(self, name: str, teacher: ToyNet | None = None) -> ToyNet:
        self.seed_weights(name)
        return self.fit(ToyStage(self, name, teacher), self.samples("train"))

    def samples(self, split: str) -> ToySamples:
        return ToySamples(self.dataset, self.modalities["radar"], split)


@dataclass(frozen=True)
class ToyNetworks:
    teacher: ToyNet
    student: ToyNet


class ToyLearning:
    name = ToyMapping.name
    options_class = ToyOptions
    data_class = ToyData

    def open_data(self, options):
        stored = np.load(options.data)
        return ToyData(stored["pixels"], stored["maps"], tuple(stored["splits"].tolist()))

    def open(self, options, data, folder):
        known = data.pixels[np.array(data.splits) == "train"]
        radar = ModalitySpec(
            channels=("VV",), sensor="Sentinel-1 SAR-C", level="GRD IW", unit="dB", dn_scale=None,
            dn_offset=0.0, nodata=0.0, clip=(-35.0, 5.0), mean=(float(known.mean()),),
            std=(float(known.std()),),
        )  # fmt: skip
        sample = SampleSpec(*data.maps.shape[1:], options.pixel_size_m)
        return ToyRun(options, data, folder, {"radar": radar}, sample)

    def train(self, run):
        teacher = run.train_stage("teacher")
        return ToyNetworks(teacher, run.train_stage("student", teacher))

    def judge(self, run, networks):
        samples = run.samples("test")
        batch = torch.utils.data.default_collate([samples[i] for i in range(len(samples))])
        with torch.no_grad():
            answers = networks.student(batch["radar"], batch["availability"]).argmax(dim=1)
        right = float((answers == batch["target"]).float().mean())
        return {"test": {"student": {"pixel_accuracy": right}}}, 1.0

    def familiarity(self, run, networks):
        return {}

    def held_out(self, run):
        for index, split in enumerate(run.dataset.splits):
            if split != "train":
                pixels, target = run.dataset.pixels[index], run.dataset.maps[index]
                yield StoredSample(f"{split}-{index}", {"radar": pixels}, target, str(index), split)

    def simulated(self, run):
        return {"radar": "all of it"}

    def architecture(self, options):
        return {"width": options.width}

    def network(self, manifest):
        return ToyNet(manifest.architecture["width"], len(manifest.classes))


register(ToyLearning())
