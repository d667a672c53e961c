"""Which band of a raster is which channel of the model.

Band descriptions decide where they name bands; otherwise the order counts and the number must fit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..contracts.modality import ModalitySpec
from ..contracts.sensors import SENTINEL2_L1C_BANDS, band_name
from ..errors import RasterError

_KNOWN = frozenset(SENTINEL2_L1C_BANDS) | {"VV", "VH", "HH", "HV"}


def channel_positions(
    descriptions: Sequence[str | None], spec: ModalitySpec, name: str
) -> list[int]:
    """Return, for every channel of the model, the position of its band (counted from 0).

    Descriptions may be plain (``"B8"``, ``"vv"``) or carry one band name among other words, as
    tools write them (``"Sigma0_VH_db"``, ``"B4, central wavelength 665 nm"``). Bands that the
    model does not need are skipped when the others are named.

    Args:
        descriptions: One entry per data band of the raster, None where there is none.
        spec: Contract of the modality.
        name: What to call the raster in errors.

    Raises:
        RasterError: Named bands do not cover the channels or repeat one; or no band is named
            and the number of bands differs from the number of channels.
    """
    found = [channel_named(text, spec.channels) for text in descriptions]
    if not any(found):
        _require_count(len(found), spec, name)
        return list(range(len(found)))
    missing = [channel for channel in spec.channels if channel not in found]
    repeated = [channel for channel in spec.channels if found.count(channel) > 1]
    if missing or repeated:
        what = f"lacks {', '.join(missing)}" if missing else f"repeats {', '.join(repeated)}"
        raise RasterError(
            f"{name} has bands described as {list(descriptions)}, which {what}; expected "
            f"{', '.join(spec.channels)}",
            hint="Describe every band by its name, or none (then the model's order counts)",
        )
    return [found.index(channel) for channel in spec.channels]


def narrowed(spec: ModalitySpec, channels: Sequence[str]) -> ModalitySpec:
    """Return the contract of some channels of a modality, in the order given."""
    picked = [spec.channels.index(channel) for channel in channels]
    return replace(
        spec,
        channels=tuple(channels),
        mean=tuple(spec.mean[i] for i in picked),
        std=tuple(spec.std[i] for i in picked),
    )


def _require_count(count: int, spec: ModalitySpec, name: str) -> None:
    if count != len(spec.channels):
        raise RasterError(
            f"{name} has {count} bands, expected {len(spec.channels)}: {', '.join(spec.channels)}",
            hint="Were optical and SAR swapped? Bands described by name are picked in any order",
        )


def channel_named(text: str | None, channels: Sequence[str] = ()) -> str | None:
    """Return the one band or polarization that a description names, or None.

    Args:
        text: Description of a band.
        channels: Further names to recognize, of a model that uses its own.
    """
    if not text:
        return None
    whole = band_name(text)
    if whole in _KNOWN or whole in channels:
        return whole
    words = {band_name(word) for word in re.split(r"[^0-9A-Za-z]+", text)} & _KNOWN
    return words.pop() if len(words) == 1 else None
