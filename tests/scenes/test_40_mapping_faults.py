"""Maps appear whole or not at all, whatever goes wrong on the way."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window
from support.mapping_parts import MANIFEST, FakeClassifier, everything_in
from support.rasters import random_scene, write_raster
from support.tiny import tiny_manifest

from esccs_edge.errors import BackendError, InputError, RasterError
from esccs_edge.scenes import map_writer
from esccs_edge.scenes.map_reader import read_map
from esccs_edge.scenes.map_writer import NODATA, scores_path_of
from esccs_edge.scenes.mapping import classify_scene
from esccs_edge.system.working_folder import working_folder


@pytest.fixture
def scene(tmp_path):
    optical, sar = random_scene(MANIFEST, 37, 29)
    return write_raster(tmp_path / "o.tif", optical), write_raster(tmp_path / "s.tif", sar)


@pytest.mark.parametrize("fail_at", [0, 1, 30, 62])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failing_backend_leaves_everything_as_it_was(tmp_path, scene, fail_at, existing):
    if existing:
        classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif")
    before = everything_in(tmp_path)
    classifier = FakeClassifier(fail_at=fail_at, error=BackendError("device lost"))
    with pytest.raises(BackendError, match="device lost"):
        classify_scene(classifier, *scene, tmp_path / "map.tif", overwrite=True)
    assert everything_in(tmp_path) == before


def test_any_exception_of_the_caller_leaves_nothing(tmp_path, scene):
    def interrupt(done, total):
        if done == 20:
            raise KeyboardInterrupt

    before = everything_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif", progress=interrupt)
    assert everything_in(tmp_path) == before


@pytest.mark.fault(44)
def test_an_input_truncated_while_it_is_read_leaves_nothing(tmp_path):
    optical = write_raster(tmp_path / "o.tif", random_scene(MANIFEST, 400, 64)[0])
    classifier = FakeClassifier()

    def truncate(done, total):
        if done == 1:
            os.truncate(optical, 20_000)

    with rasterio.Env(GDAL_CACHEMAX=0), pytest.raises(RasterError, match="cannot read"):
        classify_scene(classifier, optical, None, tmp_path / "map.tif", progress=truncate)
    assert [p.name for p in tmp_path.iterdir()] == ["o.tif"]


def test_a_stream_that_ends_early_is_an_error(tmp_path, scene):
    class Short(FakeClassifier):
        def stream(self, pairs):
            yield next(super().stream(pairs))

    before = everything_in(tmp_path)
    with pytest.raises(BackendError, match="1 answers came for 63 patches"):
        classify_scene(Short(), *scene, tmp_path / "map.tif")
    assert everything_in(tmp_path) == before


@pytest.mark.fault(46)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, share):
    """A limit on the size of a file stands in for the disk: writes beyond it fail."""
    paths = [write_raster(tmp_path / "o.tif", random_scene(MANIFEST, 600, 600)[0]), None]
    classifier = FakeClassifier(tiny_manifest(32))
    classify_scene(classifier, *paths, tmp_path / "map.tif")
    before = everything_in(tmp_path)
    largest = max(len(before[name]) for name in ("map.tif", "map.scores.tif"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * largest), hard))
    try:
        with pytest.raises(RasterError, match="cannot write map.tif"):
            classify_scene(classifier, *paths, tmp_path / "map.tif", overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything_in(tmp_path) == before


@pytest.mark.fault(46)
def test_a_write_that_was_lost_silently_is_found(tmp_path, scene, monkeypatch):
    """GDAL may only log a failed write; the lost block then reads back as something else."""
    finish = map_writer._finish

    def lose_a_block(folder, stem, overviews):
        with rasterio.open(folder / f"{stem}.tif", "r+") as dataset:
            dataset.write(
                np.full((1, 1), NODATA, np.uint8), dataset.count, window=Window(3, 3, 1, 1)
            )
        return finish(folder, stem, overviews)

    before = everything_in(tmp_path)
    monkeypatch.setattr(map_writer, "_finish", lose_a_block)
    with pytest.raises(RasterError, match="does not read back"):
        classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif")
    assert everything_in(tmp_path) == before


@pytest.mark.fault(47)
def test_a_killed_process_leaves_the_old_map(tmp_path, scene):
    """The child kills itself in the middle of its second run over the same output."""
    script = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
from test_40_mapping import FakeClassifier, classify_scene


def die(done, total):
    if done == 40:
        os.kill(os.getpid(), signal.SIGKILL)
run = lambda **more: classify_scene(
    FakeClassifier(), {str(scene[0])!r}, {str(scene[1])!r}, {str(tmp_path / "map.tif")!r}, **more)
run()
run(overwrite=True, progress=die, stride=2)
"""
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert child.returncode == -9, child.stderr.decode()
    classify_scene(FakeClassifier(), *scene, tmp_path / "new.tif")
    for pair in (("map.tif", "new.tif"), ("map.scores.tif", "new.scores.tif")):
        assert len({(tmp_path / name).read_bytes() for name in pair}) == 1
    assert not list(tmp_path.glob(".*"))  # the run of another map has swept
    classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif", overwrite=True)


def test_the_working_folder_of_a_living_process_is_kept(tmp_path, scene):
    with working_folder(tmp_path / "map.tif") as folder:
        os.utime(folder, (0, 0))
        classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif")
        assert folder.exists()
    assert not folder.exists()


