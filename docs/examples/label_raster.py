"""Write what a `Segmenter` answers as a GeoTIFF: label, confidence and share of the optical image.

For whole scenes `Segmenter.segment_scene` writes the same by itself, with blended windows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import rasterio
from rasterio.transform import Affine

from esccs_edge import Segmentation, Segmenter, example_pair


def write(path: Path, answer: Segmentation, crs: str, transform: Affine) -> None:
    """Write three bands of uint8; 255 is no data in each.

    Args:
        path: GeoTIFF to write.
        answer: Whose ``label`` holds positions in ``classes``; the other two are percent.
        crs: Of the pixels that were given.
        transform: Likewise.
    """
    bands = {
        "label": answer.label,
        "confidence": answer.confidence,
        "optical share": answer.gate.optical,
    }
    height, width = answer.label.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=len(bands), dtype="uint8",
        nodata=255, crs=crs, transform=transform, compress="deflate",
    ) as raster:  # fmt: skip
        for number, (name, pixels) in enumerate(bands.items(), 1):
            raster.write(pixels, number)
            raster.set_band_description(number, name)
        raster.update_tags(1, **{str(i): name for i, name in enumerate(answer.classes)})


def main() -> None:
    """Label a part of the scene in the package, and read back what was written."""
    with tempfile.TemporaryDirectory() as folder, Segmenter() as segmenter:
        pair = example_pair(segmenter.manifest.sample.height)
        answer = segmenter.segment(pair.optical, pair.sar)
        path = Path(folder) / "labels.tif"
        write(path, answer, "EPSG:32650", Affine(10, 0, 703_160, 0, -10, 3_709_500))
        with rasterio.open(path) as raster:
            print(raster.descriptions, raster.shape, raster.tags(1))
    print(answer)


if __name__ == "__main__":
    main()
