"""What this CPU computes exactly and fast in low precision, as its instruction sets say.

The kernels of OpenVINO come from oneDNN, which ``ONEDNN_MAX_CPU_ISA`` can hold back to older
instruction sets; so the answers here honor it. Flags are read on Linux only: elsewhere no feature
is promised, and float graphs run.
"""

from __future__ import annotations

import os
import platform
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
_INT8_X86 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_INT8 = _INT8_X86 | {"asimddp"}
_X86 = ("x86_64", "amd64")
#: On ARM OpenVINO (2026.4 was seen) computes in float16 where it is asked for bfloat16.
_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
_FP16 = frozenset({"avx512_fp16", "amx_fp16", "asimdhp"})


def has_int8_dot_products() -> bool:
    """Return whether INT8 products are summed in 32 bits (VNNI, AMX, ARM dot products).

    Without them OpenVINO adds pairs of products in 16 bits, which saturate, and gains no time.
    """
    return bool(_features() & _INT8)


def gains_by_int8() -> bool:
    """Return whether OpenVINO computes the convolutions of an INT8 graph in INT8.

    On ARM (2026.4 was seen) it does so for few of them: 5 of 23 in the default bundle, none in
    that of crop series. The others get a quantization and a dequantization around float32.
    """
    return bool(_features() & _INT8_X86)


def ends_at_avx2() -> bool:
    """Return whether this is an x86 CPU on which vectors of 512 bits are not used."""
    return platform.machine().lower() in _X86 and "avx512f" not in _features()


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
