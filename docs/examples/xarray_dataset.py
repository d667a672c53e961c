"""From an xarray data set to a data set of answers, coordinates kept.

The pixels are tiled into patches of the size that the model takes; what does not fill a patch at
the edge is left out. For whole files use `esccs-edge map`, which overlaps and blends patches.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from esccs_edge import Classifier, EsccsError, example_pair
from esccs_edge.example import CORNER_M, PIXEL_SIZE_M, example_scene


def classified(classifier: Classifier, scene: xr.Dataset) -> xr.Dataset:
    """Return label, confidence and optical share of each patch.

    Args:
        classifier: Which takes the bands and polarizations of the scene.
        scene: ``optical (band, y, x)`` and ``sar (polarization, y, x)`` on one grid, with ``band``
            and ``polarization`` as coordinates.
    """
    optical, sar = classifier.manifest.modalities.values()
    scene = scene.sel(band=list(optical.channels), polarization=list(sar.channels))
    side = classifier.manifest.sample.height
    rows, columns = scene.sizes["y"] // side, scene.sizes["x"] // side
    tiles = [
        scene.isel(y=slice(r * side, (r + 1) * side), x=slice(c * side, (c + 1) * side))
        for r in range(rows)
        for c in range(columns)
    ]
    found = classifier.classify_batch(
        [tile["optical"].values for tile in tiles], [tile["sar"].values for tile in tiles]
    )
    answers = [None if isinstance(answer, EsccsError) else answer for answer in found]
    columns_of = {
        "label": [answer.label if answer else "" for answer in answers],
        "confidence": [answer.confidence if answer else np.nan for answer in answers],
        "optical_share": [answer.gate.optical if answer else np.nan for answer in answers],
    }
    middle = {axis: [float(tile[axis].mean()) for tile in tiles] for axis in ("y", "x")}
    return xr.Dataset(
        {
            name: (("y", "x"), np.reshape(values, (rows, columns)))
            for name, values in columns_of.items()
        },
        {"y": middle["y"][::columns], "x": middle["x"][:columns]},
    )


def main() -> None:
    """Classify the scene in the package."""
    stored = example_scene()
    height, width = stored.sar.shape[1:]
    east, north = CORNER_M
    with Classifier() as classifier:
        optical, sar = classifier.manifest.modalities.values()
        scene = xr.Dataset(
            {
                "optical": (("band", "y", "x"), stored.optical),
                "sar": (("polarization", "y", "x"), stored.sar),
            },
            {
                "band": list(optical.channels),
                "polarization": list(sar.channels),
                "y": north - PIXEL_SIZE_M * (np.arange(height) + 0.5),
                "x": east + PIXEL_SIZE_M * (np.arange(width) + 0.5),
            },
        )
        answers = classified(classifier, scene)
        pair = example_pair()
        alone = classifier.classify(pair.optical, pair.sar)  # the patch in row 1, column 2
    assert answers["label"][1, 2] == alone.label
    print(answers["label"].to_pandas())


if __name__ == "__main__":
    main()
