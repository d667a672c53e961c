"""For which GPUs the kernels were compiled, by their own headers."""

from __future__ import annotations

import pytest
from support.fatbins import fatbin, fatbin_for_all

from esccs_edge.backends.trt.pixel_kernels import fatbin_path
from esccs_edge.cuda.fatbin import Image, images_of
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.errors import ArtifactError


def test_images_are_listed():
    found = images_of(fatbin((False, 75), (False, 120), (True, 80)))
    assert found == [Image(False, (7, 5)), Image(False, (12, 0)), Image(True, (8, 0))]
    assert [str(image) for image in found] == ["7.5", "12.0", "PTX 8.0"]


@pytest.mark.parametrize(
    "image, runs, fails",
    [
        (Image(False, (8, 0)), [(8, 0), (8, 9)], [(7, 5), (9, 0)]),
        (Image(False, (8, 7)), [(8, 7), (8, 9)], [(8, 6), (12, 0)]),
        (Image(True, (9, 0)), [(9, 0), (11, 0), (12, 1)], [(8, 9)]),
    ],
)
def test_machine_code_stays_in_its_major_version_and_ptx_goes_upward(image, runs, fails):
    assert all(map(image.runs_on, runs)) and not any(map(image.runs_on, fails))


@pytest.mark.parametrize("cut", [0, 3, 15, 40, 100, 170])
def test_what_is_cut_short_or_no_fatbin_is_refused(cut):
    with pytest.raises(ArtifactError):
        images_of(fatbin((False, 75), (False, 80))[:cut])
    with pytest.raises(ArtifactError, match="no fatbin"):
        images_of(b"\x7fELF" + bytes(100))


NAMED = [(7, 5), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (11, 0), (12, 0), (12, 1)]


def test_a_wheel_runs_on_every_gpu_it_names():
    images = images_of(fatbin_for_all())
    assert all(any(image.runs_on(gpu) for image in images) for gpu in NAMED)
    # A CUDA 12 driver compiles no PTX newer than its GPU: old PTX serves what is not listed.
    assert {(8, 0), (9, 0)} <= {image.capability for image in images if image.is_ptx}


def test_the_installed_kernels_run_on_the_gpus_of_this_machine_or_on_all():
    if not fatbin_path().is_file():
        pytest.skip("built without nvcc")
    images = images_of(fatbin_path().read_bytes())
    here = [gpu.compute_capability for gpu in probe_driver().gpus]
    assert all(any(image.runs_on(gpu) for image in images) for gpu in here or NAMED)
