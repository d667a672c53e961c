"""Fits the distances by which the student knows unfamiliar patches, and what is familiar.

Kinds of samples (a clear sky, clouds, nothing but clouds) count alike in the fit, however many
there are of each. The distances that set a threshold are those of samples from places that the fit
they are measured by did not see: the network itself has no part in them, so training pairs serve as
well as held-out ones, and a model trained on all there is needs no others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from esccs_edge.contracts.familiarity import Familiarity

from ..learning.networks import StudentNet
from ..learning.pixel_distance import PixelDistance
from ..samples.degraded import Degradation
from ..samples.samples import CloudySamples
from ..stages.scene_classification.run import SceneRun, taught_sar

#: Share of the samples of the least familiar kind that may be told to be familiar. There are two
#: modalities, and either of them raises the flag.
QUANTILE = 0.985
#: Quantiles of the distance that the manifest records for each kind.
RECORDED = (0.5, 0.95, 0.99)
FOLDS = 5
#: Added to the correlations, so that what hardly varies in training cannot rule the distance.
SHRINKAGE = 0.1
#: Covers at which next to nothing of the ground is seen.
OVERCAST = (0.9, 1.0)
BATCH_SIZE = 64


@dataclass(frozen=True)
class Measured:
    """Statistics of one modality of the samples of one kind.

    Attributes:
        statistics: ``(N, F)``; see `PixelDistance.statistics`.
        places: ``(N,)`` place of each sample, by the name of its data set and its group there.
    """

    statistics: Tensor
    places: npt.NDArray[np.str_]


def fit_distances(run: SceneRun, student: StudentNet) -> dict[str, Familiarity]:
    """Give the student distances, fitted on the training pairs of its run.

    Returns:
        Modality name -> `Familiarity`.
    """
    distances = [cast(PixelDistance, part) for part in student.add_distances()]
    measured = {
        kind: _pooled([measure(part, distances) for part in parts])
        for kind, parts in familiar_kinds(run).items()
    }
    return {
        name: fit(distance, {kind: parts[i] for kind, parts in measured.items()})
        for i, (name, distance) in enumerate(zip(run.modalities, distances, strict=True))
    }


def familiar_kinds(run: SceneRun) -> dict[str, list[CloudySamples]]:
    """Return the training pairs as the student may meet them, by the name of the kind.

    Real pairs stand among the kinds of their sky: one place that is unlike all others must not set
    a threshold alone.
    """
    plain = Degradation(cover=0.0, augment=True, textures=run.textures, sar=taught_sar(run.options))
    kinds = {"clear": [run.samples(plain)]}
    if run.options.clouds.simulate:
        kinds["clouded"] = [run.samples(replace(plain, cover=(0.0, 1.0)))]
        kinds["overcast"] = [run.samples(replace(plain, cover=OVERCAST))]
    if run.real is not None:
        for kind, clear_share in (("clear", 1.0), ("clouded", 0.0)):
            as_they_are = Degradation(cover=0.0, augment=True, clear_share=clear_share)
            kinds.setdefault(kind, []).append(run.real_samples(as_they_are))
    return kinds


@torch.no_grad()
def measure(samples: CloudySamples, distances: list[PixelDistance]) -> list[Measured]:
    """Take the statistics of each modality, of the samples that have it."""
    dataset = samples.pairs.dataset
    names = np.array([f"{dataset.name}/{group}" for group in dataset.groups])
    found: list[list[Tensor]] = [[] for _ in distances]
    places: list[list[npt.NDArray[np.str_]]] = [[] for _ in distances]
    for batch in DataLoader(samples, BATCH_SIZE):
        inputs = batch["optical"], batch["sar"]
        shares = batch["availability"].split(1, dim=1)
        for i, (distance, pixels, share) in enumerate(zip(distances, inputs, shares, strict=True)):
            present = share[:, 0] > 0
            found[i].append(distance.statistics(pixels[present], share[present]))
            places[i].append(names[batch["index"][present].numpy()])
    return [
        Measured(torch.cat(statistics), np.concatenate(of_each))
        for statistics, of_each in zip(found, places, strict=True)
    ]


def _pooled(parts: Sequence[list[Measured]]) -> list[Measured]:
    """Put the statistics of several sources of one kind together, modality by modality."""
    return [
        Measured(
            torch.cat([part.statistics for part in modality]),
            np.concatenate([part.places for part in modality]),
        )
        for modality in zip(*parts, strict=True)
    ]


def fit(distance: PixelDistance, kinds: Mapping[str, Measured]) -> Familiarity:
    """Fit a distance on all samples, and find which distances are familiar by leaving places out.

    Raises:
        ValueError: No sample has the modality.
    """
    kinds = {kind: part for kind, part in kinds.items() if len(part.places)}
    if not kinds:
        raise ValueError("no sample to measure")
    places = np.unique(np.concatenate([part.places for part in kinds.values()]))
    folds = min(FOLDS, len(places))
    dealt = np.random.default_rng(0).permutation(len(places)) % folds
    fold = {k: dealt[np.searchsorted(places, part.places)] for k, part in kinds.items()}
    found: dict[str, list[Tensor]] = {kind: [] for kind in kinds}
    for left_out in range(folds):
        use = {k: fold[k] != left_out if folds > 1 else fold[k] == 0 for k in kinds}
        seen = [part.statistics[use[k]] for k, part in kinds.items() if use[k].any()]
        moments = _fitted(seen, distance.contrasts)
        for kind, part in kinds.items():
            found[kind].append(_distances(part.statistics[fold[kind] == left_out], *moments))
    by_kind = {kind: torch.cat(parts).numpy() for kind, parts in found.items()}
    seen = [part.statistics for part in kinds.values()]
    center, whitening = _fitted(seen, distance.contrasts)
    distance.center.copy_(center)
    distance.whitening.copy_(whitening)
    return Familiarity(
        threshold=max(_quantile(values, QUANTILE) for values in by_kind.values()),
        quantile=QUANTILE,
        samples=sum(map(len, by_kind.values())),
        places=len(places),
        quantiles={
            kind: {str(q): round(_quantile(values, q), 4) for q in RECORDED}
            for kind, values in by_kind.items()
        },
    )


def _fitted(kinds: list[Tensor], contrasts: Tensor) -> tuple[Tensor, Tensor]:
    """Return center ``(F,)`` and whitening ``(F, F)`` of the mixture of all kinds in equal parts.

    Correlations are shrunk toward none (Ledoit and Wolf, 2004, with a fixed intensity). They are
    those of the contrasts ``(F, F)``: what two statistics share would hide how they differ.
    """
    parts = [part.double() @ contrasts.double() for part in kinds]
    center = torch.stack([part.mean(dim=0) for part in parts]).mean(dim=0)
    covariance = torch.stack([(p - center).T @ (p - center) / len(p) for p in parts]).mean(dim=0)
    scale = covariance.diagonal().sqrt().clamp_min(1e-6)
    values, vectors = torch.linalg.eigh(covariance / scale[:, None] / scale)
    whitening = vectors / (values.clamp_min(0) + SHRINKAGE).sqrt() / scale[:, None]
    back = torch.linalg.solve(contrasts.double().T, center)
    return back.float(), (contrasts.double() @ whitening).float()


def _distances(statistics: Tensor, center: Tensor, whitening: Tensor) -> Tensor:
    return ((statistics - center) @ whitening).square().mean(dim=1).sqrt()


def _quantile(values: npt.NDArray[np.float32], share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 0.0
