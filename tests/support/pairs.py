"""Rows of an index of optical and SAR files."""

from __future__ import annotations

from pathlib import Path

from esccs_edge.rasters.pair_index import SampleRow


def pair_row(optical: Path | None, sar: Path | None, *about, **more) -> SampleRow:
    """A row of two modalities; what follows them is that of `SampleRow`."""
    return SampleRow({"optical": optical, "sar": sar}, *about, **more)
