"""Instruction sets as /proc/cpuinfo lists them, and what ONEDNN_MAX_CPU_ISA leaves of them."""

from __future__ import annotations

import pytest

from esccs_edge.system import cpu_features
from esccs_edge.system.cpu_features import (
    ends_at_avx2,
    gains_by_int8,
    has_bf16,
    has_fp16,
    has_int8_dot_products,
)

ZEN2 = "flags\t\t: fpu sse2 avx avx2 fma"
ZEN4 = "flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16"
ALDER_LAKE = "flags\t\t: fpu avx2 avx_vnni"
SAPPHIRE_RAPIDS = f"{ZEN4} avx512_fp16 amx_bf16 amx_int8 amx_tile"
ORIN = "Features\t: fp asimd evtstrm aes asimdhp asimddp"
GRAVITON_3 = f"{ORIN} sve bf16 i8mm"
RASPBERRY_4 = "Features\t: fp asimd evtstrm crc32"


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    def pretend(line: str, limit: str | None = None) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor\t: 0\nmodel name\t: test\n{line}\n\nprocessor\t: 1\n{line}\n")
        monkeypatch.setattr(cpu_features, "_CPU_INFO", file)
        if limit is None:
            monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        else:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    return pretend


@pytest.mark.parametrize(
    ("line", "int8", "bf16", "fp16"),
    [
        (ZEN2, False, False, False),
        (ZEN4, True, True, False),
        (ALDER_LAKE, True, False, False),
        (SAPPHIRE_RAPIDS, True, True, True),
        (ORIN, True, False, True),
        (GRAVITON_3, True, False, True),
        (RASPBERRY_4, False, False, False),
        ("", False, False, False),
    ],
)
def test_features_follow_from_the_flags(cpu, line, int8, bf16, fp16):
    cpu(line)
    assert (has_int8_dot_products(), has_bf16(), has_fp16()) == (int8, bf16, fp16)


@pytest.mark.parametrize(
    ("line", "limit", "int8", "bf16"),
    [
        (SAPPHIRE_RAPIDS, "AVX2", False, False),
        (SAPPHIRE_RAPIDS, "avx2", False, False),
        (SAPPHIRE_RAPIDS, "AVX512_CORE", False, False),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_VNNI", True, False),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_BF16", True, True),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_AMX", True, True),
        (SAPPHIRE_RAPIDS, "ALL", True, True),
        (SAPPHIRE_RAPIDS, "", True, True),
        (ALDER_LAKE, "AVX2_VNNI", True, False),
        (ALDER_LAKE, "AVX2", False, False),
        (ZEN2, "AVX512_CORE_AMX", False, False),
    ],
)
def test_the_limit_of_onednn_is_honored(cpu, line, limit, int8, bf16):
    cpu(line, limit)
    assert (has_int8_dot_products(), has_bf16()) == (int8, bf16)


@pytest.mark.parametrize(
    ("line", "gains"),
    [(ZEN2, False), (ZEN4, True), (ALDER_LAKE, True), (ORIN, False), (RASPBERRY_4, False)],
)
def test_int8_gains_on_x86_with_dot_products_only(cpu, line, gains):
    cpu(line)
    assert gains_by_int8() == gains


@pytest.mark.parametrize(
    ("machine", "line", "limit", "narrow"),
    [
        ("x86_64", ZEN2, None, True),
        ("AMD64", "", None, True),
        ("aarch64", ORIN, None, False),
        ("aarch64", ORIN, "AVX2", False),
        ("x86_64", ZEN4, None, False),
        ("x86_64", ZEN4, "AVX512_CORE", False),
        ("x86_64", ZEN4, "AVX2", True),
        ("x86_64", ZEN4, "SSE41", True),
    ],
)
def test_narrow_vectors_follow_from_machine_flags_and_limit(
    cpu, monkeypatch, machine, line, limit, narrow
):
    cpu(line, limit)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert ends_at_avx2() == narrow


def test_without_a_list_of_flags_nothing_is_promised(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu_features, "_CPU_INFO", tmp_path / "absent")
    assert not has_int8_dot_products() and not has_bf16() and not has_fp16()
    assert not gains_by_int8()
