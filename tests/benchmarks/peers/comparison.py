"""How fast this bundle answers on this machine beside other runtimes.

The same student, the same raw pixels, labels out. Each peer is a process of its own; they take
turns in short rounds, so that whatever else slows the machine down slows all of them. Pixels are
real where the model reads them; only time is measured here, never accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import BackendError, InputError

from . import OURS, TURN, known
from .agreement import Agreement, check_agreement
from .pixels import write_pixels
from .process import PeerProcess
from .resized import resized_bundle
from .rows import Compared, Comparison, Timing

BATCHES = (1, 8, 32)
SECONDS = 1.0
ROUNDS = 5
#: Share of a row's time that is spent again on its parts.
PARTS_SHARE = 0.2
STARTS = 2

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """What to time.

    Attributes:
        peers: Names in `PEERS`; ours is always timed.
        patches: Heights and widths in pixels; None is the bundle's own.
        batches: Pairs per call.
        threads: CPU threads; None leaves the choice to each peer.
        seconds: Time spent on each row, over all rounds; each round makes at least one call.
        rounds: Turns of each peer.
        backend: Backend of our own row.
        starts: Fresh processes that are timed; one more before them, which fills the caches of
            disk and compilers, is not.
    """

    peers: Sequence[str] = (OURS,)
    patches: Sequence[int | None] = (None,)
    batches: Sequence[int] = BATCHES
    threads: Sequence[int | None] = (None,)
    seconds: float = SECONDS
    rounds: int = ROUNDS
    backend: str = "auto"
    starts: int = STARTS

    def __post_init__(self) -> None:
        given = [number for number in (*self.patches, *self.threads) if number is not None]
        if not self.batches or min(*self.batches, self.rounds, self.starts + 1, *given) < 1:
            raise InputError(f"{self} has no batch or a number that is too small")
        object.__setattr__(self, "peers", tuple(dict.fromkeys((OURS, *map(known, self.peers)))))


def compare(
    bundle: Bundle, plan: Plan | None = None, *, progress: Progress = lambda done, total: None
) -> Compared:
    """Time every peer of the plan.

    Args:
        bundle: The student.
        plan: What to time; None times ours with the defaults.
        progress: Called with steps done and steps in all; a step is one batch size or one
            peer's fresh starts.

    Raises:
        BackendError: Our own row cannot be timed, a worker ended, or peers give other answers.
        MissingDependencyError: Another patch size is asked for and onnx is not installed.
    """
    return _Run(bundle, plan or Plan(), progress).measure()


class _Run:
    """One run through a plan."""

    def __init__(self, bundle: Bundle, plan: Plan, progress: Progress) -> None:
        self._bundle, self._plan, self._progress = bundle, plan, progress
        self._found = Compared()
        self._done = 0
        cells = len(plan.patches) * len(plan.threads) * len(plan.batches)
        self._steps = cells + len(plan.peers)

    def measure(self) -> Compared:
        with tempfile.TemporaryDirectory(prefix="esccs-bench-") as folder:
            for patch in self._plan.patches:
                pixels = Path(folder, str(patch))
                bundle = self._bundle
                if patch not in (None, bundle.manifest.sample.height):
                    bundle = resized_bundle(bundle, patch, pixels / "bundle")
                write_pixels(pixels, bundle.manifest, max(self._plan.batches))
                if patch == self._plan.patches[0]:
                    self._start_fresh(bundle, pixels)
                for threads in self._plan.threads:
                    self._time_all(bundle, pixels, threads)
                for name in ("optical.npy", "sar.npy"):
                    (pixels / name).unlink()
        self._progress(self._steps, self._steps)
        return self._found

    def _start_fresh(self, bundle: Bundle, pixels: Path) -> None:
        """Start each peer a few times; those that cannot start are absent from here on."""
        threads = self._plan.threads[0]
        for name in self._plan.peers:
            self._next_step()
            starts: list[dict[str, Any]] = []
            try:
                for _ in range(1 + self._plan.starts):
                    with self._opened(name, bundle, pixels, threads) as peer:
                        starts.append(peer.first)
            except BackendError as error:
                if name == OURS:
                    raise
                self._found.absent.append({"peer": name, "reason": error.message})
                continue
            self._found.about[name] = starts[-1]["about"]
            self._found.fresh.append({
                "peer": name, "threads": threads,
                "cold_start_ms": _median(starts, "first_label_ms"),
                "import_ms": _median(starts, "import_ms"),
                "peak_rss_mb": _median(starts, "peak_rss_mb"),
            })  # fmt: skip

    def _time_all(self, bundle: Bundle, pixels: Path, threads: int | None) -> None:
        absent = {row["peer"] for row in self._found.absent}
        names = [name for name in self._plan.peers if name not in absent]
        patch = bundle.manifest.sample.height
        with ExitStack() as stack:
            peers = {
                name: stack.enter_context(self._opened(name, bundle, pixels, threads))
                for name in names
            }
            for result in _agreement(peers, min(max(self._plan.batches), TURN)):
                self._found.agreement.append({**vars(result), "patch": patch, "threads": threads})
            for batch in self._plan.batches:
                self._next_step()
                self._time_batch(peers, patch, batch, threads)

    def _time_batch(
        self, peers: dict[str, PeerProcess], patch: int, batch: int, threads: int | None
    ) -> None:
        plan = self._plan
        order = {"seconds": plan.seconds / plan.rounds, "with_energy": bool(self._found.energy)}
        for peer in peers.values():  # buffers and kernels for this size
            peer.ask("answer", min(batch, TURN), logits=False)
        replies: dict[str, list[dict[str, Any]]] = {name: [] for name in peers}
        for turn in range(plan.rounds):
            for name in _turned(list(peers), turn):
                replies[name].append(peers[name].ask("time", batch, **order))
        cell = {"patch": patch, "batch": batch, "threads": threads}
        ours = _medians_ms(replies[OURS])
        for name, peer in peers.items():
            medians = _medians_ms(replies[name])
            p50, p90, p99 = np.median([r["percentiles_ms"] for r in replies[name]], axis=0).tolist()
            self._found.rows.append(
                Timing(name, patch, batch, threads, p50, p90, p99, batch * 1e3 / p50, medians)
            )
            self._found.comparisons.append(_comparison(name, cell, replies[name], ours))
            if batch <= TURN:
                parts = peer.ask("parts", batch, seconds=plan.seconds * PARTS_SHARE)
                self._found.parts.append({"peer": name, **cell, **_named_parts(parts)})

    def _opened(self, name: str, bundle: Bundle, pixels: Path, threads: int | None) -> PeerProcess:
        return PeerProcess(name, bundle.folder, pixels, threads, self._plan.backend)

    def _next_step(self) -> None:
        self._progress(self._done, self._steps)
        self._done += 1


def _agreement(peers: dict[str, PeerProcess], batch: int) -> list[Agreement]:
    return check_agreement(
        {name: peer.ask("answer", batch, logits=name != OURS) for name, peer in peers.items()}
    )


def _comparison(
    name: str, cell: dict[str, Any], replies: list[dict[str, Any]], ours_ms: Sequence[float]
) -> Comparison:
    ratios = np.divide(_medians_ms(replies), ours_ms)
    joules = [r["joules_per_call"] for r in replies if r["joules_per_call"] is not None]
    return Comparison(
        name, **cell,
        ratio=float(np.median(ratios)), ratio_low=float(ratios.min()),
        ratio_high=float(ratios.max()), rounds=len(replies),
        calls=sum(reply["calls"] for reply in replies),
        joules_per_pair=float(np.median(joules)) / cell["batch"] if joules else None,
    )  # fmt: skip


def _named_parts(parts: dict[str, float]) -> dict[str, float | None]:
    names = ("preprocess_ms", "inference_ms", "postprocess_ms", "queue_ms")
    return {name: parts.get(name) for name in names}


def _turned(names: list[str], turn: int) -> Iterator[str]:
    """Begin with another peer in each round, so that none always follows the same one."""
    first = turn % len(names)
    yield from names[first:]
    yield from names[:first]


def _medians_ms(replies: list[dict[str, Any]]) -> list[float]:
    return [reply["percentiles_ms"][0] for reply in replies]


def _median(starts: list[dict[str, Any]], name: str) -> float | None:
    values = [start[name] for start in starts[1:] if start[name] is not None]
    return float(np.median(values)) if values else None
