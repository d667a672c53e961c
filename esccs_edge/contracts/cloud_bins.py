"""The bins of cloud cover in which samples are drawn, judged and reported."""

from __future__ import annotations

#: Share of cloudy pixels in percent; a bin holds its lower edge, the last one also 100 %.
CLOUD_BINS = ("0-20", "20-40", "40-60", "60-80", "80-100")
#: Name for samples whose cover is not known.
UNKNOWN_COVER = "unknown"


def cloud_bin(cover: float) -> int:
    """Return the position in `CLOUD_BINS` of a cloud cover in [0, 1]."""
    return min(int(cover * len(CLOUD_BINS) + 1e-9), len(CLOUD_BINS) - 1)


def cloud_bin_name(cover: float | None) -> str:
    """Return the name of the bin of a cover in [0, 1]; `UNKNOWN_COVER` for None."""
    return UNKNOWN_COVER if cover is None else CLOUD_BINS[cloud_bin(cover)]


def bin_range(position: int) -> tuple[float, float]:
    """Return the lowest and highest cover of a cloud bin, in [0, 1]."""
    return position / len(CLOUD_BINS), (position + 1) / len(CLOUD_BINS)
