"""The pair that a classifier asks itself: it must reach the network whatever the contract says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.tiny import linear_sar, tiny_manifest

from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.runtime.selfcheck import golden_sample


@pytest.mark.parametrize(
    "changes, dtype",
    [
        ({}, np.uint16),
        ({"dn_offset": -1000.0}, np.uint16),
        ({"dn_offset": 2000.0}, np.float32),  # negative numbers would be needed
        ({"dn_scale": None}, np.float32),
        ({"dn_scale": 1.0}, np.float32),  # too coarse: all would be 0 or 1
        ({"dn_scale": 1e-6}, np.float32),  # too fine: 16 bits do not reach that far
    ],
)
def test_optical_waves_come_in_digital_numbers_where_these_can_hold_them(changes, dtype):
    manifest = tiny_manifest()
    manifest = manifest.with_modality("optical", replace(manifest.modalities["optical"], **changes))
    pixels, spec = golden_sample(manifest).pixels, manifest.modalities["optical"]
    assert pixels["optical"].dtype == dtype and pixels["sar"].dtype == np.float32
    out = np.empty((1, *pixels["optical"].shape), np.float32)
    (seen,) = preprocess([pixels["optical"]], spec, out)
    assert seen.valid == seen.pixels and seen.nonfinite == seen.below == seen.above == 0
    assert all(len(np.unique(channel)) >= 10 for channel in out[0])


def test_linear_waves_are_the_same_backscatter_as_those_in_decibel():
    manifest = tiny_manifest()
    decibel, linear = (golden_sample(m).pixels["sar"] for m in (manifest, linear_sar(manifest)))
    np.testing.assert_allclose(10 * np.log10(linear), decibel, atol=1e-4)
