"""Which GPUs and which TensorRT were asked for: by argument, else by environment, else any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, get_args

from ..cuda.probe import probe_driver
from ..errors import InputError

#: A GPU by its ordinal, several of them, ``"all"``, or a text such as ``"0,1"``; None leaves it to
#: ``ESCCS_DEVICE``, and without that to the first.
Device = int | str | Sequence[int] | None
#: TensorRT library; ``"auto"`` takes ``tensorrt`` where installed, else ``rtx``. None leaves it to
#: ``ESCCS_FLAVOR``, and without that to ``"auto"``.
FlavorChoice = Literal["auto", "tensorrt", "rtx"]

DEVICE_VARIABLE, FLAVOR_VARIABLE = "ESCCS_DEVICE", "ESCCS_FLAVOR"


def ordinals_of(device: Device) -> tuple[int, ...]:
    """Return the ordinals of the GPUs to run on, in the driver's order (`CUDA_DEVICE_ORDER`).

    Raises:
        InputError: It is not what `Device` says, names a GPU twice, or there is no GPU for
            ``"all"``.
    """
    wanted: Any = os.environ.get(DEVICE_VARIABLE) or 0 if device is None else device
    if wanted == "all":
        found = tuple(range(len(probe_driver().gpus)))
        if not found:
            raise InputError(f"device is 'all', but {probe_driver().problem}")
        return found
    if isinstance(wanted, str):
        wanted = wanted.split(",")
    elif isinstance(wanted, int):
        wanted = [wanted]
    try:
        ordinals = tuple(int(one) for one in wanted)
    except (TypeError, ValueError):
        ordinals = ()
    if not ordinals or len(set(ordinals)) != len(ordinals) or min(ordinals) < 0:
        raise InputError(
            f"device is {device if device is not None else os.environ.get(DEVICE_VARIABLE)!r}, "
            "expected the number of a GPU, several such as '0,1', or 'all'"
        )
    return ordinals


def flavor_of(flavor: FlavorChoice | None) -> FlavorChoice:
    """Return which TensorRT library to run with.

    Raises:
        InputError: It is another word.
    """
    wanted = flavor or os.environ.get(FLAVOR_VARIABLE) or "auto"
    for known in get_args(FlavorChoice):
        if wanted == known:
            return known  # type: ignore[no-any-return]
    raise InputError(f"flavor is {wanted!r}, expected one of {', '.join(get_args(FlavorChoice))}")
