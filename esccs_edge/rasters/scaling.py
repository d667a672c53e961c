"""Scale and offset tags of a raster: stored numbers -> physical values, once.

Tags of scale 1 with an offset keep digital numbers what they are. Tags that were carried along with
values decoded already are refused, since to apply them again would darken everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.modality import ModalitySpec
from ..contracts.types import Array, Doubles, Floats
from ..errors import RasterError

#: Unit of floats -> where the median of a patch's brightest band lies, whatever the ground.
_PLAUSIBLE = {"reflectance": (0.026, 1.7), "dB": (-32.0, -0.7), "linear": (1e-3, 3.0)}
#: Values that are looked at, of each band.
_LOOKED_AT = 4096


@dataclass(frozen=True)
class Scaling:
    """What is done to the stored numbers of each channel.

    Attributes:
        scale: ``(C, 1, 1)`` factors.
        offset: ``(C, 1, 1)``, added after the factor.
        is_dn: True if the result is digital numbers still.
    """

    scale: Doubles
    offset: Doubles
    is_dn: bool

    @classmethod
    def of(cls, dataset: Any, bands: Sequence[int], dtype: np.dtype[Any], path: Path) -> Any:
        """Return the tags of a file's bands as a `Scaling`, None where they change nothing.

        Raises:
            RasterError: A scale is 0, or a tag is not a finite number.
        """
        scale, offset = (
            np.array([tags[band - 1] for band in bands], np.float64)[:, None, None]
            for tags in (dataset.scales, dataset.offsets)
        )
        if not (np.isfinite(scale).all() and np.isfinite(offset).all() and scale.all()):
            raise RasterError(
                f"{path} has scale tags {scale.ravel().tolist()} and offset tags "
                f"{offset.ravel().tolist()}, expected finite numbers and no scale of 0",
                hint="Set the tags right, or take them away",
            )
        if (scale == 1).all() and (offset == 0).all():
            return None
        return cls(scale, offset, bool(dtype.kind in "iu" and (scale == 1).all()))

    def applied(
        self, stored: Array, picked: Sequence[int], spec: ModalitySpec, path: Path
    ) -> Floats:
        """Return physical values, float32.

        Args:
            stored: ``(C, H, W)`` as read.
            picked: Channels that were read.
            spec: Contract of the modality.
            path: Of the file, for errors.

        Raises:
            RasterError: The stored values are in the unit of the model already.
        """
        picked = list(picked)
        # A float64 beyond float32 becomes infinite, a signaling NaN quiet; both are masked later.
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored * self.scale[picked] + self.offset[picked]
            if self.is_dn and spec.dn_scale is not None:
                values *= spec.dn_scale
            if stored.dtype.kind == "f":
                self._require_encoded(stored, values, spec, path)
            return np.asarray(values, np.float32)

    def _require_encoded(
        self, stored: Array, values: Array, spec: ModalitySpec, path: Path
    ) -> None:
        unit = "linear" if spec.is_linear else spec.unit
        if unit not in _PLAUSIBLE:
            return
        before, after = _brightest_median(stored), _brightest_median(values)
        low, high = _PLAUSIBLE[unit]
        if low <= before <= high and not low <= after <= high:
            raise RasterError(
                f"{path} has scale tag {self.scale.ravel()[0]:g} and offset tag "
                f"{self.offset.ravel()[0]:g}, but its float values, about {before:.3g}, are "
                f"{unit} already; the tags would make them {after:.3g}",
                hint="Take the tags away (scale 1, offset 0): they belong to the encoded numbers",
            )


def _brightest_median(values: Array) -> float:
    """Return the largest median of a band's finite values other than 0; NaN if there are none."""
    flat = values.reshape(len(values), -1)
    flat = flat[:, :: -(-flat.shape[1] // _LOOKED_AT)]
    kept = [band[np.isfinite(band) & (band != 0)] for band in flat]
    return float(max((np.median(band) for band in kept if band.size), default=np.nan))
