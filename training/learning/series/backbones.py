"""The networks of image series, by their sizes."""

from __future__ import annotations

import numpy as np

from esccs_edge.contracts.modality import SampleSpec

from ...series_options import FcnOptions
from .fcn3d import Fcn3d
from .utae import Utae

#: Any year; the days between the slots of a calendar differ by one at most.
_YEAR = np.datetime64("2021-12-31")


def backbone(
    channels: int, sample: SampleSpec, classes: int, sizes: FcnOptions | None
) -> Fcn3d | Utae:
    """Return a network for series of one sensor.

    Args:
        channels: Of the sensor.
        sample: Dates and calendar.
        classes: K.
        sizes: Of the 3-D FCN; None: U-TAE.
    """
    assert sample.dates is not None  # the task has checked it
    if sizes is not None:
        return Fcn3d(channels, sample.dates, classes, sizes.widths, sizes.decoder)
    places = None
    if sample.calendar is not None:
        days = sample.calendar.season(_YEAR)[:-1]
        places = (days - days[0]).astype(int).tolist()
    return Utae(channels, sample.dates, classes, places)
