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
from .pair_model import PairModel
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

        Arguments and errors of the result are those of the call that answers one series,
        ``deadline_ms`` that of `PairModel.submit`.

        Raises:
            InputError: Shape, type or dates are not what the manifest asks for.
            Overloaded: The queue is full; nothing was enqueued.
        """
        return self._model.submit(self._raw(optical, sar, dates), deadline_ms=deadline_ms)

    def stream(self, series: Iterable[tuple[Any, ...]]) -> Iterator[A | EsccsError]:
        """Answer ``(optical, sar)`` or ``(optical, sar, dates)`` in order, overlapping.

        The place of a series that cannot be judged holds its error.
        """
        return self._model.stream(self._raw(*one) for one in series)

    def _run_series(self, optical: Any, sar: Any, dates: Dates | None) -> A:
        return self._model.run(self._raw(optical, sar, dates))

    def _run_series_batch(
        self,
        opticals: Sequence[Any] | None,
        sars: Sequence[Any] | None,
        dates: Sequence[Dates | None] | None,
    ) -> list[A | EsccsError]:
        given = {"optical": opticals, "sar": sars}
        lengths = {name: len(found) for name, found in given.items() if found is not None}
        if not lengths:
            raise InputError("both lists are None, expected optical or SAR series")
        counts = {*lengths.values(), *([] if dates is None else [len(dates)])}
        if len(counts) > 1:
            raise InputError(
                f"there are {lengths} series and {'no' if dates is None else len(dates)} dates, "
                "expected as many of each"
            )
        absent = [None] * counts.pop()
        items = zip(*(absent if one is None else one for one in (opticals, sars, dates)),
                    strict=True)  # fmt: skip
        return self._model.run_batch(self._raw(*one) for one in items)

    async def _arun_series(self, optical: Any, sar: Any, dates: Dates | None) -> A:
        import asyncio  # loaded already where there is a loop; elsewhere it would delay the start

        return await asyncio.wrap_future(self.submit(optical, sar, dates))

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

    def _raw(self, optical: Any, sar: Any, dates: Dates | None = None) -> dict[str, Any]:
        """Return a sample; a sensor that the model does not read is left out where it is None."""
        given = {"optical": optical, "sar": sar}
        known = self.manifest.modalities
        found = {n: one for n, one in given.items() if one is not None or n in known}
        return {**found, "dates": dates}
