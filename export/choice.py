"""What was measured of each precision on one machine, which of them is picked, and the report.

Values only; `choose` does the measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any, Literal

from esccs_edge import __version__
from esccs_edge.contracts.bundle_files import GraphPrecision
from esccs_edge.errors import BackendError

from .measure import Speed

Prefer = Literal["latency", "throughput"]


@dataclass(frozen=True)
class MeasuredPrecision:
    """One precision on this machine.

    Attributes:
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        problem: Why it cannot be picked; empty if it can.
        label_agreement: Share of reference inputs with the trained network's class.
        worst_logit: Largest difference of a logit on the reference inputs.
        accuracy: Share of right labels on the caller's samples; None without such.
        speed: What was measured; None if it did not come so far.
    """

    precision: GraphPrecision
    problem: str = ""
    label_agreement: float | None = None
    worst_logit: float | None = None
    accuracy: float | None = None
    speed: Speed | None = None

    @property
    def quality(self) -> float:
        """What the budget is about: accuracy where labels were given, else agreement."""
        found = self.label_agreement if self.accuracy is None else self.accuracy
        return 0.0 if found is None else found


@dataclass(frozen=True)
class Choice:
    """The measurements and what follows from them.

    Attributes:
        picked: Precision to run on this machine.
        prefer: What "fastest" meant.
        budget: Largest loss of quality that was allowed.
        candidates: All precisions that were tried.
        machine: GPU, driver, libraries, CUDA provider, copies and graphs.
        power_sensor: What the energy figures cover; empty without a sensor.
    """

    picked: GraphPrecision
    prefer: str
    budget: float
    candidates: tuple[MeasuredPrecision, ...]
    machine: dict[str, Any]
    power_sensor: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        made = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {**asdict(self), "created": made, "esccs_edge": __version__}

    def to_table(self) -> str:
        """Return the report for people."""
        lines = [
            f"{'':6}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'samples/s':>10}{'mJ each':>9}"
            f"{'same label':>12}{'accuracy':>10}"
        ]
        lines += [_row(measured, self.picked) for measured in self.candidates]
        if self.power_sensor:
            lines.append(f"energy above idle, from {self.power_sensor}")
        lines.append(f"picked {self.picked}: fastest by {self.prefer}, at most "
                     f"{self.budget:.3f} of quality lost")  # fmt: skip
        return "\n".join(lines)


def pick(
    measured: Sequence[MeasuredPrecision], *, budget: float, prefer: Prefer
) -> MeasuredPrecision:
    """Return the fastest usable precision whose quality is within the budget.

    Quality is held against float32 where it ran, else against the best.

    Raises:
        BackendError: None can be used.
    """
    usable = [one for one in measured if not one.problem]
    if not usable:
        reasons = "; ".join(f"{c.precision}: {c.problem}" for c in measured)
        raise BackendError(f"no precision can be used on this machine: {reasons}")
    full = next((c.quality for c in usable if c.precision == "fp32"), None)
    best = max(one.quality for one in usable) if full is None else full
    rounding = 1e-9
    within = [c for c in usable if best - c.quality <= budget + rounding]
    return min(within, key=partial(_cost, prefer))


def _cost(prefer: Prefer, measured: MeasuredPrecision) -> float:
    assert measured.speed is not None, "a precision without problem was timed"
    return measured.speed.p50_ms if prefer == "latency" else 1 / measured.speed.pairs_per_s


def _row(measured: MeasuredPrecision, picked: str) -> str:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    speed = measured.speed
    mark = "*" if measured.precision == picked else " "
    line = f"{mark}{measured.precision:<5}"
    if speed is not None:
        line += f"{speed.p50_ms:>9.3f}{speed.p90_ms:>9.3f}{speed.p99_ms:>9.3f}"
        line += f"{speed.pairs_per_s:>10.0f}{number(speed.millijoules_per_pair, '.3f'):>9}"
        line += f"{number(measured.label_agreement, '.3f'):>12}"
        line += f"{number(measured.accuracy, '.3f'):>10}"
    return f"{line}  {measured.problem}".rstrip()
