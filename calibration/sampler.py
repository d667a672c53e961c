"""Which pairs measure the INT8 ranges, which judge the result: stratified, seeded, written down.

Strata are class x cloud bin, since cloudy pixels are the far end of every range and each class
reaches its own; of a map of classes the one with most pixels counts. The list goes into the bundle,
so that a calibration can be repeated and questioned.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from esccs_edge.contracts.cloud_bins import UNKNOWN_COVER, cloud_bin_name
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError
from esccs_edge.rasters.pair_index import PairIndex, SampleRow

from .rows import class_of, has_maps

#: Share of pairs shown without each of several modalities.
ABSENT_SHARE = 0.1
#: Maps of classes that are read for each one that is wanted, so that rare classes are found.
MAPS_PER_PAIR = 2
#: Fewer pairs than this can neither measure a range nor judge an accuracy.
MIN_PAIRS = 16


@dataclass(frozen=True)
class ChosenPair:
    """One pair of the list.

    Attributes:
        row: Its position in the index.
        label: Class name; of a map of classes, the one with most pixels.
        cloud_bin: Such as ``"20-40"`` in percent, or ``"unknown"``.
        modalities: Those that are shown to the network.
    """

    row: int
    label: str
    cloud_bin: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class PairList:
    """The chosen pairs; no row is in both parts.

    Attributes:
        calibration: Measure the ranges.
        held_out: Choose the method and state the accuracy.
        seed: Of the drawing.
        notes: What a reader of the result should know about the data.
    """

    calibration: tuple[ChosenPair, ...]
    held_out: tuple[ChosenPair, ...]
    seed: int
    notes: tuple[str, ...]


def draw_pairs(
    index: PairIndex,
    manifest: Manifest,
    *,
    seed: int = 0,
    calibration_pairs: int = 256,
    held_out_pairs: int = 512,
) -> PairList:
    """Draw the two disjoint parts, each as even over class x cloud bin as the data allows.

    No group stands in both parts, where there are groups enough.
    Rows of the split ``test`` are left alone where others suffice. Without a ``cover`` all pairs
    share one bin. Where there are several modalities, `ABSENT_SHARE` of each part is shown without
    the last one, as many without the one before it, and so on.

    Raises:
        InputError: Fewer than `MIN_PAIRS` labeled pairs, or only one class.
        RasterError: A map of classes cannot be read.
    """
    rng = np.random.default_rng(seed)
    limit = MAPS_PER_PAIR * (calibration_pairs + held_out_pairs)
    labels, notes = _usable_rows(index, manifest, limit, rng)
    rows = list(labels)
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, label in labels.items():
        strata[label, cloud_bin_name(index.rows[i].cover)].append(i)
    if not has_maps(manifest):  # a map may show many classes while one of them prevails everywhere
        _require_classes(set(labels.values()))
    if any(name == UNKNOWN_COVER for _, name in strata):
        notes.append("pairs without a cover stand in one bin, 'unknown'")
    wanted = _fit(len(rows), calibration_pairs, held_out_pairs)
    order = _round_robin([strata[key] for key in sorted(strata)], rng)
    calibration, held_out = _deal(order, wanted, [row.group for row in index.rows])
    if min(len(calibration), len(held_out)) < MIN_PAIRS // 2:
        notes.append("groups are too few to keep apart: both parts hold pairs of the same group")
        calibration, held_out = _deal(order, wanted, [str(i) for i in range(len(index))])
    first, second = (
        _chosen(index, part, labels, manifest, rng) for part in (calibration, held_out)
    )
    return PairList(first, second, seed, tuple(notes))


def list_as_csv(index: PairIndex, manifest: Manifest, pairs: PairList) -> str:
    """Return the list as CSV; paths are relative to the index, files are named by their digest."""
    names = list(manifest.modalities)
    maps = ["target"] if has_maps(manifest) else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((
        "purpose", "modalities", *names, "label", "cover", "cloud_bin",
        *(f"{name}_sha256" for name in names), *maps, *(f"{name}_sha256" for name in maps),
    ))  # fmt: skip
    for purpose, part in (("calibration", pairs.calibration), ("held-out", pairs.held_out)):
        for pair in part:
            row = index.rows[pair.row]
            files = [row.paths[name] if name in pair.modalities else None for name in names]
            targets = [row.target for _ in maps]
            writer.writerow((
                purpose, "+".join(pair.modalities), *(_relative(f, index.folder) for f in files),
                pair.label, "" if row.cover is None else f"{row.cover:.4f}", pair.cloud_bin,
                *(_sha256(f) for f in files),
                *(_relative(f, index.folder) for f in targets), *(_sha256(f) for f in targets),
            ))  # fmt: skip
    return text.getvalue()


def _usable_rows(
    index: PairIndex, manifest: Manifest, limit: int, rng: np.random.Generator
) -> tuple[dict[int, str], list[str]]:
    """Return the class of each row that may be drawn, by its position, and notes.

    A map has to be read to know its class, so that only ``limit`` of them are, in random order.
    """

    def labeled(rows: list[int]) -> dict[int, str]:
        order = rng.permutation(rows).tolist() if has_maps(manifest) else rows
        labels = ((i, class_of(index, i, manifest)) for i in order)
        known = ((i, label) for i, label in labels if label is not None)
        return dict(islice(known, limit) if has_maps(manifest) else known)

    test = [i for i, row in enumerate(index.rows) if row.split == "test"]
    found = labeled([i for i, row in enumerate(index.rows) if row.split != "test"])
    if len(found) >= MIN_PAIRS:
        return found, []
    found |= labeled(test)
    if len(found) < MIN_PAIRS:
        raise InputError(
            f"the index has {len(found)} labeled pairs ({len(index.rows)} in all), expected at "
            f"least {MIN_PAIRS}",
            hint="Calibrate on pairs like those the model will see, some hundreds of them",
        )
    return found, ["pairs of the split 'test' were used, since there are too few others"]


def _require_classes(labels: set[str]) -> None:
    if len(labels) < 2:
        raise InputError(
            f"all pairs have the class {labels.pop()!r}, expected two or more classes",
            hint="Ranges measured on one class clip the others; add pairs of the other classes",
        )


def _fit(available: int, calibration: int, held_out: int) -> tuple[int, int]:
    """Shrink both parts alike when there are fewer pairs than wanted."""
    if min(calibration, held_out) < MIN_PAIRS // 2:
        raise InputError(
            f"{calibration} calibration and {held_out} held-out pairs are wanted, expected at "
            f"least {MIN_PAIRS // 2} each"
        )
    share = min(1.0, available / (calibration + held_out))
    first = min(max(int(calibration * share), MIN_PAIRS // 2), available - MIN_PAIRS // 2)
    return first, min(held_out, available - first)


def _round_robin(strata: list[list[int]], rng: np.random.Generator) -> list[int]:
    """Shuffle each stratum, then take one of each in turn until all are empty."""
    shuffled = [rng.permutation(rows).tolist() for rows in strata]
    turns = max(map(len, shuffled))
    return [rows[turn] for turn in range(turns) for rows in shuffled if turn < len(rows)]


def _deal(
    order: Sequence[int], wanted: tuple[int, int], groups: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Deal rows out in proportion, so that both parts see every stratum early.

    A group belongs to the part that got its first row, since its pairs may show one place.
    """
    parts: tuple[list[int], list[int]] = ([], [])
    side_of: dict[str, int] = {}
    for row in order:
        behind = len(parts[0]) * wanted[1] <= len(parts[1]) * wanted[0]
        side = side_of.setdefault(groups[row], 0 if behind else 1)
        if len(parts[side]) < wanted[side]:
            parts[side].append(row)
    return parts


def _chosen(
    index: PairIndex,
    rows: Sequence[int],
    labels: Mapping[int, str],
    manifest: Manifest,
    rng: np.random.Generator,
) -> tuple[ChosenPair, ...]:
    hidden = _absences([index.rows[i] for i in rows], list(manifest.modalities), rng)
    chosen = []
    for i, absent in zip(rows, hidden, strict=True):
        paths = index.rows[i].paths
        shown = tuple(name for name in manifest.modalities if paths[name] and name != absent)
        chosen.append(ChosenPair(i, labels[i], cloud_bin_name(index.rows[i].cover), shown))
    return tuple(chosen)


def _absences(
    rows: Sequence[SampleRow], modalities: Sequence[str], rng: np.random.Generator
) -> list[str | None]:
    """Return the modality that each row is shown without; None where it is shown whole."""
    hidden: list[str | None] = [None] * len(rows)
    if len(modalities) == 1:
        return hidden
    complete = [i for i, row in enumerate(rows) if all(row.paths.values())]
    count = max(1, round(ABSENT_SHARE * len(rows)))
    dropped = iter(rng.permutation(complete).tolist())
    for name in reversed(modalities):
        for i in islice(dropped, count):
            hidden[i] = name
    return hidden


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _sha256(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
