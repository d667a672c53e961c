"""The front door for scenes: raw optical and SAR pixels in, a class per patch out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .contracts.tasks.scene_classification import SceneClassification
from .contracts.values import Prediction
from .errors import EsccsError
from .pair_model import PairModel

if TYPE_CHECKING:
    from .scenes.summary import SceneSummary


class Classifier(PairModel[Prediction]):
    """Classifies co-registered optical and SAR patches; either may be absent. Thread-safe.

    Arguments and errors of the constructor are those of `PairModel`.
    """

    task = SceneClassification.name
    shipped = "default"

    def classify(self, optical: Any, sar: Any) -> Prediction:
        """Classify one pair in the calling thread, with the lowest latency.

        Args:
            optical: ``(C, H, W)`` in the manifest's band order, digital numbers (integer) or
                reflectance (float), or None.
            sar: ``(P, H, W)`` in the manifest's polarization order, float dB (linear sigma0 with
                ``sar_unit="linear"``), or None.

        Raises:
            InputError: Shape, type or values are not what the manifest asks for.
            BackendError: Inference failed twice or gave NaN.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that made the classifier.
        """
        return self._run(optical, sar)

    def classify_batch(
        self, opticals: Sequence[Any] | None, sars: Sequence[Any] | None
    ) -> list[Prediction | EsccsError]:
        """Classify pairs in the calling thread, in batches of up to ``max_batch``.

        Args:
            opticals: N patches as for `classify` (an ``(N, C, H, W)`` array will do); entries may
                be None, and None in place of the list means that every optical patch is absent.
            sars: The same for SAR.

        Returns:
            N answers in order; the place of a pair that cannot be judged holds its error.

        Raises:
            InputError: The lengths differ, or both lists are None.
        """
        return self._run_batch(opticals, sars)

    async def aclassify(
        self, optical: Any, sar: Any, *, deadline_ms: float | None = None
    ) -> Prediction:
        """Classify one pair from a coroutine; canceling it frees its place in the queue.

        Arguments and errors are those of `submit` and of the call that answers one pair.
        """
        return await self._arun(optical, sar, deadline_ms)

    def classify_scene(
        self,
        optical_path: str | os.PathLike[str] | None,
        sar_path: str | os.PathLike[str] | None,
        out_path: str | os.PathLike[str],
        *,
        stride: int | None = None,
        overwrite: bool = False,
        resume: bool = False,
    ) -> SceneSummary:
        """Classify a whole raster into a map, patch by patch; needs the extra ``geo``.

        Args:
            optical_path: GeoTIFF with the model's bands or a Sentinel-2 product, or None.
            sar_path: GeoTIFF on the same grid with the model's polarizations or a Sentinel-1
                product, or None.
            out_path: Map to write, ``map.tif``, a Cloud Optimized GeoTIFF of class numbers (255: no
                answer); ``map.scores.tif`` beside it holds confidence and share of optical.
            stride: Pixels from one patch to the next; half a patch by default.
            overwrite: Replace existing files.
            resume: Keep finished rows in a hidden folder beside the map while it is made, and go on
                from those of a run that was killed.

        Returns:
            What was written, shares of the classes, means and counts of flags.

        Raises:
            InputError: No input, a wrong stride, or every patch was refused.
            RasterError: An input cannot be read, two do not lie on one grid, or the output exists
                or cannot be written.
            MissingDependencyError: rasterio is not installed.
        """
        return self._map(
            optical_path, sar_path, out_path, stride=stride, overwrite=overwrite, resume=resume
        )
