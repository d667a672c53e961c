"""Time series as normalized tensors, and which dates the student may see.

Everything drawn for a series depends on (seed, epoch, index) alone. Normalization is
`esccs_edge.pixels.preprocess`, the same function that runs on the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esccs_edge.contracts.modality import Modalities, ModalitySpec
from esccs_edge.contracts.types import Array, Mask
from esccs_edge.errors import InputError
from esccs_edge.pixels.preprocess import preprocess

from ..datasets.dataset import indices_of
from ..datasets.series import SeriesDataset
from ..options import require
from ..series_options import GapOptions
from ..simulate.missing_dates import Pattern, draw_pattern, keep_dates
from .epoch_samples import EpochSamples, Sample
from .specs import measured, optical_spec, sar_spec

#: Series of the training split that are measured for the contract.
MAX_SERIES = 2000


@dataclass(frozen=True)
class FixedGaps:
    """The same gaps for every method that is judged.

    Attributes:
        rate: Share of the observed dates that is lost.
        pattern: Which dates.
    """

    rate: float = 0.0
    pattern: Pattern = "uniform"


class SeriesSamples(EpochSamples):
    """One split of a data set.

    An item holds each sensor ``(C, T * H, W)`` with all observed dates, ``keep`` ``(M, T)``: which
    of them the student may see, ``label`` ``()`` or ``(H, W)`` and ``index``.

    Args:
        dataset: The data set.
        split: ``"train"``, ``"val"`` or ``"test"``.
        modalities: Contracts of the sensors to read.
        gaps: What is masked: drawn anew in each epoch, or fixed by the index.
        seed: Of everything drawn.
    """

    def __init__(
        self,
        dataset: SeriesDataset,
        split: str,
        modalities: Modalities,
        gaps: GapOptions | FixedGaps,
        seed: int = 0,
    ) -> None:
        super().__init__()
        dates = dataset.size[0]
        if isinstance(gaps, GapOptions):
            require(gaps.shift < dates, "gaps.shift", gaps.shift, f"less than the {dates} dates")
        self.dataset, self.split, self.modalities = dataset, split, modalities
        self.gaps, self.seed = gaps, seed
        self.indices = indices_of(dataset, split)
        self._months = None if dataset.calendar is None else dataset.calendar.months
        self._kept: dict[int, Sample] = {}

    def with_gaps(self, gaps: GapOptions | FixedGaps) -> SeriesSamples:
        """Return the same series, read and normalized once, with other gaps."""
        other = SeriesSamples(self.dataset, self.split, self.modalities, gaps, self.seed)
        other._kept = self._kept
        return other

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, position: int, epoch: int) -> Sample:
        """Return the series at a position, with the gaps drawn for an epoch."""
        index = int(self.indices[position])
        if index not in self._kept:
            self._kept[index] = self._tensors(index)
        sample = self._kept[index]
        if isinstance(self.gaps, GapOptions) and self.gaps.shift:
            rng = np.random.default_rng((self.seed, 1 + epoch, index, 2))
            slots = int(rng.integers(-self.gaps.shift, self.gaps.shift + 1))
            dates = self.dataset.size[0]
            sample = sample | {name: moved(sample[name], slots, dates) for name in self.modalities}
        observed = {name: seen_dates(sample[name], self.dataset.size) for name in self.modalities}
        keep = self._keep(observed, epoch, index)
        shown = torch.from_numpy(np.stack([keep[name] for name in self.modalities]))
        if isinstance(self.gaps, GapOptions) and self.gaps.noise:
            noise = np.random.default_rng((self.seed, 1 + epoch, index, 1))
            sample = sample | {
                name: noisy(sample[name], self.gaps.noise, noise) for name in self.modalities
            }
        return {**sample, "keep": shown}

    def _tensors(self, index: int) -> Sample:
        raw = self.dataset.series(index)
        found = {name: normalized(raw[name], spec) for name, spec in self.modalities.items()}
        label = torch.from_numpy(np.asarray(self.dataset.target(index), np.int64))
        return {**found, "label": label, "index": torch.tensor(index)}

    def _keep(self, observed: Mapping[str, Mask], epoch: int, index: int) -> dict[str, Mask]:
        """Mask dates of the first sensor: of optical, or of SAR where it is alone."""
        keep = dict(observed)
        first = next(iter(observed))
        if isinstance(self.gaps, FixedGaps):
            rng = np.random.default_rng((self.seed, index))
            keep[first] = keep_dates(
                observed[first], self.gaps.rate, self.gaps.pattern, rng, self._months
            )
            return keep
        rng = np.random.default_rng((self.seed, 1 + epoch, index))
        gaps = self.gaps
        if rng.uniform() >= gaps.complete_share:
            rate = rng.uniform(0, gaps.highest_rate)
            weights = {"uniform": gaps.uniform, "gap": gaps.gap, "seasonal": gaps.seasonal}
            pattern = draw_pattern(weights, rng)  # type: ignore[arg-type]
            keep[first] = keep_dates(observed[first], rate, pattern, rng, self._months)
        if len(observed) > 1 and rng.uniform() < gaps.drop_share:
            lost = list(observed)[int(rng.integers(len(observed)))]
            others = [keep[name].any() for name in observed if name != lost]
            if any(others):
                keep[lost] = np.zeros_like(keep[lost])
        return keep


def moved(series: Tensor, slots: int, dates: int) -> Tensor:
    """Return a series ``(C, T * H, W)`` so many of its T dates later; what leaves it is lost."""
    images = series.reshape(len(series), dates, -1, series.shape[-1])
    found = torch.zeros_like(images)
    if slots >= 0:
        found[:, slots:] = images[:, : dates - slots]
    else:
        found[:, :slots] = images[:, -slots:]
    return found.reshape(series.shape)


def noisy(series: Tensor, spread: float, rng: np.random.Generator) -> Tensor:
    """Return a normalized series ``(C, T * H, W)`` with noise on its valid pixels."""
    shape = tuple(series.shape)
    common, own = rng.normal(0, spread, (2, *shape))
    common = np.broadcast_to(common[:, :1, :1], shape)
    added = torch.from_numpy((0.5 * common + own).astype(np.float32))
    return torch.where((series != 0).any(dim=0), series + added, series)


def normalized(pixels: Array, spec: ModalitySpec) -> Tensor:
    """Return a raw series ``(C, T, H, W)`` as network input ``(C, T * H, W)``."""
    stacked = np.ascontiguousarray(pixels).reshape(len(pixels), -1, pixels.shape[-1])
    out = np.empty((1, *stacked.shape), np.float32)
    preprocess([stacked], spec, out, threads=1)
    return torch.from_numpy(out[0])


def seen_dates(series: Tensor, size: tuple[int, int, int]) -> Mask:
    """Return ``(T,)``: dates with a valid pixel; preprocessing makes others 0 in all channels."""
    seen = (series != 0).any(dim=0).reshape(size[0], -1).any(dim=1)
    return np.asarray(seen.numpy())


def series_specs(
    dataset: SeriesDataset, sensors: Sequence[str], seed: int = 0
) -> dict[str, ModalitySpec]:
    """Measure the contracts of the sensors on the training split.

    Raises:
        InputError: The data set lacks a sensor, or its values are of no known kind.
    """
    if missing := [name for name in sensors if name not in dataset.channels]:
        raise InputError(
            f"{dataset.name} has no {missing[0]} series, expected {', '.join(sensors)}",
            hint=f"Set series.sensors to {list(dataset.channels)}",
        )
    chosen = np.random.default_rng(seed).permutation(indices_of(dataset, "train"))[:MAX_SERIES]
    by_channels: dict[str, Any] = {"optical": optical_spec, "sar": sar_spec}
    found = {}
    for name in sensors:
        raw = [dataset.series(int(index))[name] for index in chosen]
        stacked = [pixels.reshape(len(pixels), -1, pixels.shape[-1]) for pixels in raw]
        if name in dataset.contracts:
            found[name] = measured(dataset.contracts[name], stacked)
            continue
        spec = by_channels[name](dataset.channels[name], stacked)
        found[name] = replace(spec, level="L2A") if spec.level == "L1C or L2A" else spec
    return found
