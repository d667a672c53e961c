"""Which band of a raster is which channel of the model.

Band descriptions decide where they name bands; otherwise the order counts and the number must fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..contracts.modality import ModalitySpec
from ..contracts.sensors import NO_CIRRUS, POLARIZATIONS, wrong_count_hint
from ..errors import RasterError
from .band_words import KNOWN, are_counted, channels_named, is_derived

_DESCRIBE = "Describe every band by its name, or none (then the model's order counts)"


def channel_positions(
    descriptions: Sequence[str | None], spec: ModalitySpec, name: str
) -> list[int]:
    """Return, for every channel of the model, the position of its band (counted from 0).

    Descriptions may be plain (``"B8"``, ``"vv"``) or anything else that
    `esccs_edge.rasters.band_words` reads, such as ``"Sigma0_VH_db"``, ``"Band 8A"``, ``"nir08"`` or
    ``"842 nm"``. Bands that the model does not need are skipped when the others are named.

    Args:
        descriptions: One entry per data band of the raster, None where there is none.
        spec: Contract of the modality.
        name: What to call the raster in errors.

    Raises:
        RasterError: Named bands do not cover the channels or repeat one; the bands are described,
            but in words that mean no band; or no band is named and the number of bands differs
            from the number of channels.
    """
    found = channels_named(descriptions, spec.channels)
    if not KNOWN.intersection(spec.channels):  # a model of other bands knows its own names only
        found = [channel if channel in spec.channels else None for channel in found]
    lacking = [channel for channel in spec.channels if channel not in found]
    derived = [text for text in descriptions if text and is_derived(text)]
    if lacking and derived and KNOWN.intersection(spec.channels):
        raise RasterError(
            f"{name} has bands described as {derived}, which are no measurements, and lacks "
            f"{', '.join(lacking)}",
            hint="Give the image itself: reflectance, or backscatter in dB",
        )
    if not any(found):
        if KNOWN.intersection(spec.channels):
            require_understood(descriptions, name)
        _require_count(len(found), spec, name)
        return list(range(len(found)))
    repeated = [channel for channel in spec.channels if found.count(channel) > 1]
    if lacking or repeated:
        what = f"lacks {', '.join(lacking)}" if lacking else f"repeats {', '.join(repeated)}"
        raise RasterError(
            f"{name} has bands described as {list(descriptions)}, which {what}; expected "
            f"{', '.join(spec.channels)}",
            hint=hint_for_lacking(lacking, found, spec) or _DESCRIBE,
        )
    return [found.index(channel) for channel in spec.channels]


def hint_for_lacking(
    lacking: Sequence[str], found: Sequence[str | None], spec: ModalitySpec
) -> str:
    """Return what to do about channels that are not there; empty where names may be at fault.

    Args:
        lacking: Those channels.
        found: What each band that is there means, None where not known.
        spec: Contract of the modality.
    """
    named, is_radar = set(filter(None, found)), set(spec.channels) <= set(POLARIZATIONS)
    if list(lacking) == ["B10"]:
        return NO_CIRRUS
    others = named - set(POLARIZATIONS) if is_radar else named & set(POLARIZATIONS)
    if len(others) > (len(POLARIZATIONS) if is_radar else 0):
        return "Were optical and SAR swapped?"
    if is_radar and lacking and named and not others:
        return (
            f"The model reads {' and '.join(spec.channels)}: choose a product that has both, such "
            "as dual polarization (1SDV in its name)"
        )
    if lacking and None not in found and not is_radar:
        return (
            "The model reads every one of its bands: give the product with all of them, or train a "
            "model on those that are there"
        )
    return ""


def require_understood(descriptions: Sequence[str | None], name: str) -> None:
    """Refuse bands that carry descriptions of their own which mean no band that we know.

    Their order would be a guess, since whoever described them may have sorted them too.

    Raises:
        RasterError: At least two bands differ in their descriptions, by more than a number that
            counts them.
    """
    if len(set(filter(None, descriptions))) > 1 and not are_counted(descriptions):
        raise RasterError(
            f"{name} has bands described as {list(descriptions)}, of which none names a band",
            hint="Describe every band by its name, such as B8A or VV, or take the descriptions "
            "away (then the model's order counts)",
        )


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
            hint=_count_hint(count, spec.channels),
        )


def _count_hint(count: int, channels: tuple[str, ...]) -> str:
    if hint := wrong_count_hint(count, channels):
        return hint
    if count == 1:
        return "Bands in files of their own: esccs-edge stack OPTICAL SAR --out pair joins them"
    return "Bands described by name are picked in any order; others may be more than the model's"
