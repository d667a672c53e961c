"""How a user's pixels are stored, where it differs from what the manifest says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..errors import InputError
from .arguments import real_number
from .manifest import Manifest
from .modality import ModalitySpec


def as_stored(
    manifest: Manifest, *, dn_offset: float | None = None, sar_unit: str | None = None
) -> Manifest:
    """Return the contract for pixels that are stored in another way.

    Args:
        manifest: Contract of the model.
        dn_offset: Added to digital numbers of modalities read as reflectance, instead of the
            manifest's offset; None keeps it. Where it is another, floating-point pixels are
            refused, since it would do nothing to them.
        sar_unit: Unit of floating-point pixels of modalities read in dB: ``"dB"``, or
            ``"linear"`` for linear sigma0; None keeps that of the manifest.

    Raises:
        InputError: An unknown unit, or the model reads no such modality.
    """
    if sar_unit not in (None, "dB", "linear"):
        raise InputError(f"sar_unit is {sar_unit!r}, expected 'dB' or 'linear'")
    if sar_unit is not None:
        unit = sar_unit
        manifest = _changed(manifest, "dB", f"sar_unit is {unit!r}", lambda s: s.stored_as(unit))
    if dn_offset is not None:
        offset = real_number("dn_offset", dn_offset)
        manifest = _changed(
            manifest,
            "reflectance",
            f"dn_offset is {offset:g}",
            lambda s: _offset(s, offset),
        )
    return manifest


def _offset(spec: ModalitySpec, offset: float) -> ModalitySpec:
    """An offset other than the model's own says that the pixels are digital numbers."""
    if offset == spec.dn_offset:
        return spec
    return replace(spec, dn_offset=offset, stored_unit="dn")


def _changed(
    manifest: Manifest, unit: str, argument: str, change: Callable[[ModalitySpec], ModalitySpec]
) -> Manifest:
    specs = manifest.modalities
    changed = {name: change(spec) for name, spec in specs.items() if spec.unit == unit}
    if not changed:
        read = ", ".join(f"{name} in {spec.unit}" for name, spec in specs.items())
        raise InputError(f"{argument}, but the bundle reads no modality in {unit}: {read}")
    return manifest.evolve(modalities={**specs, **changed})
