"""Synthetic pixels come in the form that the manifest asks for."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny import linear_sar, tiny_manifest

from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.pixels.synthetic import random_samples, smooth_samples


@pytest.mark.parametrize("samples", [random_samples, smooth_samples])
def test_linear_samples_are_the_same_backscatter_as_those_in_decibel(samples):
    manifest = tiny_manifest(16)
    normalized = []
    for given in (manifest, linear_sar(manifest)):
        (sample,) = samples(given, 1)
        assert sample.pixels["optical"].dtype == np.uint16
        out = np.empty((1, *sample.pixels["sar"].shape), np.float32)
        preprocess([sample.pixels["sar"]], given.modalities["sar"], out)
        normalized.append(out)
    np.testing.assert_allclose(*normalized, atol=1e-5)  # float32 of 10 ** (dB / 10) and back
    assert sample.pixels["sar"].min() > 0
