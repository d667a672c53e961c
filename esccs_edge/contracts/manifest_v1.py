"""Manifests of version 1, which knew two modalities and one task.

Their tensors were listed without a role, and what export rebuilds the network from stood in the
provenance.
"""

from __future__ import annotations

from typing import Any

_ROLES = {
    "optical": "pixels",
    "sar": "pixels",
    "availability": "availability",
    "logits": "logits",
    "gate": "share",
}
_GATE_ORDER = ["optical", "sar"]


def upgraded(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of version 2; what is missing or wrong stays so, for the reader to find."""
    new = dict(document)
    if new.pop("gate_order", None) == _GATE_ORDER:
        new["modalities"] = {name: new.pop(name, None) for name in _GATE_ORDER}
    size = new.pop("patch_size", None)
    new["sample"] = {"height": size, "width": size, "pixel_size_m": new.pop("pixel_size_m", None)}
    provenance = new.get("provenance", {})
    if isinstance(provenance, dict) and "architecture" in provenance:
        new["provenance"] = {k: v for k, v in provenance.items() if k != "architecture"}
        new["architecture"] = provenance["architecture"]
    for key in ("inputs", "outputs"):
        if isinstance(tensors := new.get(key), list):
            new[key] = [_with_role(tensor) for tensor in tensors]
    return new


def _with_role(tensor: Any) -> Any:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        return tensor
    return {**tensor, "role": _ROLES.get(tensor["name"])}
