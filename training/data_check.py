"""Looks a labeled data set over before any time is spent on it: counts, files, leaks, values.

Training refuses the first thing it cannot use; this lists them all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import Modalities, SampleSpec
from esccs_edge.contracts.types import Array, Progress
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import EsccsError, InputError
from esccs_edge.rasters.pair_index import SPLITS, PairIndex, read_index

from .datasets.index import IndexDataset, reading_spec
from .samples.specs import optical_spec, sar_spec
from .samples.usable import (
    ImageHomes,
    Repeats,
    as_the_instrument,
    judged_pair,
    label_notes,
    pair_name,
)

#: Pairs whose pixels say what the values are, where no model is given.
_MEASURED_PAIRS = 50
#: Fewer training pairs of a class are pointed out.
FEW_PAIRS = 20


@dataclass
class DataCheck:
    """What a data set holds, and what is wrong with it.

    Attributes:
        pairs: Split -> class -> pairs; unlabeled ones under ``""``.
        places: Split -> groups.
        modalities: Modality -> pairs that have it.
        simulated: What is not real -> pairs.
        problems: What training or evaluation refuse.
        notes: What to look at.
    """

    pairs: dict[str, dict[str, int]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    simulated: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"usable": not self.problems, **vars(self)}


def check_index(
    path: str | Path, manifest: Manifest | None = None, progress: Progress | None = None
) -> DataCheck:
    """Read every pair of an index file and say what is wrong with it.

    Args:
        path: The ``index.csv``.
        manifest: Contract of a model that is to read the pairs, or None for a model to be trained.
        progress: Called with (pairs done, pairs in all).

    Raises:
        InputError: The file is not an index at all; the message names the line.
    """
    found = DataCheck()
    index = read_index(path, None if manifest is None else manifest.classes, missing=found.problems)
    _count(index, found)
    found.problems += _torn_groups(index)
    if not index.rows:
        return found
    try:
        dataset = IndexDataset(_every_group_in_one_split(index), manifest)
    except EsccsError as error:
        found.problems.append(str(error))
        return found
    found.notes += label_notes(dataset, is_taught=manifest is not None)
    found.notes += _thin_classes(found)
    _look_at_pixels(dataset, manifest, found, progress)
    return found


def _count(index: PairIndex, found: DataCheck) -> None:
    for split in SPLITS:
        rows = [row for row in index.rows if row.split == split]
        found.pairs[split] = dict(sorted(Counter(row.label or "" for row in rows).items()))
        found.places[split] = len({row.group for row in rows})
    for name in index.rows[0].paths if index.rows else ():
        found.modalities[name] = sum(row.paths[name] is not None for row in index.rows)
    found.simulated = dict(Counter(what for row in index.rows for what in row.simulated))
    if index.rows and not found.modalities.get("sar", 1):
        found.notes.append("no pair has SAR: training will simulate all of it, and says so")


def _torn_groups(index: PairIndex) -> Iterator[str]:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in index.rows:
        splits[row.group].add(row.split)
    for group, torn in splits.items():
        if len(torn) > 1:
            yield (
                f"group {group!r} is in the splits {', '.join(sorted(torn))}, expected one: pairs "
                "of one place look alike"
            )


def _every_group_in_one_split(index: PairIndex) -> PairIndex:
    """Return the index with groups that are told apart by split; torn ones are reported already."""
    rows = tuple(replace(row, group=f"{row.split} {row.group}") for row in index.rows)
    return replace(index, rows=rows)


def _thin_classes(found: DataCheck) -> Iterator[str]:
    thin = {c: n for c, n in found.pairs["train"].items() if c and n < FEW_PAIRS}
    if thin:
        listed = ", ".join(f"{name} {count}" for name, count in thin.items())
        yield f"fewer than {FEW_PAIRS} training pairs of {listed}"
    for split in ("val", "test"):
        if not found.pairs[split]:
            yield f"no pair is in split {split}"


def _look_at_pixels(
    dataset: IndexDataset, manifest: Manifest | None, found: DataCheck, progress: Progress | None
) -> None:
    measured = _contracts(dataset, manifest, found)
    homes = ImageHomes(dataset)
    suspect, repeats = [], Repeats(dataset)
    for index in range(len(dataset)):
        if progress is not None:
            progress(index + 1, len(dataset))
        try:
            pair = dataset.pair(index)
        except EsccsError as error:
            found.problems.append(f"{pair_name(dataset, index)}: {error}")
            continue
        repeats.add(index, pair)
        try:
            homes.add(index, pair)
        except InputError as error:
            found.problems.append(error.message)
        if measured is None:
            continue
        try:
            flags = judged_pair(dataset, index, pair, *measured)
        except InputError as error:
            found.problems.append(str(error))
            continue
        if Flag.RADIOMETRY_SUSPECT in flags:
            suspect.append(pair_name(dataset, index))
    if suspect:
        found.notes.append(
            f"the values of {len(suspect)} of {len(dataset)} pairs look wrong, the first of "
            f"{suspect[0]}"
        )
    found.notes += repeats.notes()


def _contracts(
    dataset: IndexDataset, manifest: Manifest | None, found: DataCheck
) -> tuple[Modalities, SampleSpec] | None:
    """Return how the pairs are to be read; None where their pixels do not tell."""
    if manifest is not None:
        return manifest.modalities, manifest.sample
    optical, sar = _some_pixels(dataset)
    measured = {}
    try:
        if optical:
            measured["optical"] = optical_spec(dataset.optical_channels, optical)
        if sar:
            measured["sar"] = sar_spec(dataset.sar_channels, sar)
    except EsccsError as error:
        found.problems.append(str(error))
        return None
    if not measured:
        return None
    height, width = (optical or sar)[0].shape[1:]
    if height != width:
        found.problems.append(f"patches have {height} x {width} pixels, expected square ones")
        return None
    absent = reading_spec(("absent",))
    specs = {name: as_the_instrument(measured.get(name, absent)) for name in ("optical", "sar")}
    return specs, SampleSpec(height, width, 10.0)


def _some_pixels(dataset: IndexDataset) -> tuple[list[Array], list[Array]]:
    optical: list[Array] = []
    sar: list[Array] = []
    step = max(len(dataset) // _MEASURED_PAIRS, 1)
    for index in range(0, len(dataset), step):
        try:
            pair = dataset.pair(index)
        except EsccsError:
            continue  # reported when its turn comes
        for kept, image in zip((optical, sar), pair, strict=True):
            if image is not None:
                kept.append(image)
    return optical, sar
