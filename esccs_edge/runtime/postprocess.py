"""Logits, gate and pixel statistics -> one answer per pair: a `Prediction` or its own error.

Nothing here can fail a whole batch for the sake of one pair. A row holds about ten numbers, so it
is worked off without NumPy, whose calls would take several times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ..backends.base import LaneOutput
from ..contracts.manifest import Manifest, ModalitySpec
from ..contracts.values import NODATA_LABEL, Flag, Gate, PatchPair, PixelStats, Prediction
from ..errors import BackendError, EsccsError
from ..pixels.checks import flags_of, radiometry_problem

#: What every pair ends in; errors are values here, so that neighbours are unharmed.
Answer = Prediction | EsccsError


def predictions(
    output: LaneOutput, batch: Sequence[PatchPair], manifest: Manifest, *, retried: bool = False
) -> list[Answer]:
    """Return one answer per pair, in order.

    Args:
        output: What a lane returned for ``batch``.
        batch: The N pairs, as they were started.
        manifest: Contract of the model.
        retried: True if the backend failed once before it gave ``output``.

    Raises:
        BackendError: The arrays do not have one row per pair and one column per class.
    """
    _check_shapes(output, len(batch), len(manifest.classes))
    numbers = output.logits.tolist(), output.gate.tolist()
    rows = zip(batch, output.optical, output.sar, *numbers, strict=True)
    return [_answer(manifest, retried, *row) for row in rows]


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    """Return probabilities of K finite logits divided by ``temperature`` (Guo et al., 2017)."""
    highest = max(logits)
    weights = [math.exp((logit - highest) / temperature) for logit in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def _answer(
    manifest: Manifest,
    retried: bool,
    pair: PatchPair,
    optical: PixelStats,
    sar: PixelStats,
    logits: list[float],
    gate: list[float],
) -> Answer:
    if not optical.valid and not sar.valid:
        return _nodata(manifest, optical, sar)
    flags = {Flag.RETRIED} if retried else set()
    for pixels, stats, spec in (
        (pair.optical, optical, manifest.optical),
        (pair.sar, sar, manifest.sar),
    ):
        if (problem := _judge(pixels, stats, spec, flags)) is not None:
            return problem
    if not math.isfinite(sum(logits) + sum(gate)):
        return BackendError(
            "the network answered NaN or infinity for this pair, expected finite logits and gate",
            hint="A damaged or overflowing model does this; check it with `esccs-edge verify`",
        )
    probabilities = softmax(logits, manifest.temperature)
    confidence = max(probabilities)
    return Prediction(
        label=manifest.classes[probabilities.index(confidence)],
        confidence=confidence,
        probabilities=dict(zip(manifest.classes, probabilities, strict=True)),
        gate=Gate(gate[0], gate[1]),
        flags=frozenset(flags),
    )


def _judge(
    pixels: npt.NDArray[Any] | None, stats: PixelStats, spec: ModalitySpec, flags: set[Flag]
) -> EsccsError | None:
    """Add what one modality deserves to ``flags``, or return why its values are refused."""
    if pixels is None or not stats.valid:
        flags.add(Flag.MODALITY_MISSING)
        if stats.nonfinite:
            flags.add(Flag.NONFINITE_MASKED)
        return None
    is_dn = pixels.dtype.kind in "iu"
    flags |= flags_of(stats, spec, is_dn)
    return radiometry_problem(stats, spec, is_dn)


def _nodata(manifest: Manifest, optical: PixelStats, sar: PixelStats) -> Prediction:
    flags = {Flag.ALL_NODATA}
    if not optical.pixels or not sar.pixels:
        flags.add(Flag.MODALITY_MISSING)
    if optical.nonfinite or sar.nonfinite:
        flags.add(Flag.NONFINITE_MASKED)
    nothing = dict.fromkeys(manifest.classes, 0.0)
    return Prediction(NODATA_LABEL, 0.0, nothing, Gate(0.0, 0.0), frozenset(flags))


def _check_shapes(output: LaneOutput, pairs: int, classes: int) -> None:
    found = output.logits.shape, output.gate.shape, len(output.optical), len(output.sar)
    expected = (pairs, classes), (pairs, 2), pairs, pairs
    if found != expected:
        raise BackendError(
            f"the backend returned logits {found[0]} and gate {found[1]} with statistics of "
            f"{found[2]} and {found[3]} patches, expected {expected[0]}, {expected[1]} and {pairs}"
        )
