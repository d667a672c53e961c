"""Every cover falls into one bin, by number and by name."""

from __future__ import annotations

from esccs_edge.contracts.cloud_bins import (
    CLOUD_BINS,
    UNKNOWN_COVER,
    bin_range,
    cloud_bin,
    cloud_bin_name,
)


def test_a_bin_holds_its_lower_edge_and_the_last_one_everything_clouded():
    assert [cloud_bin(c) for c in (0.0, 0.19, 0.2, 0.4, 0.6, 0.79, 0.8, 1.0)] == [
        0, 0, 1, 2, 3, 3, 4, 4,
    ]  # fmt: skip
    assert bin_range(2) == (0.4, 0.6)


def test_bins_are_named_by_their_range_in_percent_or_unknown():
    for position, name in enumerate(CLOUD_BINS):
        low, high = bin_range(position)
        assert name == f"{100 * low:.0f}-{100 * high:.0f}"
        assert cloud_bin_name((low + high) / 2) == name
    assert cloud_bin_name(None) == UNKNOWN_COVER
