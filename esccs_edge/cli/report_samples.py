"""The judged part of a report on label maps and series; `report` judges pairs of scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import numpy as np

from .progress import Progress

if TYPE_CHECKING:
    from esccs_edge.training.judging.sample_numbers import JudgedSample

    from ..contracts.bundle import Bundle
    from ..contracts.manifest import Manifest


class Judged(NamedTuple):
    """What labeled samples told.

    Attributes:
        data: Their name.
        numbers: As `report_page` takes them; None: nothing was judged.
        figures: Of the worst answers.
        examples: Which those are, in words.
        simulated: What of the samples was simulated, in words.
        missing: Why none were asked, or what they do not tell.
    """

    data: str | None = None
    numbers: dict[str, Any] | None = None
    figures: Sequence[str] = ()
    examples: str = ""
    simulated: Sequence[str] = ()
    missing: str = ""


def judge_samples(
    bundle: Bundle, index: str, asked: Mapping[str, Any], where: Mapping[str, Any]
) -> Judged:
    """Judge a bundle on the stored samples of an index.

    Args:
        bundle: Exported.
        index: An ``index.csv`` with the bundle's modalities, and ``label`` or ``target``.
        asked: ``split``, ``clouds_seeds`` and ``simulate_sar``, of which only the first is taken.
        where: Backend and precision.
    """
    from esccs_edge.training.judging.sample_numbers import judged_samples, sample_numbers

    from ..any_task import open_model
    from ..contracts.tasks import task_named
    from ..rasters.pair_index import read_index

    manifest = bundle.manifest
    if asked["clouds_seeds"] or asked["simulate_sar"]:
        raise click.UsageError(f"clouds and SAR are simulated for scenes only, not {manifest.task}")
    rows = read_index(index, manifest.classes, tuple(manifest.modalities))
    is_map = task_named(manifest.task).target == "map"
    is_series = manifest.sample.dates is not None
    with open_model(bundle, **where) as model, Progress("judge") as progress:
        answered = judged_samples(model, rows, asked["split"], progress)
        numbers, worst = sample_numbers(
            answered, manifest.classes, is_map=is_map, is_series=is_series
        )
    used = {i for i, row in enumerate(rows.rows) if row.split == asked["split"]}
    words = sorted({word for i in used for word in rows.rows[i].simulated})
    simulated = [f"{', '.join(words)} of the samples that are judged here"] if words else []
    shown = (
        "what the model saw, then the labels and its answer"
        if is_map
        else ("each channel by dates, missing ones light gray")
    )
    which = "fewest pixels right" if is_map else "wrong answers that the model was surest of"
    return Judged(index, numbers, [_figure(one, manifest) for one in worst],
                  f"{which[0].upper()}{which[1:]}; {shown}.", simulated)  # fmt: skip


def _figure(one: JudgedSample, manifest: Manifest) -> str:
    from ..view.report.examples import data_picture, label_picture, series_picture
    from ..view.report.page import example_figure

    dates, classes = manifest.sample.dates, manifest.classes
    pictures = [
        data_picture(pixels, spec)
        if dates is None or pixels is None
        else series_picture(pixels, spec, dates)
        for pixels, spec in ((one.pixels[n], s) for n, s in manifest.modalities.items())
    ]
    facts = [f"place {one.group}, sample {one.index}"]
    if np.isfinite(one.cover):
        lacks = "missing dates" if dates else "cloud"
        facts.append(f"{lacks} {one.cover:.0%}")
    if np.isfinite(one.gate):
        facts.append(f"gate: optical {one.gate:.2f}")
    if one.truth.ndim == 0:
        facts.append(f"confidence {int(one.percent)} %")
        return example_figure(
            pictures, _name(one.found, classes), f"instead of {classes[int(one.truth)]}", facts
        )
    pictures += [label_picture(one.truth, classes), label_picture(one.found, classes)]
    wrong = (one.truth >= 0) & (one.truth != one.found)
    truth, found = _prevailing(one.truth[wrong]), _prevailing(one.found[wrong])
    rest = f"right; most often {_name(found, classes)} instead of {classes[truth]}"
    return example_figure(pictures, f"{one.share_right:.0%}", rest, facts)


def _prevailing(numbers: Any) -> int:
    return int(np.bincount(numbers).argmax())


def _name(number: Any, classes: Sequence[str]) -> str:
    return classes[int(number)] if int(number) < len(classes) else "no answer"
