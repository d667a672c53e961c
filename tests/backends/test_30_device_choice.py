"""Which GPUs and which TensorRT are meant: argument, environment, or neither."""

from __future__ import annotations

from typing import Any

import pytest

from esccs_edge.backends import device_choice
from esccs_edge.backends.device_choice import flavor_of, ordinals_of
from esccs_edge.cuda.probe import DriverInfo, GpuInfo
from esccs_edge.errors import InputError


@pytest.mark.parametrize(
    "device, ordinals",
    [(None, (0,)), (0, (0,)), (2, (2,)), ("1", (1,)), ("0,2", (0, 2)), ([1, 0], (1, 0))],
)
def test_gpus_of_an_argument(device, ordinals):
    assert ordinals_of(device) == ordinals


def test_environment_counts_where_no_argument_is_given(monkeypatch):
    monkeypatch.setenv("ESCCS_DEVICE", "1,3")
    monkeypatch.setenv("ESCCS_FLAVOR", "rtx")
    assert ordinals_of(None) == (1, 3) and ordinals_of(0) == (0,)
    assert flavor_of(None) == "rtx" and flavor_of("tensorrt") == "tensorrt"


def test_all_are_those_that_the_driver_shows(monkeypatch):
    gpus = (GpuInfo("x", (8, 9), False, 1),) * 3
    monkeypatch.setattr(device_choice, "probe_driver", lambda: DriverInfo("13.0", gpus, ""))
    assert ordinals_of("all") == (0, 1, 2)
    monkeypatch.setattr(device_choice, "probe_driver", lambda: DriverInfo("", (), "no driver"))
    with pytest.raises(InputError, match="'all', but no driver"):
        ordinals_of("all")


@pytest.mark.parametrize("device", ["", "gpu", "0,", "0,0", -1, [], [0, "x"], 1.5, object()])
def test_what_names_no_gpu_is_refused(device: Any):
    with pytest.raises(InputError, match="expected the number of a GPU"):
        ordinals_of(device)


def test_unknown_flavor_is_refused(monkeypatch):
    with pytest.raises(InputError, match="'trt', expected one of auto, tensorrt, rtx"):
        flavor_of("trt")  # type: ignore[arg-type]
    monkeypatch.setenv("ESCCS_FLAVOR", "TensorRT")
    with pytest.raises(InputError, match="'TensorRT', expected"):
        flavor_of(None)
