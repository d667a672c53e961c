"""How a user's pixels are stored, where it differs from what the manifest says."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InputError
from .manifest import Manifest
from .modality import ModalitySpec


def as_stored(
    manifest: Manifest, *, dn_offset: float | None = None, sar_unit: str = "dB"
) -> Manifest:
    """Return the contract for pixels that are stored in another way.

    Args:
        manifest: Contract of the model.
        dn_offset: Added to optical digital numbers instead of the manifest's offset; None keeps it.
        sar_unit: ``"dB"``, or ``"linear"`` when SAR pixels are linear sigma0.

    Raises:
        InputError: An unknown unit, or the model does not read that modality in dB, or at all.
    """
    if sar_unit not in ("dB", "linear"):
        raise InputError(f"sar_unit is {sar_unit!r}, expected 'dB' or 'linear'")
    if sar_unit == "linear":
        sar = _modality(manifest, "sar", "sar_unit is 'linear'")
        if sar.unit != "dB":
            raise InputError(f"sar_unit is 'linear', but the bundle reads SAR in {sar.unit}")
        manifest = manifest.with_modality("sar", sar.stored_as("linear"))
    if dn_offset is not None:
        optical = _modality(manifest, "optical", f"dn_offset is {dn_offset:g}")
        shifted = replace(optical, dn_offset=float(dn_offset))
        manifest = manifest.with_modality("optical", shifted)
    return manifest


def _modality(manifest: Manifest, name: str, argument: str) -> ModalitySpec:
    if name not in manifest.modalities:
        raise InputError(f"{argument}, but the bundle reads {', '.join(manifest.modalities)}")
    return manifest.modalities[name]
