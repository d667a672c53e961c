"""What the front doors for series share: `SeriesClassifier`, `SeriesSegmenter`.

A series may bring its dates, and then stands in the slots of the model's calendar; the rest is as
for pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import EsccsError, InputError
from .pair_model import PairModel, iterable_of
from .pixels.series import Dates

if TYPE_CHECKING:
    from .scenes.series_mapping import SeriesSummary

A = TypeVar("A")


class SeriesModel(PairModel[A]):
    """A model of series of optical, SAR or both, with missing dates. Thread-safe.

    Arguments and errors of the constructor are those of `PairModel`.
    """

    def submit(
        self, optical: Any, sar: Any, dates: Dates | None = None, *,
        deadline_ms: float | None = None,
    ) -> Future[A]:  # fmt: skip
        """Queue one series; requests of all threads share batches.

        ``result()`` of the future gives the answer, or raises what the call that answers one series
        would raise.

        Args:
            optical: As for the call that answers one series.
            sar: Likewise.
            dates: Likewise.
            deadline_ms: Latest start of the inference, in milliseconds from now; a request that is
                still queued then ends in `DeadlineExceeded`.

        Raises:
            InputError: Shape, type or dates are not what the manifest asks for.
            Overloaded: The queue is full; nothing was enqueued.
        """
        return self._model.submit(self._raw(optical, sar, dates), deadline_ms=deadline_ms)

    def stream(self, series: Iterable[tuple[Any, ...]]) -> Iterator[A | EsccsError]:
        """Answer ``(optical, sar)`` or ``(optical, sar, dates)`` in order, overlapping.

        The place of a series that cannot be judged holds its error.

        Raises:
            InputError: ``series`` is no iterable.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that opened the model.
        """
        return self._model.stream(map(self._one, iterable_of("series", series)))

    def _run_series(self, optical: Any, sar: Any, dates: Dates | None) -> A:
        return self._model.run(self._raw(optical, sar, dates))

    def _run_series_batch(
        self,
        opticals: Sequence[Any] | None,
        sars: Sequence[Any] | None,
        dates: Sequence[Dates | None] | None,
    ) -> list[A | EsccsError]:
        if opticals is None and sars is None:
            raise InputError("both lists are None, expected optical or SAR series")
        lengths = {}
        for name, given in (("opticals", opticals), ("sars", sars), ("dates", dates)):
            if given is not None:
                if not hasattr(given, "__len__"):
                    raise InputError(f"{name} is a {type(given).__name__}, expected a sequence")
                lengths[name] = len(given)
        if len({*lengths.values()}) > 1:
            found = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise InputError(
                f"there are {found}, expected as many of each",
                hint="A batch of one series is [optical], [sar], [dates]",
            )
        absent = [None] * max(lengths.values())
        items = zip(*(absent if one is None else one for one in (opticals, sars, dates)),
                    strict=True)  # fmt: skip
        return self._model.run_batch(self._raw(*one) for one in items)

    async def _arun_series(
        self, optical: Any, sar: Any, dates: Dates | None, deadline_ms: float | None
    ) -> A:
        import asyncio  # loaded already where there is a loop; elsewhere it would delay the start

        future = self.submit(optical, sar, dates, deadline_ms=deadline_ms)
        return await asyncio.wrap_future(future)

    def _map_series(
        self,
        series: str | os.PathLike[str],
        out_path: str | os.PathLike[str],
        *,
        stride: int | None,
        overwrite: bool,
    ) -> SeriesSummary:
        from .scenes.series_mapping import map_series

        return map_series(self._model, series, out_path, stride=stride, overwrite=overwrite)

    def _one(self, given: Any) -> dict[str, Any] | EsccsError:
        """Return the sample that an item of a stream is, or the error to stand in its place."""
        try:
            optical, sar, *dates = given
            return self._raw(optical, sar, *dates)
        except (TypeError, ValueError):
            kind = type(given).__name__
            return InputError(
                f"one of the series is of type {kind}, expected (optical, sar, dates)"
            )

    def _raw(self, optical: Any, sar: Any, dates: Dates | None = None) -> dict[str, Any]:
        """Return a sample; a sensor that the model does not read is left out where it is None."""
        given = {"optical": optical, "sar": sar}
        known = self.manifest.modalities
        found = {n: one for n, one in given.items() if one is not None or n in known}
        return {**found, "dates": dates}
