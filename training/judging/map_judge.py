"""How good torch networks are on held-out maps, by cloud cover; used while training.

`evaluate_maps` judges a finished bundle through the public runtime instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.contracts.types import Array, Mask

from ..datasets.map_dataset import IGNORED, repeated
from ..learning.map_losses import on_grid_of
from ..samples.map_samples import MapDegradation, MapSamples
from ..stages.semantic_segmentation.run import MapNetworks, MapRun
from ..stages.semantic_segmentation.teacher import shown_clear
from ..stages.stage import Batch
from .map_metrics import PixelCounts
from .temperature import fit_temperature

BATCH_SIZE = 16
#: Pixels of a window that the temperature is fitted on.
FITTED_PIXELS = 64
#: Batch -> logits ``(N, K, H, W)``.
MapPredictor = Callable[[Batch], Tensor]


def held_out_maps(run: MapRun, split: str, *, clear: bool = False) -> list[MapSamples]:
    """Return a split as tensors: clear, or each window at one cover per cloud bin.

    Where the run takes the images as they are, so does the judgment.
    """
    clouds = run.options.clouds
    judged = MapDegradation(cover=0.0, mask=run.options.cloud_mask, textures=run.textures)
    if clear and not clouds.simulate:
        return [run.samples(replace(judged, cover=None, clear_share=1.0), split)]
    if not clouds.simulate:
        return [run.samples(replace(judged, cover=None), split)]
    # What judges is what the simulator did, whatever mask the networks learned by.
    judged = replace(judged, mask="simulator")
    if clear:
        return [run.samples(judged, split)]
    return [
        run.samples(replace(judged, cover=bin_range(position)), split)
        for position in range(len(CLOUD_BINS))
    ]


def batches(parts: Sequence[MapSamples]) -> Iterator[Batch]:
    """Iterate over sample sets in order."""
    for samples in parts:
        yield from DataLoader(samples, BATCH_SIZE)


@torch.no_grad()
def judge_maps(
    predictors: Mapping[str, MapPredictor], parts: Sequence[MapSamples], classes: int
) -> dict[str, PixelCounts]:
    """Ask networks about held-out maps, each drawn once for all, and count their answers."""
    counts = {name: PixelCounts(classes) for name in predictors}
    for name, _, answered in answered_maps(predictors, parts):
        counts[name].add(*answered)
    return counts


@torch.no_grad()
def answered_maps(
    predictors: Mapping[str, MapPredictor], parts: Sequence[MapSamples]
) -> Iterator[tuple[str, int, tuple[Array, Array, Mask, float]]]:
    """Yield network, position in the data set, and what `PixelCounts.add` takes."""
    for batch in batches(parts):
        targets = batch["target"].numpy()
        skies = [repeated(cloud > 0, targets.shape[1:]) for cloud in batch["cloud"].numpy()]
        covers, places = batch["cover"].tolist(), batch["index"].tolist()
        for name, predict in predictors.items():
            answers = on_grid_of(batch["target"], predict(batch)).argmax(dim=1).numpy()
            for place, *answered in zip(places, targets, answers, skies, covers, strict=True):
                yield name, place, tuple(answered)


@torch.no_grad()
def fit_map_temperature(predict: MapPredictor, parts: Sequence[MapSamples], seed: int) -> float:
    """Return the temperature that fits the confidence on some pixels of each window best."""
    rng = np.random.default_rng(seed)
    logits, labels = [], []
    for batch in batches(parts):
        answers = on_grid_of(batch["target"], predict(batch)).double().numpy()
        for answer, target in zip(answers, batch["target"].numpy(), strict=True):
            known = np.flatnonzero(target.ravel() != IGNORED)
            chosen = rng.permutation(known)[:FITTED_PIXELS]
            logits.append(answer.reshape(len(answer), -1)[:, chosen].T)
            labels.append(target.ravel()[chosen])
    found = np.concatenate(labels)
    return fit_temperature(np.concatenate(logits), found) if len(found) else 1.0


def score_maps(run: MapRun, networks: MapNetworks) -> tuple[dict[str, Any], float]:
    """Fit the student's temperature on the validation split and judge both networks.

    Returns:
        ``{split: {network: {overall, by_cloud}}, "simulated": [...], "cloud_mask": "..."}`` and
        the temperature; 1 where there is no validation split.
    """
    temperature = 1.0
    simulated = list(run.dataset.simulated) + ["clouds"] * run.options.clouds.simulate
    metrics: dict[str, Any] = {"simulated": simulated, "cloud_mask": run.options.cloud_mask}
    for split in ("val", "test"):
        if split not in run.dataset.splits:
            continue
        clear, under_clouds = held_out_maps(run, split, clear=True), held_out_maps(run, split)
        student = networks.student
        if split == "val":
            both = [*clear, *under_clouds]
            temperature = fit_map_temperature(of_student(student), both, run.options.seed)
        names = run.dataset.classes
        of_sky: tuple[tuple[dict[str, MapPredictor], list[MapSamples]], ...] = (
            (
                {
                    "teacher on clear images": of_teacher(networks.teacher),
                    "student on clear images": of_student(student),
                },
                clear,
            ),
            (
                {
                    "teacher": of_teacher(networks.teacher, sees="optical"),
                    "student": of_student(student),
                    "student, optical only": of_student(student, without="sar"),
                    "student, SAR only": of_student(student, without="optical"),
                },
                under_clouds,
            ),
        )
        metrics[split] = {
            name: counts.report(names)
            for predictors, parts in of_sky
            for name, counts in judge_maps(predictors, parts, len(names)).items()
        }
    return metrics, temperature


def of_teacher(teacher: torch.nn.Module, sees: str = "clear") -> MapPredictor:
    """Ask a teacher about the ``"clear"`` or the cloudy ``"optical"`` images, and SAR."""

    def predict(batch: Batch) -> Tensor:
        logits: Tensor = teacher(batch[sees], batch["sar"], shown_clear(batch)).logits
        return logits

    return predict


def of_student(student: torch.nn.Module, without: str = "") -> MapPredictor:
    """Ask a student, perhaps without a modality."""

    def predict(batch: Batch) -> Tensor:
        images = dict(batch)
        if without:
            images[without] = torch.zeros_like(batch[without])
            there = [float(name != without) for name in ("optical", "sar")]
            images["availability"] = batch["availability"] * torch.tensor(there)
        logits: Tensor = student(images["optical"], images["sar"], images["availability"])[0]
        return logits

    return predict
