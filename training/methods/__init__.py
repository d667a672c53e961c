"""The compared methods; `METHODS` gives them their order in the tables."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from . import (
    cycit,
    esccs_paper,
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
    regulation,
    skill,
    spl,
    tlf,
    ttl,
    upper_bounds,
)
from .cloud_aware import cloud_aware, on_sgd
from .method import Method

_PAPER: Mapping[str, Method] = {
    "kd-s": kd_s.METHOD,
    "spl": spl.METHOD,
    "ttl": ttl.METHOD,
    "cycit": cycit.METHOD,
    "kdhn": kdhn.METHOD,
    "tlf-early": tlf.EARLY,
    "tlf-middle": tlf.MIDDLE,
    "tlf-late": tlf.LATE,
    "gdl": gdl.METHOD,
}
_NEWER: Mapping[str, Method] = {
    "kd-sar": kd_s.SAR,
    "ogm-ge": ogm_ge.METHOD,
    "mmpareto": mmpareto.METHOD,
    "modality-valuation": modality_valuation.METHOD,
    "qmf": qmf.METHOD,
    "g2d": g2d.METHOD,
}
#: Methods that act on gradients.
_ON_GRADIENTS = ("ogm-ge", "mmpareto", "g2d")
#: SPL asks the teacher nothing on the target and knows the simulator; CycIT is not reproduced.
_CLOUD_AWARE: Mapping[str, Method] = {
    f"{name}-cloud-aware": cloud_aware(method)
    for name, method in {**_PAPER, **_NEWER}.items()
    if name not in ("spl", "cycit")
}
_SGD: Mapping[str, Method] = {
    f"{name}-sgd-cloud-aware": on_sgd(_CLOUD_AWARE[f"{name}-cloud-aware"]) for name in _ON_GRADIENTS
}
_CHANGED: Mapping[str, Method] = {
    "esccs-archive": esccs_variants.ARCHIVE,
    "esccs-no-step-one": esccs_variants.NO_STEP_ONE,
    "esccs-no-step-two": esccs_variants.NO_STEP_TWO,
    "esccs-no-irm": esccs_variants.NO_IRM,
    "esccs-hard": esccs_variants.HARD,
    "esccs-features": esccs_variants.FEATURES,
    "esccs-apart": esccs_variants.APART,
    "esccs-blend": esccs_variants.BLEND,
    "esccs-three-losses": esccs_variants.THREE_LOSSES,
    "esccs-answers": esccs_variants.ANSWERS,
    "esccs-no-gate": esccs_variants.NO_GATE,
    "esccs-own-start": esccs_variants.OWN_START,
    "esccs-crosswise": esccs_variants.CROSSWISE,
    "esccs-skill": skill.SKILL,
    "esccs-trusting": skill.TRUSTING,
    "esccs-branches-no-irm": regulation.EQUAL,
    "esccs-branches": regulation.BALANCED,
    "esccs-branches-trusting": regulation.TRUSTING,
    "esccs-branches-no-irm-sgd": regulation.EQUAL_SGD,
    "esccs-branches-sgd": regulation.BALANCED_SGD,
    "esccs-branches-trusting-sgd": regulation.TRUSTING_SGD,
}

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "source-only": reference_rows.SOURCE_ONLY,
        **_PAPER,
        **_NEWER,
        "esccs-paper": esccs_paper.METHOD,
        "esccs-paper-outputs": esccs_paper.OUTPUTS,
        **_CLOUD_AWARE,
        **_SGD,
        "optical-auxiliary": reference_rows.OPTICAL_AUXILIARY,
        "sar-auxiliary": reference_rows.SAR_AUXILIARY,
        **_CHANGED,
        "esccs": reference_rows.ESCCS,
        "supervised-fusion": upper_bounds.SUPERVISED_FUSION,
        "clear-teacher": upper_bounds.CLEAR_TEACHER,
    }
)

#: Kind of row -> its methods. The others are the reference, its two halves and the bounds.
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "compared in the paper": tuple(_PAPER),
        "newer work": tuple(_NEWER),
        "ESCCS as drawn": ("esccs-paper", "esccs-paper-outputs"),
        "given what ESCCS is given": (*_CLOUD_AWARE, *_SGD),
        "ESCCS with a change": tuple(_CHANGED),
    }
)

#: The comparison that the first page may quote: ESCCS and rivals that are told the same as it.
HEADLINE = (
    "kd-s-cloud-aware", "ttl-cloud-aware", "kd-sar-cloud-aware", "kdhn-cloud-aware",
    "tlf-middle-cloud-aware", "tlf-late-cloud-aware", "gdl-cloud-aware",
    "mmpareto-cloud-aware", "modality-valuation-cloud-aware", "qmf-cloud-aware",
    "g2d-cloud-aware", "esccs",
)  # fmt: skip
#: The comparison of the paper: its method as drawn and its rivals, told the same as it.
AS_DRAWN = (
    "kd-s", "ttl", "kdhn", "tlf-early", "tlf-middle", "tlf-late", "gdl", "esccs-paper",
)  # fmt: skip
#: Name of a group, as ``--methods`` takes it -> its rows.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "headline": HEADLINE,
        "as-drawn": AS_DRAWN,
        "ends": ("source-only", "supervised-fusion", "clear-teacher"),
        "halves": ("optical-auxiliary", "sar-auxiliary"),
        "parts": tuple(_CHANGED),
    }
)
