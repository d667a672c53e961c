"""Real pixel series that ship with the package: a season of Sentinel-2 and Sentinel-1, with gaps.

Fields of France from September 2022 to January 2024, one per class of the model ``crop-series``: of
each class the first by number among the places that tested it, whatever the model says.

From the WorldCereal reference data (ESA WorldCereal; labels of the French parcel register, IGN and
ASP, open license Etalab-2.0; contains modified Copernicus Sentinel data 2022 to 2024), cut out by
`docs/example_series.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

#: What to name wherever the series are shown.
CREDIT = (
    "WorldCereal reference data, French parcel register (IGN, ASP), open license Etalab-2.0; "
    "contains modified Copernicus Sentinel data"
)
FILE = Path(__file__).parent / "series.npz"
#: Stands for no data in hundredths of a decibel.
ABSENT_SAR = np.iinfo(np.int16).min


@dataclass(frozen=True)
class ExampleSeries:
    """One pixel over n dates; the arrays are read-only.

    Attributes:
        label: The crop that the farmer declared, as the model names it.
        dates: ``(n,)`` first days of thirds of months.
        optical: ``(9, n)`` uint16 digital numbers of Sentinel-2 L2A, bands B02 ... B08, B11, B12;
            0 where clouds left nothing.
        sar: ``(2, n)`` float32 backscatter of Sentinel-1 in dB, VV and VH; NaN where absent.
    """

    label: str
    dates: npt.NDArray[np.datetime64]
    optical: npt.NDArray[np.uint16]
    sar: npt.NDArray[np.float32]


@lru_cache(maxsize=1)
def example_series() -> tuple[ExampleSeries, ...]:
    """Return the series, one per class."""
    with np.load(FILE, allow_pickle=False) as stored:
        # Backscatter is stored in hundredths of a decibel, far below the noise of the sensor.
        sar = stored["sar"].astype(np.float32) / np.float32(100)
        sar[stored["sar"] == ABSENT_SAR] = np.nan
        labels, dates, optical = stored["labels"].tolist(), stored["dates"], stored["optical"]
    for pixels in (dates, optical, sar):
        pixels.setflags(write=False)
    found = zip(labels, optical, sar, strict=True)
    return tuple(ExampleSeries(label, dates, seen, echo) for label, seen, echo in found)