# Refusals before any work


@pytest.mark.fault(45)
def test_an_existing_map_is_kept_without_overwrite(tmp_path, scene):
    out = tmp_path / "map.tif"
    classify_scene(FakeClassifier(), *scene, out)
    before = everything_in(tmp_path)
    with pytest.raises(RasterError, match="map.tif already exists"):
        classify_scene(FakeClassifier(), *scene, out)
    out.unlink()
    with pytest.raises(RasterError, match=r"map.scores.tif already exists"):
        classify_scene(FakeClassifier(), *scene, out)
    classify_scene(FakeClassifier(), *scene, out, overwrite=True)
    assert everything_in(tmp_path) == before


@pytest.mark.fault(45)
def test_an_output_that_is_an_input_is_refused_even_with_overwrite(tmp_path, scene):
    before = everything_in(tmp_path)
    (tmp_path / "link.tif").symlink_to(scene[1])
    for out in (scene[0], tmp_path / "sub" / ".." / "o.tif", tmp_path / "link.tif"):
        (tmp_path / "sub").mkdir(exist_ok=True)
        with pytest.raises(InputError, match="also an input"):
            classify_scene(FakeClassifier(), *scene, out, overwrite=True)
    named = write_raster(tmp_path / "map.scores.tif", random_scene(MANIFEST, 37, 29)[1])
    with pytest.raises(InputError, match="also an input"):
        classify_scene(FakeClassifier(), None, named, tmp_path / "map.tif", overwrite=True)
    assert {name: everything_in(tmp_path)[name] for name in before} == before


@pytest.mark.parametrize(
    ("out", "options", "error", "found"),
    [
        ("map.png", {}, InputError, "ending in .tif"),
        ("no/map.tif", {}, RasterError, "does not exist"),
        ("map.tif", {"stride": 0}, InputError, "stride is 0, expected 1 to 8"),
        ("map.tif", {"stride": 9}, InputError, "stride is 9, expected 1 to 8"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(tmp_path, scene, out, options, error, found):
    before = everything_in(tmp_path)
    with pytest.raises(error, match=found):
        classify_scene(FakeClassifier(), *scene, tmp_path / out, **options)
    assert everything_in(tmp_path) == before


# Two files of one run


def tags_of(path: Path) -> dict[str, str]:
    with rasterio.open(path) as dataset:
        return dataset.tags()


def test_a_map_and_its_scores_know_each_other(tmp_path, scene):
    for name in ("a", "again"):
        classify_scene(FakeClassifier(), *scene, tmp_path / f"{name}.tif")
    found = {name: tags_of(tmp_path / name)["PAIR"] for name in ("a.tif", "a.scores.tif")}
    assert len(set(found.values())) == 1
    assert tags_of(tmp_path / "again.tif")["PAIR"] == found["a.tif"]  # nothing but the content


DYING = """
import os, signal, sys
sys.path[:0] = {folders!r}
from test_40_mapping import FakeClassifier, classify_scene
left = [int(sys.argv[1])]

def die(event, arguments):
    if event == "os.rename":
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

sys.addaudithook(die)
classify_scene(FakeClassifier(), sys.argv[2], None, sys.argv[3], overwrite=True)
"""


@pytest.mark.fault(47)
def test_a_process_killed_between_the_two_names_is_noticed_where_they_are_read(tmp_path, scene):
    """At every rename of a run that replaces the map of another scene."""
    other = write_raster(tmp_path / "p.tif", random_scene(MANIFEST, 37, 29, 5)[0])
    out = tmp_path / "out" / "m.tif"
    out.parent.mkdir()
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    program = [sys.executable, "-c", DYING.format(folders=folders)]
    classify_scene(FakeClassifier(), *scene, out)
    old = out.read_bytes(), scores_path_of(out).read_bytes()
    torn = []
    for number in range(5):
        died = subprocess.run([*program, str(number), other, out], timeout=120)
        assert died.returncode == (-9 if number < 4 else 0)
        torn.append((out.read_bytes() == old[0]) != (scores_path_of(out).read_bytes() == old[1]))
        if torn[-1]:
            with pytest.raises(RasterError, match="of different runs.*map the scene again"):
                read_map(out, 64)
        else:
            read_map(out, 64)
        classify_scene(FakeClassifier(), *scene, out, overwrite=True)
        assert sorted(os.listdir(out.parent)) == ["m.scores.tif", "m.tif"]
    assert any(torn) and not all(torn)


@pytest.mark.fault(45)
def test_of_two_processes_at_once_the_second_keeps_the_first_ones_map(tmp_path, scene):
    out = tmp_path / "map.tif"

    def another(done, total):
        if done == total:
            out.write_bytes(b"the first one")

    with pytest.raises(RasterError, match="written by another process meanwhile"):
        classify_scene(FakeClassifier(), *scene, out, progress=another)
    assert out.read_bytes() == b"the first one"


def test_where_there_are_no_hard_links_a_map_is_written_all_the_same(tmp_path, scene, monkeypatch):
    def link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(map_writer.os, "link", link)
    classify_scene(FakeClassifier(), *scene, tmp_path / "map.tif")
    read_map(tmp_path / "map.tif", 64)
