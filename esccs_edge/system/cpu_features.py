"""What this CPU computes exactly and fast in low precision, as its instruction sets say.

The kernels of OpenVINO come from oneDNN, which ``ONEDNN_MAX_CPU_ISA`` can hold back to older
instruction sets; so the answers here honor it. Flags are read on Linux only: elsewhere no feature
is promised, and float graphs run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_VARIABLE = "ONEDNN_MAX_CPU_ISA"
#: Values of the variable that hold nothing back.
_UNLIMITED = ("", "ALL", "DEFAULT")
#: What each limit still allows of the features asked for here; other limits allow none.
_ALLOWED: Mapping[str, frozenset[str]] = {
    "AVX2_VNNI": frozenset({"avx_vnni"}),
    "AVX2_VNNI_2": frozenset({"avx_vnni"}),
    "AVX512_CORE": frozenset({"avx512f"}),
    "AVX512_CORE_VNNI": frozenset({"avx512f", "avx512_vnni"}),
    "AVX512_CORE_BF16": frozenset({"avx512f", "avx512_vnni", "avx512_bf16"}),
    "AVX512_CORE_FP16": frozenset({"avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"}),
    "AVX10_1_512": frozenset({"avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"}),
}
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_FP16 = frozenset({"avx512_fp16", "amx_fp16", "asimdhp"})


def has_int8_dot_products() -> bool:
    """Return whether INT8 products are summed in 32 bits (VNNI, AMX, ARM dot products).

    Without them OpenVINO adds pairs of products in 16 bits, which saturate, and gains no time.
    """
    return bool(_features() & _INT8)


def has_avx512() -> bool:
    """Return whether vectors of 512 bits are used."""
    return "avx512f" in _features()


def has_bf16() -> bool:
    """Return whether bfloat16 products are computed natively."""
    return bool(_features() & _BF16)


def has_fp16() -> bool:
    """Return whether float16 products are computed natively."""
    return bool(_features() & _FP16)


def _features() -> frozenset[str]:
    """Return the flags of the first core, without those that the variable rules out."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:  # not Linux: nothing is known, so nothing is promised
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    flags = frozenset(found.partition(":")[2].split())
    limit = os.environ.get(_VARIABLE, "").upper()
    if limit in _UNLIMITED or "AMX" in limit:
        return flags
    return flags & _ALLOWED.get(limit, frozenset())
