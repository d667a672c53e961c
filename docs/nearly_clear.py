"""Validate recipes of benchmark B4 without its judge: nearly clear chips under simulated clouds.

B4 has no labeled validation pairs. What it has are chips of the held-out place that look nearly
clear: there the mean answer of the source models of all folds stands for the truth where it is
confident. These chips, with their real SAR, are judged as they are and under simulated clouds at
five covers. No label of the judge and no clear image is looked at. Where source models err, this
errs too. Beside it stands what is left of the source: the accuracy on the labeled clear images that
the source model learned.

    python docs/nearly_clear.py ../shared/data runs/clear --folds 2,3 --set auxiliary.blend=true
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esccs_edge.cli.training_options import training_options
from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.training.datasets.dataset import MemoryDataset
from esccs_edge.training.datasets.triplets import Chips
from esccs_edge.training.judging.judge import Predictor, batches, judge
from esccs_edge.training.methods import METHODS
from esccs_edge.training.methods.prepared import PREPARED
from esccs_edge.training.methods.shared import Shared
from esccs_edge.training.samples.degraded import Cover, Degradation
from esccs_edge.training.samples.real_target import RealTargetDataset, open_real_target
from esccs_edge.training.samples.samples import CloudySamples
from esccs_edge.training.scene_options import FoldOptions
from esccs_edge.training.stages.scene_classification.run import SceneRun

CONFIG = Path(__file__).parents[1] / "training" / "configs" / "b4-real.toml"
FOLDS = 6
#: Pixels between chips, which overlap here; seed of the simulated clouds.
STRIDE, SKY = 32, 7
#: Which chips are judged: by estimated clear share and confidence of the source models.
CLEAR, CONFIDENT = 0.75, 0.5


def in_memory(
    chips: Chips, kept: np.ndarray, labels: np.ndarray, classes: Sequence[str]
) -> MemoryDataset:
    """Return chips as a data set without clear images: clouds are laid on what they show."""
    pairs = [chips.pair(int(i)) for i in kept]
    return MemoryDataset(
        "nearly clear chips", tuple(classes), labels, tuple(chips.groups[i] for i in kept),
        ("test",) * len(kept), chips.optical_channels, chips.sar_channels,
        np.stack([optical for optical, _ in pairs]), np.stack([sar for _, sar in pairs]),
    )  # fmt: skip


def opened(data: Path, out: Path, fold: int, changes: Sequence[str]) -> SceneRun:
    """Open a fold of B4 as `compare` does."""
    options = training_options(CONFIG, {}, tuple(changes)).evolve(seed=fold, threads=1)
    triplets = data / "sen12ms-cr"
    dataset = open_real_target(
        f"eurosat:{data / 'eurosat-ms'}", f"sen12ms-cr:{triplets}", str(triplets / "judge.npz"),
        options,
    )  # fmt: skip
    return SceneRun.open(options.evolve(folds=FoldOptions()), dataset, out / f"seed-{fold}")


def samples(run: SceneRun, proxy: MemoryDataset, cover: Cover) -> CloudySamples:
    """Return the chips as tensors of a run."""
    optical, sar = run.modalities.values()
    return CloudySamples(proxy, "test", optical, sar, Degradation(cover=cover), SKY, draws=1)


@torch.no_grad()
def asked(run: SceneRun, chips: Chips) -> tuple[Tensor, Tensor]:
    """Return what the source model of a fold answers on all chips, and their clear share."""
    everything = np.arange(len(chips))
    proxy = in_memory(chips, everything, 0 * everything, run.dataset.classes)
    teacher, found = run.train_teacher(), list(batches(samples(run, proxy, 0.0)))
    answers = torch.cat([torch.softmax(teacher(batch["optical"]), dim=1) for batch in found])
    return answers, torch.cat([batch["reliability"] for batch in found])


def agreement(predict: Predictor, part: CloudySamples) -> float:
    """Return the percentage of answers that are the label."""
    found = judge(predict, [part])
    return 100 * float((found.probabilities.argmax(axis=1) == found.labels).mean())


def main() -> None:
    """Print one line per fold and method, in percent: source, as they are, under each bin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--folds", default="0,2,3,5", type=lambda text: list(map(int, text.split(",")))
    )
    parser.add_argument("--methods", default="source-only,optical-auxiliary,esccs")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    asked_for = parser.parse_args()
    runs = [opened(asked_for.data, asked_for.out, f, asked_for.changes) for f in range(FOLDS)]
    dataset = runs[0].dataset
    assert isinstance(dataset, RealTargetDataset)
    chips = replace(dataset.chips, stride=STRIDE, known_labels=(), classes=())
    answers, clear = zip(*(asked(run, chips) for run in runs), strict=True)
    mean = torch.stack(answers).mean(dim=0)
    usable = ((clear[0] >= CLEAR) & (mean.max(dim=1).values >= CONFIDENT)).numpy()
    print(
        f"{'fold':6}{'method':28}{'source':>6}{'chips':>6}  clear", *(f"{b:>7}" for b in CLOUD_BINS)
    )
    for fold in asked_for.folds:
        run = runs[fold]
        held = {
            g for g, s in zip(run.dataset.groups, run.dataset.splits, strict=True) if s == "test"
        }
        kept = np.flatnonzero(usable & np.isin(chips.groups, sorted(held)))
        if not len(kept):
            print(f"{fold:<6}no chip of {sorted(held)} looks nearly clear")
            continue
        proxy = in_memory(chips, kept, mean.argmax(dim=1).numpy()[kept], run.dataset.classes)
        covers: list[Cover] = [0.0, *(bin_range(place) for place in range(len(CLOUD_BINS)))]
        judged = [samples(run, proxy, cover) for cover in covers]
        learned = run.labeled_samples(Degradation(cover=0.0, sar="absent"))
        shared = Shared.train(run)
        known, chosen = run.every_answer(shared.teacher), shared.supervision.pseudo_labels
        answers_kept = known.probabilities[chosen.keep(known.probabilities, known.reliability)]
        by_class = torch.bincount(answers_kept.argmax(dim=1), minlength=len(run.dataset.classes))
        print(
            f"{fold:<6}kept {len(answers_kept)} of {len(known.labels)} views: {by_class.tolist()}"
        )
        for name in asked_for.methods.split(","):
            for need in METHODS[name].needs:
                shared = PREPARED[need](shared)
            predict = METHODS[name].predictor(shared)
            source, *right = (agreement(predict, part) for part in (learned, *judged))
            share = " ".join(f"{value:>7.0f}" for value in right)
            print(f"{fold:<6}{name:28}{source:>6.0f}{len(kept):>6}{share}", flush=True)


if __name__ == "__main__":
    main()
