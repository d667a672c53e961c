"""Cut out the series that ship with the package: the first of each class in the test places.

    python docs/example_series.py FILE.geoparquet

They are those of `training/configs/crop-series.toml`, which do not depend on the seed.
"""

from __future__ import annotations

import sys

import numpy as np

from esccs_edge.example import series
from esccs_edge.training.datasets.worldcereal import open_worldcereal


def main(file: str) -> None:
    """Write `esccs_edge/example/series.npz`."""
    dataset = open_worldcereal(file, legend="crops")
    tested = np.flatnonzero(np.array(dataset.splits) == "test")
    places = [int(tested[np.argmax(dataset.targets[tested] == number)])
              for number in range(len(dataset.classes))]  # fmt: skip
    sar = dataset.pixels["sar"][places][..., 0, 0]
    stored = np.where(np.isfinite(sar), np.rint(100 * np.nan_to_num(sar)), series.ABSENT_SAR)
    calendar = dataset.calendar
    assert calendar is not None  # the reader makes one
    np.savez_compressed(
        series.FILE,
        labels=np.array(dataset.classes),
        dates=calendar.season(np.datetime64("2022-09-01"))[:-1],
        optical=dataset.pixels["optical"][places][..., 0, 0],
        sar=stored.astype(np.int16),
    )
    print(series.FILE, dict(zip(dataset.classes, places, strict=True)))


if __name__ == "__main__":
    main(*sys.argv[1:2])
