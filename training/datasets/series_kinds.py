"""Opens a data set of time series by its kind and place."""

from __future__ import annotations

from pathlib import Path

from esccs_edge.errors import InputError

from ..series_options import ImageSeriesOptions, SeriesDataOptions
from .forms import form_hint
from .series import SeriesDataset

IMAGE_FORMS = "fcn3d:FILE.hdf5, pastis:FOLDER, sen4agrinet:FOLDER, index:FILE.csv or simulated:SEED"
_FORMS = "worldcereal:FILE.geoparquet or worldcereal:FOLDER"


def open_series(where: str | Path, options: SeriesDataOptions, seed: int = 0) -> SeriesDataset:
    """Open a data set of time series.

    Args:
        where: ``"worldcereal:PATH"``.
        options: How it is read.
        seed: Seed of the split by place where the data set brings none.

    Raises:
        InputError: Not a known kind, or it cannot be read.
    """
    kind, _, place = str(where).partition(":")
    if place and kind == "worldcereal":
        from .worldcereal import open_worldcereal

        return open_worldcereal(place, seed, options.legend, options.step)
    raise InputError(f"data set is {str(where)!r}, expected {_FORMS}", hint=form_hint(where))


def open_image_series(
    where: str | Path, options: ImageSeriesOptions, seed: int = 0
) -> SeriesDataset:
    """Open a data set of image series with the class of every pixel.

    Args:
        where: ``"KIND:PATH"``; see `IMAGE_FORMS`.
        options: How it is read.
        seed: Seed of the split by place where the data set brings none.

    Raises:
        InputError: Not a known kind, or it cannot be read.
    """
    kind, _, place = str(where).partition(":")
    if place and kind == "fcn3d":
        from .fcn3d import open_fcn3d

        return open_fcn3d(place, options.held_out)
    if place and kind == "pastis":
        from .pastis import open_pastis

        return open_pastis(place, options.held_out)
    if place and kind == "sen4agrinet":
        from .sen4agrinet import open_sen4agrinet

        return open_sen4agrinet(place, seed)
    if place and kind == "index":
        from .series_index import open_series_index

        return open_series_index(place, options.classes or (), options.step)
    if place and kind == "simulated":
        from .simulated_seasons import open_simulated_seasons

        return open_simulated_seasons(place)
    raise InputError(f"data set is {str(where)!r}, expected {IMAGE_FORMS}", hint=form_hint(where))
