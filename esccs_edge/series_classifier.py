"""The front door for pixel series: a season of optical and SAR, with gaps, in; a class out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .contracts.tasks.series_classification import SeriesClassification, SeriesPrediction
from .errors import EsccsError
from .pixels.series import Dates
from .series_model import SeriesModel

if TYPE_CHECKING:
    from .scenes.series_mapping import SeriesSummary


class SeriesClassifier(SeriesModel[SeriesPrediction]):
    """Classifies pixel series of optical, SAR or both, with missing dates. Thread-safe.

    Arguments and errors of the constructor are those of `PairModel`.
    """

    task = SeriesClassification.name
    shipped = "crop-series"

    def classify(self, optical: Any, sar: Any, dates: Dates | None = None) -> SeriesPrediction:
        """Classify one series in the calling thread, with the lowest latency.

        Args:
            optical: ``(C, n)`` of n dates in the manifest's band order, digital numbers (integer)
                or reflectance (float), or None. A date is missing where all bands are nodata or
                one is not finite.
            sar: ``(P, n)`` in the manifest's polarization order, float dB (linear sigma0 with
                ``sar_unit="linear"``), or None.
            dates: The n dates, sorted, or ``{"optical": [...], "sar": [...]}`` where the sensors
                saw the place on other days. None: n is T and the series are in the slots of
                ``manifest.sample.calendar`` already.

        Raises:
            InputError: Shape, type, dates or values are not what the manifest asks for.
            BackendError: Inference failed twice or gave NaN.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that made the classifier.
        """
        return self._run_series(optical, sar, dates)

    def classify_batch(
        self,
        opticals: Sequence[Any] | None,
        sars: Sequence[Any] | None,
        dates: Sequence[Dates | None] | None = None,
    ) -> list[SeriesPrediction | EsccsError]:
        """Classify series in the calling thread, in batches of up to ``max_batch``.

        Args:
            opticals: N series as for `classify`; entries may be None, and None in place of the
                list means that there is no optical series.
            sars: The same for SAR.
            dates: N times the dates of `classify`; None: all are in the slots already.

        Returns:
            N answers in order; the place of a series that cannot be judged holds its error.

        Raises:
            InputError: The lengths differ, or both lists are None.
        """
        return self._run_series_batch(opticals, sars, dates)

    async def aclassify(
        self, optical: Any, sar: Any, dates: Dates | None = None, *,
        deadline_ms: float | None = None,
    ) -> SeriesPrediction:  # fmt: skip
        """Classify one series from a coroutine; canceling it frees its place in the queue.

        Arguments and errors are those of `submit` and of the call that answers one series.
        """
        return await self._arun_series(optical, sar, dates, deadline_ms)

    def classify_scene(
        self,
        series: str | os.PathLike[str],
        out_path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
    ) -> SeriesSummary:
        """Classify every pixel of dated rasters into a map; needs the extra ``geo``.

        Args:
            series: Folder of GeoTIFFs on one grid with a date in each name, or an ``index.csv``
                with the columns ``file,date,sensor``.
            out_path: Map to write, ``map.tif``, a Cloud Optimized GeoTIFF of class numbers (255: no
                answer); ``map.scores.tif`` beside it holds the confidence and what else the task
                scores.
            overwrite: Replace existing files.

        Returns:
            What was written, shares of the classes, and each image with its slot.

        Raises:
            InputError: Dates or sensors cannot be told, or are out of the season.
            RasterError: An image cannot be read, two do not lie on one grid, or the output exists
                or cannot be written.
            MissingDependencyError: rasterio is not installed.
        """
        return self._map_series(series, out_path, stride=None, overwrite=overwrite)
