"""Building from source compiles the CUDA kernels for the GPU at hand, and for all where none is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.fatbins import SERVED, SERVED_AS_PTX

from esccs_edge.cuda.fatbin import Image, images_of

NATIVE = Path(__file__).parents[2] / "esccs_edge" / "native"
PROJECT = """
cmake_minimum_required(VERSION 3.18...3.30)
project(kernels LANGUAGES NONE)
include({native}/kernels.cmake)
"""
#: Writes its options in place of a fatbin; what it knows is told by its environment.
FAKE_NVCC = """#!/bin/sh
if [ "$1" = --list-gpu-arch ]; then for a in $KNOWN; do echo compute_$a; done; exit; fi
for word; do case $word in -gencode=*) echo "$word";; esac; done > options
for word; do [ "$last" = -o ] && mv options "$word"; last=$word; done
"""
ALL = [f"arch=compute_{gpu},code=sm_{gpu}" for gpu in SERVED] + [
    f"arch=compute_{gpu},code=compute_{gpu}" for gpu in SERVED_AS_PTX
]

pytestmark = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs CMake")


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def build(tmp_path):
    """Configure and build on a machine where these programs say these things."""

    def run(nvcc: Path, asked="", smi="exit 9", query="exit 1", known=SERVED) -> tuple[bytes, str]:
        (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(native=NATIVE))
        programs = script(tmp_path / "bin" / "nvidia-smi", f"#!/bin/sh\n{smi}\n").parent
        script(nvcc.parent / "__nvcc_device_query", f"#!/bin/sh\n{query}\n")
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "KNOWN": " ".join(map(str, known)),
        }
        words = [f"-DNVCC={nvcc}", *([f"-DESCCS_CUDA_ARCHITECTURES={asked}"] if asked else [])]
        said = ""
        for step in (["-S", tmp_path, "-B", tmp_path / "build", *words], ["--build", "build"]):
            done = subprocess.run(["cmake", *step], cwd=tmp_path, env=environment, text=True,
                                  capture_output=True)  # fmt: skip
            said += done.stdout + done.stderr
            if done.returncode:
                return b"", said
        return (tmp_path / "build" / "preprocess.fatbin").read_bytes(), said

    return run


@pytest.fixture
def options(build, tmp_path):
    """What nvcc was asked to compile for."""
    nvcc = script(tmp_path / "toolkit" / "nvcc", FAKE_NVCC)

    def run(**machine) -> list[str]:
        return build(nvcc, **machine)[0].decode().replace("-gencode=", "").split()

    return run


def test_the_gpu_at_hand_and_nothing_else(options):
    assert options(smi="echo 8.6") == ["arch=compute_86,code=sm_86"]


def test_each_kind_of_gpu_at_hand_once(options):
    found = options(smi="printf '9.0\\n8.9\\n9.0\\n'")
    assert found == ["arch=compute_90,code=sm_90", "arch=compute_89,code=sm_89"]


def test_where_nvidia_smi_does_not_know_the_driver_is_asked(options):
    assert options(smi="echo [N/A]", query="printf 87") == ["arch=compute_87,code=sm_87"]


@pytest.mark.parametrize("smi", ["exit 9", "echo 'No devices were found'", "echo 8.6; exit 9"])
def test_all_where_no_gpu_is_seen(options, smi):
    assert options(smi=smi) == ALL


def test_wheels_ask_for_all_beside_a_gpu(options):
    assert options(smi="echo 8.6", asked="all") == ALL


def test_what_is_asked_for_wins_with_ptx_for_what_comes(options):
    assert options(smi="echo 8.6", asked="87") == [
        "arch=compute_87,code=sm_87", "arch=compute_80,code=compute_80",
        "arch=compute_87,code=compute_87",
    ]  # fmt: skip


def test_a_gpu_newer_than_nvcc_gets_ptx(build, tmp_path):
    nvcc = script(tmp_path / "toolkit" / "nvcc", FAKE_NVCC)
    content, said = build(nvcc, smi="echo 12.1", known=(80, 90))
    assert b"compute_90,code=compute_90" in content and b"121" not in content
    assert "knows no GPU of compute capability 121" in " ".join(said.split())


def test_what_nvcc_cannot_compile_for_is_refused(build, tmp_path):
    nvcc = script(tmp_path / "toolkit" / "nvcc", FAKE_NVCC)
    content, said = build(nvcc, asked="53")
    assert not content and "compiles for none of ESCCS_CUDA_ARCHITECTURES=53" in said


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_the_fatbin_of_a_real_nvcc_holds_that_gpu_alone(build, tmp_path):
    nvcc = script(tmp_path / "toolkit" / "nvcc", f'#!/bin/sh\nexec {shutil.which("nvcc")} "$@"\n')
    content, said = build(nvcc, smi="echo 8.7")
    assert content, said
    assert images_of(content) == [Image(False, (8, 7))]
