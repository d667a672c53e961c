"""Which pairs measure the INT8 ranges, which judge the result: stratified, seeded, written down.

Strata are class x cloud bin, since cloudy pixels are the far end of every range and each class
reaches its own. The list goes into the bundle, so a calibration can be repeated and questioned.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esccs_edge.errors import InputError
from esccs_edge.rasters.pair_index import PairIndex, SampleRow

#: Lower edges of the cloud bins, as shares; the last bin includes 1.
CLOUD_BIN_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8)
UNKNOWN_COVER = "unknown"
#: Share of pairs shown with the optical patch alone, and with the SAR patch alone.
ABSENT_SHARE = 0.1
#: Fewer pairs than this can neither measure a range nor judge an accuracy.
MIN_PAIRS = 16

COLUMNS = ("purpose", "modalities", "optical", "sar", "label", "cover", "cloud_bin",
           "optical_sha256", "sar_sha256")  # fmt: skip


@dataclass(frozen=True)
class ChosenPair:
    """One pair of the list.

    Attributes:
        row: Its position in the index.
        label: Class name.
        cloud_bin: Such as ``"20-40"`` in percent, or ``"unknown"``.
        use_optical: The optical patch is shown to the network.
        use_sar: The SAR patch is shown to the network.
    """

    row: int
    label: str
    cloud_bin: str
    use_optical: bool
    use_sar: bool


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
    index: PairIndex, *, seed: int = 0, calibration_pairs: int = 256, held_out_pairs: int = 512
) -> PairList:
    """Draw the two disjoint parts, each as even over class x cloud bin as the data allows.

    No group stands in both parts, where there are groups enough.
    Rows of the split ``test`` are left alone where others suffice. Without a ``cover`` all pairs
    share one bin. `ABSENT_SHARE` of each part is shown without SAR and as many without optical.

    Raises:
        InputError: Fewer than `MIN_PAIRS` labeled pairs, or only one class.
    """
    rng = np.random.default_rng(seed)
    rows, notes = _usable_rows(index)
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in rows:
        strata[str(index.rows[i].label), cloud_bin(index.rows[i].cover)].append(i)
    _require_enough(index, rows, {label for label, _ in strata})
    if any(name == UNKNOWN_COVER for _, name in strata):
        notes.append("pairs without a cover stand in one bin, 'unknown'")
    wanted = _fit(len(rows), calibration_pairs, held_out_pairs)
    order = _round_robin([strata[key] for key in sorted(strata)], rng)
    calibration, held_out = _deal(order, wanted, [row.group for row in index.rows])
    if min(len(calibration), len(held_out)) < MIN_PAIRS // 2:
        notes.append("groups are too few to keep apart: both parts hold pairs of the same group")
        calibration, held_out = _deal(order, wanted, [str(i) for i in range(len(index))])
    return PairList(
        _with_absences(index, calibration, rng), _with_absences(index, held_out, rng), seed,
        tuple(notes),
    )  # fmt: skip


def cloud_bin(cover: float | None) -> str:
    """Return the bin of a cloud cover in [0, 1], in percent: ``"0-20"`` ... ``"80-100"``."""
    if cover is None:
        return UNKNOWN_COVER
    lower = max(edge for edge in CLOUD_BIN_EDGES if edge <= cover)
    return f"{lower * 100:.0f}-{lower * 100 + 20:.0f}"


def list_as_csv(index: PairIndex, pairs: PairList) -> str:
    """Return the list as CSV; paths are relative to the index, files are named by their digest."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for purpose, part in (("calibration", pairs.calibration), ("held-out", pairs.held_out)):
        for pair in part:
            row = index.rows[pair.row]
            used = [n for n, u in (("optical", pair.use_optical), ("sar", pair.use_sar)) if u]
            files = [row.paths[n] if n in used else None for n in ("optical", "sar")]
            writer.writerow((
                purpose, "+".join(used), *(_relative(f, index.folder) for f in files), pair.label,
                "" if row.cover is None else f"{row.cover:.4f}", pair.cloud_bin,
                *(_sha256(f) for f in files),
            ))  # fmt: skip
    return text.getvalue()


def _usable_rows(index: PairIndex) -> tuple[list[int], list[str]]:
    labeled = [i for i, row in enumerate(index.rows) if row.label is not None]
    apart = [i for i in labeled if index.rows[i].split != "test"]
    if len(apart) >= MIN_PAIRS:
        return apart, []
    return labeled, ["pairs of the split 'test' were used, since there are too few others"]


def _require_enough(index: PairIndex, rows: Sequence[int], labels: set[str]) -> None:
    if len(rows) < MIN_PAIRS:
        raise InputError(
            f"the index has {len(rows)} labeled pairs ({len(index.rows)} in all), expected at "
            f"least {MIN_PAIRS}",
            hint="Calibrate on pairs like those the model will see, some hundreds of them",
        )
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


def _with_absences(
    index: PairIndex, rows: Sequence[int], rng: np.random.Generator
) -> tuple[ChosenPair, ...]:
    complete = [i for i in rows if all(index.rows[i].paths.values())]
    count = max(1, round(ABSENT_SHARE * len(rows)))
    dropped = rng.permutation(complete)
    without_sar, without_optical = set(dropped[:count]), set(dropped[count : 2 * count])
    return tuple(
        _chosen(i, index.rows[i], i not in without_optical, i not in without_sar) for i in rows
    )


def _chosen(i: int, row: SampleRow, use_optical: bool, use_sar: bool) -> ChosenPair:
    return ChosenPair(
        i, str(row.label), cloud_bin(row.cover),
        row.paths["optical"] is not None and use_optical, row.paths["sar"] is not None and use_sar,
    )  # fmt: skip


def _relative(path: Path | None, folder: Path) -> str:
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _sha256(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
