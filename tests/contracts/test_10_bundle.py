"""A bundle vouches for its files: anything altered is refused before it is parsed."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import tiny

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import MANIFEST
from esccs_edge.errors import ArtifactError, ManifestError
from esccs_edge.system import atomic

MODEL = tiny.tiny_onnx(tiny.tiny_manifest())


def test_a_bundle_opens_equal_to_what_was_written(bundle):
    opened = Bundle.open(bundle.folder)
    assert opened == bundle and opened.digest == bundle.digest
    assert opened.read("student.onnx") == MODEL
    assert opened.verify() == ["mlm.json", "student.onnx"]


def test_adding_a_file_keeps_the_others_and_changes_the_digest(bundle):
    extended = bundle.add({"notes.txt": b"hello"}, temperature=2.0)
    assert extended.verify() == ["mlm.json", "notes.txt", "student.onnx"]
    assert Bundle.open(bundle.folder).manifest.temperature == 2.0
    assert extended.digest != bundle.digest


@pytest.mark.fault(52)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(place=st.integers(0, len(MODEL) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_is_refused(bundle, place, bit):
    path = bundle.folder / "student.onnx"
    damaged = bytearray(MODEL)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(ArtifactError, match="sha256"):
        bundle.read("student.onnx")


@pytest.mark.parametrize("content", [b"", MODEL[:-1], MODEL + b"\0"])
def test_another_length_is_refused(bundle, content):
    (bundle.folder / "student.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="bytes"):
        bundle.read("student.onnx")


@pytest.mark.fault(51)
def test_a_removed_or_linked_file_is_refused(bundle, tmp_path):
    path = bundle.folder / "student.onnx"
    path.rename(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtifactError, match="missing"):
        bundle.read("student.onnx")
    path.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtifactError, match="not a regular file"):
        bundle.read("student.onnx")


@pytest.mark.fault(51)
@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0b", MANIFEST])
def test_only_plain_file_names_are_read_and_written(bundle, name):
    with pytest.raises(ArtifactError):
        bundle.read(name)
    before = sorted(os.listdir(bundle.folder))
    with pytest.raises(ArtifactError, match="plain file name"):
        bundle.add({name: b""})
    assert sorted(os.listdir(bundle.folder)) == before


def test_an_unlisted_file_is_refused(bundle):
    (bundle.folder / "stray.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="stray"):
        bundle.read("stray.onnx")


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path):
    with pytest.raises(ManifestError, match="cannot read"):
        Bundle.open(tmp_path)


# ---- atomic writing -----------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic.atomic_path(target) as partial:
        partial.write_bytes(b"half")
        raise RuntimeError("stop")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.fault(46)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_named_with_what_is_needed(tmp_path, monkeypatch, call, number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(OSError, match="no space left in") as caught:
        atomic.write_atomic(tmp_path / "folder" / "out.bin", b"0" * 3_400_000)
    assert caught.value.errno == number
    assert caught.value.strerror == f"no space left in {tmp_path / 'folder'}: 3 MB are needed"
    assert os.listdir(tmp_path / "folder") == []


def test_the_bundle_in_the_package_is_not_changed(tmp_path):
    with pytest.raises(ArtifactError, match="shared by all") as caught:
        Bundle.open().require_own()
    assert "copy" in caught.value.hint
    Bundle.open().copy(tmp_path / "own").require_own()


@pytest.mark.fault(61)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_system_call_leaves_the_old_file(tmp_path, monkeypatch, call):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(OSError, match="no space left"):
        atomic.write_atomic(target, b"new")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.bin"]


def test_the_partial_file_keeps_the_suffix(tmp_path):
    with atomic.atomic_path(tmp_path / "map.tif") as partial:
        assert partial.name == "map.tif" and partial.parent.parent == tmp_path
        partial.write_bytes(b"x")
    assert os.listdir(tmp_path) == ["map.tif"]


def test_a_copy_leaves_out_what_is_not_wanted_and_vouches_for_the_rest(bundle, tmp_path):
    whole = bundle.add({"student.safetensors": b"weights"})
    copy = whole.copy(tmp_path / "copy", without=["student.safetensors"])
    assert Bundle.open(copy.folder).verify() == ["mlm.json", "student.onnx"]
    assert copy.manifest.evolve(files={}) == whole.manifest.evolve(files={})
    assert not (copy.folder / "student.safetensors").exists()


def test_a_copy_without_the_model_is_refused_and_writes_nothing(bundle, tmp_path):
    with pytest.raises(ArtifactError, match="no model to run"):
        bundle.copy(tmp_path / "copy", without=["student.onnx"])
    assert not (tmp_path / "copy").exists()
