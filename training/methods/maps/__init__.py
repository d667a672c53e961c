"""The compared methods of semantic segmentation; `METHODS` gives them their order in the tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import cloudseg, fusion, removal
from .method import MapMethod

#: The method that the others are compared to.
REFERENCE = "ours"

METHODS: Mapping[str, MapMethod] = MappingProxyType(
    {
        "clear-teacher": cloudseg.CLEAR_TEACHER,
        "optical-only": fusion.OPTICAL_ONLY,
        "sar-only": fusion.SAR_ONLY,
        "early-fusion": fusion.EARLY,
        "middle-fusion": fusion.MIDDLE,
        "late-fusion": fusion.LATE,
        "removal-then-segmentation": removal.METHOD,
        "cloudseg": cloudseg.CLOUDSEG,
        "cloudseg-no-removal": cloudseg.NO_REMOVAL,
        "cloudseg-no-distillation": cloudseg.NO_DISTILLATION,
        "cloudseg-neither": cloudseg.NEITHER,
        "cloudseg-equipped": cloudseg.CLOUDSEG_EQUIPPED,
        REFERENCE: cloudseg.OURS,
    }
)

#: The one comparison that says whether the reference is better: rows that are told the same as it.
HEADLINE = ("cloudseg-equipped", REFERENCE)
#: CloudSeg as published, and its rival that is told the same.
DRAWN = "cloudseg"
AS_DRAWN = ("removal-then-segmentation", DRAWN)
#: One modality, and plain fusion, which learn from labels alone.
FUSION = ("optical-only", "sar-only", "early-fusion", "middle-fusion", "late-fusion")
#: Name of a group, as ``--methods`` takes it -> its rows.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "headline": HEADLINE,
        "as-drawn": AS_DRAWN,
        "fusion": FUSION,
        "parts": ("cloudseg-no-removal", "cloudseg-no-distillation", "cloudseg-neither"),
    }
)
