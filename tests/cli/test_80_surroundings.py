"""Commands where streams are closed or full, letters are not known, or the process is to end."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from support.cli_parts import refused, run
from support.rasters import random_scene, write_raster

from esccs_edge import Bundle
from esccs_edge.cli.ending import how_to_go_on
from esccs_edge.errors import MissingDependencyError
from esccs_edge.scenes.map_reader import read_map

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX streams and signals")


def start(*words, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "esccs_edge", *map(str, words)]
    return subprocess.Popen(command, **options)


def finished(*words, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "esccs_edge", *map(str, words)]
    return subprocess.run(command, timeout=120, **{"capture_output": True, **options})


def shell(line: str, *words) -> subprocess.CompletedProcess:
    """Run in a shell, for what only a shell can do to the streams; ``$@`` is the command."""
    command = [sys.executable, "-m", "esccs_edge", *map(str, words)]
    return subprocess.run(["sh", "-c", line, "sh", *command], capture_output=True, timeout=120)


@pytest.fixture
def scene(bundle, tmp_path) -> list[Path | str]:
    optical, sar = random_scene(bundle.manifest, 48, 48, 1)
    write_raster(tmp_path / "o.tif", optical)
    write_raster(tmp_path / "s.tif", sar)
    return [tmp_path / "o.tif", tmp_path / "s.tif"]


@pytest.mark.fault(95)
def test_a_closed_standard_error_changes_nothing(bundle, scene, tmp_path):
    done = shell(
        '"$@" 2>&-', "map", *scene, tmp_path / "m.tif", "--bundle", bundle.folder, "--json"
    )
    assert done.returncode == 0 and json.loads(done.stdout)["height"] == 48
    closed = shell('"$@" <&- 2>&-', "inspect", bundle.folder)
    assert closed.returncode == 0 and b"tiny" in closed.stdout


@pytest.mark.fault(95)
def test_an_answer_that_finds_no_place_is_no_success(bundle):
    closed = shell('"$@" >&-', "inspect", bundle.folder)
    assert closed.returncode == 1 and b"standard output is closed" in closed.stderr
    full = shell('"$@" >/dev/full', "inspect", bundle.folder, "--json")
    assert full.returncode == 1 and b"No space left" in full.stderr
    assert b"Traceback" not in closed.stderr + full.stderr


@pytest.mark.fault(96)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_few_letters_gets_all_and_json_stays_json(tmp_path, encoding):
    from support import tiny

    classes = ("Wald", "Flüsse", "Städte", "海")
    named = tiny.tiny_bundle(tmp_path / "mödel", classes=classes)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    text = finished("inspect", named.folder, env=environment)
    assert text.returncode == 0 and b"Traceback" not in text.stderr
    answer = finished("inspect", named.folder, "--json", env=environment)
    assert "海" in json.dumps(json.loads(answer.stdout.decode(encoding)), ensure_ascii=False)


#: Locales in which Python knows ASCII alone, with its own remedies switched off.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.fault(96)
@pytest.mark.parametrize("word", ["Flüsse", "海", "naïve Kopie 2"])
def test_any_name_of_a_file_works_in_a_locale_that_knows_ascii_alone(bundle, tmp_path, word):
    folder = tmp_path / word
    folder.mkdir()
    optical, sar = random_scene(bundle.manifest, 16, 16, 1)
    write_raster(folder / f"{word}-o.tif", optical)
    write_raster(folder / f"{word}-s.tif", sar)
    pair = folder / f"{word}-o.tif", folder / f"{word}-s.tif"
    environment = {**os.environ, **ASCII}
    model = "--bundle", bundle.folder, "--json"
    right = finished("classify", *pair, *model)
    found = finished("classify", *pair, *model, env=environment)
    assert found.returncode == 0 and found.stdout == right.stdout
    made = folder / f"{word}.tif"
    mapped = finished(
        "map", *pair, made, "--quicklook", folder / f"{word}.png", *model, env=environment
    )
    assert mapped.returncode == 0, mapped.stderr
    assert json.loads(mapped.stdout)["quicklook"] == str(folder / f"{word}.png")
    item = json.loads(made.with_name(f"{word}.stac.json").read_text(encoding="utf-8"))
    assert item["id"] == word and item["assets"]["classes"]["href"] == f"./{word}.tif"
    stacked = finished("stack", *pair, "--out", folder / "pair", *model, env=environment)
    assert b"Traceback" not in stacked.stderr


@pytest.mark.fault(96)
def test_help_is_whole_without_docstrings():
    command = [sys.executable, "-OO", "-m", "esccs_edge"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120)
    plain = finished("--help").stdout.decode()
    assert shown.stdout == plain and "Turn a whole scene, or a season" in plain
    listed = plain.partition("Commands:")[2].partition("Examples:")[0].splitlines()
    assert all(len(line.split()) > 3 for line in listed if line.strip())


@pytest.mark.fault(96)
def test_an_output_name_that_is_no_text_is_refused(bundle, scene, tmp_path):
    name = os.fsencode(tmp_path) + b"/m\xff.tif"
    words = [os.fsencode(str(word)) for word in ("map", *scene)]
    command = [os.fsencode(sys.executable), b"-m", b"esccs_edge", *words, name]
    command += [b"--bundle", os.fsencode(bundle.folder)]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 1 and b"error:" in done.stderr and b"Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["bundle", "o.tif", "s.tif"]


@pytest.mark.fault(81)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_order_to_end_cleans_up_and_says_how_to_go_on(bundle, tmp_path, number):
    optical, sar = random_scene(bundle.manifest, 600, 600, 1)
    write_raster(tmp_path / "o.tif", optical)
    write_raster(tmp_path / "s.tif", sar)
    out = tmp_path / "out"
    out.mkdir()
    words = ("map", tmp_path / "o.tif", tmp_path / "s.tif", out / "m.tif", "--stride", "1")
    before = signal.signal(number, signal.SIG_DFL)  # in a shell's background SIGINT is ignored
    child = start(*words, "--bundle", bundle.folder, stderr=subprocess.PIPE)
    signal.signal(number, before)
    try:
        deadline_s = time.monotonic() + 60
        while not list(out.glob(".m-*")):  # at work
            assert child.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.02)
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == -number
    assert f"ended by {number.name}".encode() in said and b"--resume" in said
    assert b"Traceback" not in said and os.listdir(out) == []


ORDERED = """
    import os, signal, sys
    import click
    from esccs_edge.cli.ending import unwinding_on_signals
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    with unwinding_on_signals("go on like this"):
        try:
            os.kill(os.getpid(), signal.{name})
        except BaseException:
            {instead}
    print("goes on")
