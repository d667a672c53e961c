"""What is timed looks like what is classified: real pixels, or pixels of the right form."""

from __future__ import annotations

import numpy as np
import pytest
from support.tiny import linear_sar, tiny_manifest

from esccs_edge import Classifier
from esccs_edge.bench.pixels import reads_example, timed_samples
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.values import Flag
from esccs_edge.example import example_scene
from esccs_edge.pixels.radiometry import judged_without_model


def test_the_model_of_the_package_is_timed_with_real_pixels_that_nothing_is_said_of():
    manifest = Bundle.open().manifest
    samples = timed_samples(manifest, 8)
    assert reads_example(manifest)
    assert [judged_without_model(sample, manifest.modalities) for sample in samples] == [set()] * 8
    known = set(example_scene().optical[3].ravel().tolist())
    assert all(set(s.pixels["optical"][3].ravel().tolist()) <= known for s in samples)
    assert len({s.pixels["optical"].tobytes() for s in samples}) == 8
    with Classifier(backend="cpu") as classifier:
        answer = classifier.classify(**samples[0].pixels)
    assert Flag.RADIOMETRY_SUSPECT not in answer.flags


def test_larger_patches_begin_the_scene_anew():
    manifest = tiny_manifest(300)
    (sample,) = timed_samples(manifest, 1)
    optical = sample.pixels["optical"]
    assert optical.shape == (13, 300, 300) and optical.flags.c_contiguous
    np.testing.assert_array_equal(optical[:, 256:], optical[:, :44])
    np.testing.assert_array_equal(sample.pixels["sar"][:, :, 256:], sample.pixels["sar"][:, :, :44])


@pytest.mark.parametrize("manifest", [linear_sar(tiny_manifest(16))], ids=["linear sar"])
def test_other_pixels_are_simulated_in_their_form(manifest):
    assert not reads_example(manifest)
    (sample,) = timed_samples(manifest, 1)
    assert sample.pixels["sar"].min() > 0
