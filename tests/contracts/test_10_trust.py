"""What stands between a bundle and somebody who can write where it lies."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time

import pytest
from support.cli_parts import refused, run, run_json

from esccs_edge import Bundle, Classifier, open_model
from esccs_edge.contracts import bundle as bundle_module
from esccs_edge.contracts.bundle_files import MANIFEST
from esccs_edge.contracts.json_text import MAX_DEPTH, parsed_json
from esccs_edge.errors import ArtifactError, InputError, ManifestError

posix = pytest.mark.skipif(os.name != "posix", reason="these are POSIX modes")


def rewrite(bundle, change) -> None:
    """Change the manifest as anyone with a text editor could."""
    path = bundle.folder / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def other_mean(document) -> None:
    document["modalities"]["optical"]["mean"][0] += 0.01


# ---- the digest ---------------------------------------------------------------------------------


def test_the_digest_is_the_sha256_of_the_file(bundle):
    content = (bundle.folder / MANIFEST).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    opened = Bundle.open(bundle.folder)
    assert opened.digest == bundle.digest == opened.identity["digest"] == digest
    assert Bundle.open(bundle.folder, digest=digest.upper()) == opened
    (bundle.folder / MANIFEST).write_bytes(content.replace(b"  ", b" "))
    assert Bundle.open(bundle.folder).digest != digest  # the bytes count, not what they mean


@pytest.mark.fault(52)
def test_a_changed_manifest_is_refused_before_it_is_parsed(bundle, monkeypatch):
    digest = bundle.digest
    rewrite(bundle, other_mean)
    assert Bundle.open(bundle.folder).verify()  # nothing else would notice
    monkeypatch.setattr(bundle_module, "Manifest", None)
    with pytest.raises(ArtifactError, match=f"expected {digest}.*another bundle"):
        Bundle.open(bundle.folder, digest=digest)


@pytest.mark.parametrize("open_it", [Classifier, open_model])
def test_the_front_doors_hold_a_bundle_to_its_digest(bundle, open_it):
    digest = bundle.digest
    for given in (bundle, bundle.folder):
        open_it(given, "cpu", digest=digest).close()
        with pytest.raises(ArtifactError, match="expected 000"):
            open_it(given, "cpu", digest="0" * 64)


@pytest.mark.parametrize("digest", ["", "abc", "0" * 63, "g" * 64, " " + "0" * 64, "0" * 64 + "\n"])
def test_what_is_no_digest_is_refused(bundle, digest):
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        Bundle.open(bundle.folder, digest=digest)


def test_the_commands_print_and_take_the_digest(bundle):
    digest = run_json("verify", bundle.folder)["digest"]
    assert digest == bundle.digest
    assert run_json("inspect", bundle.folder, "--digest", digest)
    rewrite(bundle, other_mean)
    folder = bundle.folder
    for words in (
        ("inspect", folder),
        ("verify", folder),
        ("build", folder),
        ("classify", "o.tif", "-", "--bundle", folder),
        ("map", "o.tif", "-", "map.tif", "--bundle", folder),
        ("bench", "--bundle", folder),
        ("export", folder),
        ("calibrate", folder, "index.csv"),
        ("evaluate", folder, "index.csv"),
    ):
        if words[0] in ("export", "calibrate", "evaluate"):
            pytest.importorskip(
                "torch", reason="export, calibration and training are not installed"
            )
        assert "expected " + digest in refused(run(*words, "--digest", digest))


# ---- what a manifest may look like --------------------------------------------------------------


def text_of(bundle) -> str:
    return (bundle.folder / MANIFEST).read_text()


@pytest.mark.fault(50)
@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda t: t.replace('"height": 16', '"height": 9, "height": 16'), "'height' stands twice"),
        (lambda t: t.replace('"sha256"', '"bytes": 1, "sha256"', 1), "'bytes' stands twice"),
        (lambda t: "\ufeff" + t, "not valid JSON"),
        (lambda t: t.encode("utf-16"), "not valid JSON"),
        (lambda t: t.encode("utf-32"), "not valid JSON"),
        (lambda t: t.encode("utf-16-le"), "not valid JSON"),
        (lambda t: t.replace('"tiny"', '"\\ud800"'), "not valid JSON"),
        (lambda t: t.replace('"schema_version": 2', '"schema_version": true'), "version True"),
        (lambda t: t.replace('"schema_version": 2', '"schema_version": 2.0'), "schema_version 2.0"),
        (lambda t: t.replace('"min": 1', '"min": true'), "min.*expected an integer"),
        (lambda t: t.replace('"min": 1', '"min": 1.0'), "min.*expected an integer"),
        (lambda t: t.replace('"temperature": 1.0', '"temperature": "1"'), "temperature"),
        (lambda t: t.replace('"temperature": 1.0', '"temperature": true'), "temperature"),
        (lambda t: t.replace('"N",\n        13', '"N",\n        13.0'), "inputs"),
        (lambda t: t.replace('"sha256": "', '"sha256": "0', 1), "64 hexadecimal digits"),
        (lambda t: t.replace('"bytes": ', '"bytes": -', 1), "bytes.*0 or more"),
        (lambda t: t.replace('"provenance": {', f'"provenance": {{"x": {"[" * 900}{"]" * 900}'),
         "nested deeper"),
        (lambda t: "[" * 200_000, "nested deeper|not valid JSON"),
    ],
)  # fmt: skip
def test_a_manifest_that_could_be_read_in_two_ways_is_refused(bundle, change, reason):
    changed = change(text_of(bundle))
    content = changed if isinstance(changed, bytes) else changed.encode()
    assert content != text_of(bundle).encode()
    (bundle.folder / MANIFEST).write_bytes(content)
    with pytest.raises(ManifestError, match=reason):
        Bundle.open(bundle.folder)


def test_nesting_up_to_the_limit_is_read():
    def nested(depth: int) -> str:
        return "[" * depth + "]" * depth

    assert parsed_json(nested(MAX_DEPTH)) is not None
    with pytest.raises(ValueError, match="nested deeper"):
        parsed_json(nested(MAX_DEPTH + 1))


# ---- kind and size before anything is read ------------------------------------------------------


@pytest.mark.fault(31, 50, 51)
@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "sparse", "link", "folder", "loop"])
def test_a_manifest_that_is_no_plain_file_is_refused_at_once(bundle, tmp_path, kind):
    path = bundle.folder / MANIFEST
    path.rename(tmp_path / "elsewhere.json")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "sparse":
        with open(path, "wb") as stream:
            stream.truncate(3 << 30)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere.json")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    started_s = time.monotonic()
    with pytest.raises(ManifestError, match="cannot read"):
        Bundle.open(bundle.folder)
    assert time.monotonic() - started_s < 5


@pytest.mark.fault(51)
@posix
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_bundle_file_that_is_no_plain_file_is_refused_at_once(bundle, tmp_path, kind):
    path = bundle.folder / "student.onnx"
    path.rename(tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.mkdir()
    with pytest.raises(ArtifactError, match="not a regular file"):
        bundle.read("student.onnx")


# ---- who may write ------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("name", ["", MANIFEST])
@pytest.mark.parametrize("mode, who", [(0o777, "everyone"), (0o772, "everyone"), (0o775, "group")])
def test_a_bundle_that_others_can_write_needs_a_digest(bundle, monkeypatch, name, mode, who):
    monkeypatch.setattr("esccs_edge.system.writers._is_private", lambda *_: False)
    (bundle.folder / name).chmod(mode)
    with pytest.raises(ArtifactError, match=f"can be written by {who}.*chmod go-w"):
        Bundle.open(bundle.folder)
    assert Bundle.open(bundle.folder, digest=bundle.digest).verify()


@posix
def test_a_group_of_the_owner_alone_is_the_owner(bundle, monkeypatch):
    monkeypatch.setattr("esccs_edge.system.writers._is_private", lambda *_: True)
    bundle.folder.chmod(0o775)
    assert Bundle.open(bundle.folder).verify()


@posix
def test_a_folder_in_which_only_own_files_can_be_replaced_is_accepted(bundle):
    bundle.folder.chmod(0o1777)
    assert Bundle.open(bundle.folder).verify()


@posix
def test_a_bundle_of_another_user_is_opened_with_a_warning(bundle, monkeypatch, caplog):
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(
        bundle_module.Path,
        "stat",
        lambda self: os.stat_result((0o40755, 0, 0, 0, 7, 0, 0, 0, 0, 0)),
    )
    with caplog.at_level(logging.WARNING, "esccs_edge.bundle"):
        bundle_module._require_own(bundle.folder)
    assert "belongs to user 7" in caplog.text