"""


@pytest.mark.fault(81)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("instead", ["pass", "sys.exit(0)", "raise ImportError", "raise"])
def test_no_library_turns_an_order_to_end_into_success(name, instead):
    program = textwrap.dedent(ORDERED).format(name=name, instead=instead)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert done.returncode == -getattr(signal, name)
    assert done.stdout == b"" and done.stderr.count(b"go on like this") == 1


def test_the_hint_is_that_of_the_command():
    assert "--resume" in how_to_go_on({"resume": False})
    assert "--resume" in how_to_go_on({"resume": False, "catalog": None})
    for options in ({"resume": True}, {"resume": False, "catalog": "list.csv"}, {"folds": 2}, {}):
        assert "same command" in how_to_go_on(options)
        assert "--resume" not in how_to_go_on(options)


@pytest.mark.fault(96)
@pytest.mark.parametrize("odd", ["umask", "no home", "locale C", "folder is gone"])
def test_odd_surroundings_change_no_answer(bundle, scene, tmp_path, odd):
    line = {
        "umask": 'umask 777; exec "$@"',
        "no home": 'unset HOME XDG_CACHE_HOME ESCCS_CACHE_DIR; exec "$@"',
        "locale C": 'export LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0; exec "$@"',
        "folder is gone": 'd=$(mktemp -d); cd "$d"; rmdir "$d"; exec "$@"',
    }[odd]
    folder = tmp_path / ("a space" if odd == "locale C" else "a space and ünïcode")
    folder.mkdir()
    words = ("map", *scene, folder / "m.tif", "--bundle", bundle.folder, "--json")
    done = shell(line, *words)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr.decode()
    os.chmod(folder / "m.tif", 0o600)
    assert read_map(folder / "m.tif", 48).classes.shape == (48, 48)


def test_a_signal_that_the_caller_ignores_stays_ignored(bundle, scene, tmp_path):
    line = 'trap "" HUP; "$@" & sleep 1; kill -HUP $!; wait $!'
    done = shell(line, "map", *scene, tmp_path / "m.tif", "--bundle", bundle.folder)
    assert done.returncode == 0 and (tmp_path / "m.tif").is_file()


def test_memory_that_runs_out_is_said_in_words(monkeypatch):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr(Bundle, "open", no_memory)
    assert "memory ran out" in refused(run("inspect", "default"))


@pytest.mark.fault(46)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_in_words(monkeypatch, tmp_path, number):
    def full(*_, **__):
        raise OSError(number, f"no space left in {tmp_path}")

    monkeypatch.setattr(Bundle, "open", full)
    stderr = refused(run("inspect", tmp_path))
    assert f"error: no space left in {tmp_path}\n" in stderr and "Free space" in stderr


def test_a_model_of_the_package_has_no_weights_to_export_and_says_where_they_are():
    pytest.importorskip("torch")
    stderr = refused(run("export", "default"))
    assert "no file 'student.safetensors'" in stderr and "esccs-edge train" in stderr


def test_a_command_that_is_misspelled_is_named():
    result = run("claassify", "a.tif", "b.tif")
    assert result.exit_code == 2 and "Did you mean classify?" in result.stderr
    assert "Did you mean" not in run("xyz").stderr


def test_the_folder_around_a_bundle_is_not_taken_for_one(bundle):
    stderr = refused(run("inspect", bundle.folder.parent))
    assert f"Did you mean {bundle.folder}?" in stderr
    (bundle.folder / "manifest.json").unlink()
    assert "RUN/bundle" in refused(run("inspect", bundle.folder))


@pytest.mark.parametrize("command", [("calibrate", "default", "index.csv"), ("build", "default")])
def test_no_command_changes_the_bundle_in_the_package(command):
    needed = {"calibrate": "onnxruntime"}
    pytest.importorskip(needed.get(command[0], "onnx"))
    stderr = refused(run(*command))
    assert "shared by all" in stderr and ("--out" if command[0] == "build" else "copy") in stderr


@pytest.mark.parametrize(("missing", "words"), [
    ("rasterio.of_tomorrow", "another version of the package rasterio"),
    ("rasterio", "needs the package rasterio, which is not installed"),
])  # fmt: skip
def test_a_package_that_is_too_old_is_not_called_absent(monkeypatch, tmp_path, missing, words):
    def absent(*_, **__):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(Bundle, "open", absent)
    stderr = refused(run("inspect", tmp_path))
    assert words in stderr and "esccs-edge[geo]" in stderr


def test_a_package_that_is_there_and_does_not_load_is_not_called_absent():
    absent = MissingDependencyError.for_extra("rasterio", "geo", "This", ModuleNotFoundError("no"))
    broken = MissingDependencyError.for_extra("rasterio", "geo", "This", ImportError("no memory"))
    assert "not installed" in absent.message and "pip install" in absent.hint
    assert "does not load: no memory" in broken.message and "esccs-edge[" not in broken.hint
