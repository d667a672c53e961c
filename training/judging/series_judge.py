"""A finished run of series classification: its scores, its temperature, its held-out series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.series import absent_value
from ..datasets.stored_samples import StoredSample
from ..learning.series.filling import carried_forward, interpolated
from ..learning.series.forest import SeriesForest
from ..learning.series.pixel_series import PixelSeriesNet
from ..samples.series_samples import FixedGaps
from ..stages.series.shown import availability
from .series_scores import Answerer, answered_series, answers, collated, judge_series
from .temperature import fit_temperature

if TYPE_CHECKING:
    from ..stages.series.classification_run import SeriesNetworks, SeriesRun

#: Missing rates of the series that calibration reads, in turn: the mix of a deployment.
HELD_OUT_RATES = (0.0, 0.3, 0.6)
#: Draws of gaps in which a forest sees each training series.
FOREST_DRAWS = 4


def judge_run(run: SeriesRun, networks: SeriesNetworks) -> tuple[dict[str, Any], float]:
    """Return ``{"test": {network: ...}}``, see `judge_series`, and the student's temperature."""
    rows, sensors = answerers(run, networks), tuple(run.modalities)
    test = run.samples("test", FixedGaps())
    found = judge_series(answered_series(rows, test, sensors), len(run.dataset.classes))
    val = run.samples("val", FixedGaps())
    parts = [collated(val.with_gaps(FixedGaps(rate)), sensors) for rate in HELD_OUT_RATES]
    logits = np.concatenate([answers(rows["student"], series) for series, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    known = labels >= 0
    return {"test": found}, fit_temperature(logits[known], labels[known])


def answerers(run: SeriesRun, networks: SeriesNetworks) -> dict[str, Answerer]:
    """Return all that is judged, by name.

    Beside the networks stand the teacher on masked series (``"teacher"``), and on series whose
    gaps are filled before by lines (``"teacher, interpolated"``) or by the last value; and, among
    the baselines, a random forest that learned on series with drawn gaps.
    """
    rows: dict[str, Answerer] = {
        "student": answerer(networks.student),
        "teacher": answerer(networks.teacher),
        "teacher, interpolated": _filled(networks.teacher, interpolated),
        "teacher, carried forward": _filled(networks.teacher, carried_forward),
        **{name: answerer(net) for name, net in networks.rows.items()},
    }
    if run.options.baselines:
        rows["random forest"] = _forest(run)
    return rows


def _forest(run: SeriesRun) -> Answerer:
    samples, parts = run.drawn(run.options.gaps), []
    for epoch in range(FOREST_DRAWS):
        samples.set_epoch(epoch)
        parts.append(collated(samples, tuple(run.modalities)))
    series = [torch.cat(one) for one in zip(*(part for part, _ in parts), strict=True)]
    forest = SeriesForest(run.options.seed).fit(series, np.concatenate([part[1] for part in parts]))
    classes = len(run.dataset.classes)
    return lambda shown, _: forest.logits(shown, classes)


def answerer(net: PixelSeriesNet) -> Answerer:
    """Return a network as a function of series and availability to logits."""
    return lambda series, shares: net.answer(series, shares).logits


def _filled(net: PixelSeriesNet, fill: Any) -> Answerer:
    def answer(series: Sequence[Tensor], _: Tensor) -> Tensor:
        whole = [fill(one) for one in series]
        return net.answer(whole, availability(whole)).logits

    return answer


def held_out_series(run: SeriesRun) -> Iterator[StoredSample]:
    """Yield labeled validation and test series with a third, two thirds or none of the gaps."""
    for split in ("val", "test"):
        for turn, rate in enumerate(HELD_OUT_RATES):
            samples = run.samples(split, FixedGaps(rate))
            for position in range(turn, len(samples), len(HELD_OUT_RATES)):
                sample = samples[position]
                index, label = int(sample["index"]), int(sample["label"])
                if label < 0:
                    continue
                raw = run.dataset.series(index)
                shown = {}
                for name, keep in zip(run.modalities, sample["keep"].numpy(), strict=True):
                    pixels = raw[name]
                    masked = np.where(keep[None, :, None, None], pixels, absent_value(pixels.dtype))
                    shown[name] = masked.astype(pixels.dtype).reshape(
                        len(pixels), -1, pixels.shape[-1]
                    )
                missing = 1 - float(sample["keep"][0].float().mean())
                yield StoredSample(
                    f"{split}-{index}", shown, run.dataset.classes[label],
                    run.dataset.groups[index], split, missing, run.dataset.simulated,
                )  # fmt: skip
