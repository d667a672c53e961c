"""Do all peers give the same answers? Only then are their times worth comparing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge.errors import BackendError

from . import FLOAT32_PEERS, OURS

#: float32 sums in another order, as a share of the largest logit.
FLOAT32_TOLERANCE = 1e-4
#: What int8 and bfloat16 may move a logit by, as a share of the largest one. A label may differ
#: only where the two best classes are closer than that.
REDUCED_TOLERANCE = 0.15
#: Peers to measure the others by, the most independent first.
_REFERENCES = ("onnxruntime-fp32", "torch-eager", "openvino-fp32", "torch-compile", "opencv-dnn")


@dataclass(frozen=True)
class Agreement:
    """How far a peer's answers on the timed pairs are from those of others.

    Attributes:
        peer: Whose answers.
        labels: Share of pairs with the same label as ours.
        logits: Largest difference to the float32 reference as a share of its largest logit; None
            where there is none to compare.
        reference: Name of the reference, or None.
    """

    peer: str
    labels: float
    logits: float | None
    reference: str | None


def check_agreement(answers: Mapping[str, Mapping[str, Any]]) -> list[Agreement]:
    """Compare the peers' answers on the same pairs.

    Args:
        answers: Peer -> ``labels`` (N names) and ``logits`` ``(N, K)`` or None; ours is among them.

    Raises:
        BackendError: A float32 peer is further away than rounding explains, or a label differs
            from ours though its pair is no close call.
    """
    logits = {
        name: np.asarray(answer["logits"], np.float64)
        for name, answer in answers.items()
        if answer["logits"] is not None
    }
    reference = next((name for name in _REFERENCES if name in logits), None)
    found = []
    for name, answer in answers.items():
        apart = None
        if reference is not None and name in logits:
            apart = _apart(logits[name], logits[reference])
        _check_logits(name, apart, reference)
        differs = np.asarray(answer["labels"]) != np.asarray(answers[OURS]["labels"])
        if reference is not None:
            _check_labels(name, differs, logits[reference])
        found.append(Agreement(name, float(1 - differs.mean()), apart, reference))
    return found


def _check_logits(name: str, apart: float | None, reference: str | None) -> None:
    if name in FLOAT32_PEERS and apart is not None and not apart <= FLOAT32_TOLERANCE:
        raise BackendError(
            f"logits of {name} differ from those of {reference} by {apart:.2g} of the largest, "
            f"expected at most {FLOAT32_TOLERANCE:g} between float32 peers",
            hint="They do not run the same network, so their times are not comparable",
        )


def _check_labels(
    name: str, differs: npt.NDArray[np.bool_], reference: npt.NDArray[np.float64]
) -> None:
    best = np.sort(reference, axis=1)
    is_clear = best[:, -1] - best[:, -2] > REDUCED_TOLERANCE * np.abs(reference).max()
    if count := int((differs & is_clear).sum()):
        raise BackendError(
            f"{name} gives another label than {OURS} on {count} of {len(differs)} timed pairs "
            "that are no close calls, expected the same",
            hint="They do not run the same network, so their times are not comparable",
        )


def _apart(found: npt.NDArray[np.float64], reference: npt.NDArray[np.float64]) -> float:
    return float(np.abs(found - reference).max() / np.abs(reference).max())
