"""Logits, gate and pixel statistics -> one answer per pair: a `Prediction` or its own error.

Nothing here can fail a whole batch for the sake of one pair. Numbers are made for the batch at
once; what the pixels deserve to be told (flags, refusals) is decided pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .backend import LaneOutput
from .errors import BackendError, EsccsError
from .manifest import Manifest, ModalitySpec
from .scene import NODATA_LABEL, Flag, Gate, PixelStats, Prediction, ScenePair
from .validate import flags_of, radiometry_problem

#: What every pair ends in; errors are values here, so that neighbours are unharmed.
Answer = Prediction | EsccsError


def predictions(
    output: LaneOutput, batch: Sequence[ScenePair], manifest: Manifest, *, retried: bool = False
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
    numbers = np.concatenate((output.logits, output.gate), axis=1)
    finite = np.asarray(np.isfinite(numbers).all(axis=1))
    probabilities = softmax(output.logits, manifest.temperature)
    rows = zip(
        batch,
        output.optical,
        output.sar,
        finite.tolist(),
        probabilities.tolist(),
        output.gate.tolist(),
        strict=True,
    )
    return [_answer(manifest, retried, *row) for row in rows]


def softmax(logits: npt.NDArray[np.floating[Any]], temperature: float) -> npt.NDArray[np.float64]:
    """Return probabilities ``(N, K)`` of logits divided by ``temperature`` (Guo et al., 2017).

    A row that holds NaN or an infinity becomes NaN without a warning; callers drop it.
    """
    with np.errstate(invalid="ignore"):
        scaled = logits.astype(np.float64) / temperature
        exponent = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def _answer(
    manifest: Manifest,
    retried: bool,
    pair: ScenePair,
    optical: PixelStats,
    sar: PixelStats,
    finite: bool,
    probabilities: list[float],
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
    if not finite:
        return BackendError(
            "the network answered NaN or infinity for this pair, expected finite logits and gate",
            hint="A damaged or overflowing model does this; check it with `esccs-edge verify`",
        )
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    return Prediction(
        label=manifest.classes[best],
        confidence=probabilities[best],
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
