"""The compared methods; `METHODS` gives them their order in the tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import (
    cycit,
    esccs_variants,
    g2d,
    gdl,
    kd_s,
    kdhn,
    mmpareto,
    modality_valuation,
    ogm_ge,
    qmf,
    reference_rows,
    spl,
    tlf,
    ttl,
    upper_bounds,
)
from .cloud_aware import cloud_aware
from .method import Method

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "source-only": reference_rows.SOURCE_ONLY,
        "kd-s": kd_s.METHOD,
        "spl": spl.METHOD,
        "ttl": ttl.METHOD,
        "cycit": cycit.METHOD,
        "kdhn": kdhn.METHOD,
        "tlf-early": tlf.EARLY,
        "tlf-middle": tlf.MIDDLE,
        "tlf-late": tlf.LATE,
        "gdl": gdl.METHOD,
        "ogm-ge": ogm_ge.METHOD,
        "mmpareto": mmpareto.METHOD,
        "modality-valuation": modality_valuation.METHOD,
        "qmf": qmf.METHOD,
        "g2d": g2d.METHOD,
        "kd-s-cloud-aware": cloud_aware(kd_s.METHOD),
        "ttl-cloud-aware": cloud_aware(ttl.METHOD),
        "kdhn-cloud-aware": cloud_aware(kdhn.METHOD),
        "tlf-middle-cloud-aware": cloud_aware(tlf.MIDDLE),
        "qmf-cloud-aware": cloud_aware(qmf.METHOD),
        "optical-auxiliary": reference_rows.OPTICAL_AUXILIARY,
        "sar-auxiliary": reference_rows.SAR_AUXILIARY,
        "esccs-plain": esccs_variants.PLAIN,
        "esccs-each-view": esccs_variants.EACH_VIEW,
        "esccs-own-start": esccs_variants.OWN_START,
        "esccs-no-irm": esccs_variants.NO_IRM,
        "esccs-no-gate": esccs_variants.NO_GATE,
        "esccs-ogm": esccs_variants.OGM,
        "esccs-power-floor": esccs_variants.FLOOR,
        "esccs": reference_rows.ESCCS,
        "supervised-fusion": upper_bounds.SUPERVISED_FUSION,
        "clear-teacher": upper_bounds.CLEAR_TEACHER,
    }
)

#: Kind of row -> its methods. The others are the reference, its two halves and the bounds.
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "compared in the paper": (
            "kd-s", "spl", "ttl", "cycit", "kdhn", "tlf-early", "tlf-middle", "tlf-late", "gdl",
        ),
        "newer work": ("ogm-ge", "mmpareto", "modality-valuation", "qmf", "g2d"),
        "with the cloud estimate": (
            "kd-s-cloud-aware", "ttl-cloud-aware", "kdhn-cloud-aware", "tlf-middle-cloud-aware",
            "qmf-cloud-aware",
        ),
        "ESCCS with a change": (
            "esccs-plain", "esccs-each-view", "esccs-own-start", "esccs-no-irm", "esccs-no-gate",
            "esccs-ogm", "esccs-power-floor",
        ),
    }
)  # fmt: skip
