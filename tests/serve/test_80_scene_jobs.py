"""Scenes one after the other: how many wait, how they end early, how long maps are kept."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from esccs_edge.errors import ClosedError, Overloaded
from esccs_edge.serve import scenes
from esccs_edge.serve.limits import Limits
from esccs_edge.serve.scenes import SceneJobs


class Mapper:
    """Stands for the mapping: goes on in steps while it is let, and reports each of them."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.mapped: list[Path] = []

    def __call__(self, model, paths, out, progress):
        self.mapped.append(out)
        for done in range(1000):
            progress(done, 1000)
            if self.goes_on.wait(0.01):
                break
        out.write_bytes(b"map")
        return SimpleNamespace(patches=1000, to_dict=lambda: {"class_shares": {}})


@pytest.fixture
def mapper(monkeypatch):
    found = Mapper()
    monkeypatch.setattr(scenes, "map_scene", found)
    return found


def added(jobs: SceneJobs):
    folder = jobs.new_folder()
    (folder / "optical.tif").write_bytes(b"raster")
    return jobs.add(folder, {"optical": folder / "optical.tif", "sar": None})


def until(condition) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_one_is_mapped_some_wait_and_one_more_is_refused(mapper, tmp_path):
    jobs = SceneJobs(None, tmp_path, Limits(waiting_scenes=2))
    first = added(jobs)
    until(lambda: first.state == "running" and first.done > 0)
    others = [added(jobs), added(jobs)]
    with pytest.raises(Overloaded, match="2 scenes wait"):
        jobs.new_folder()
    assert jobs.counts()["waiting"] == 2 and not mapper.mapped[1:]
    mapper.goes_on.set()
    until(lambda: all(job.state == "done" for job in (first, *others)))
    assert [path.parent for path in mapper.mapped] == [j.folder for j in (first, *others)]
    assert not (first.folder / "optical.tif").exists() and (first.folder / "map.tif").exists()
    jobs.close()


def test_scenes_that_nobody_wants_end_and_their_files_go(mapper, tmp_path):
    jobs = SceneJobs(None, tmp_path, Limits())
    running, waiting = added(jobs), added(jobs)
    until(lambda: running.state == "running")
    jobs.cancel(waiting)
    jobs.cancel(running)
    until(lambda: jobs.get(running.id) is None)
    assert (running.state, waiting.state) == ("canceled", "canceled")
    until(lambda: not list(tmp_path.iterdir()))
    jobs.close()
    with pytest.raises(ClosedError):
        jobs.new_folder()


def test_old_maps_go_when_there_are_many_or_their_time_is_over(mapper, tmp_path):
    mapper.goes_on.set()
    jobs = SceneJobs(None, tmp_path, Limits(kept_scenes=1, kept_s=0.3))
    first = added(jobs)
    until(lambda: first.state == "done")
    second = added(jobs)
    until(lambda: second.state == "done")
    assert jobs.get(first.id) is None and jobs.get(second.id) is second
    until(lambda: jobs.get(second.id) is None)
    assert not list(tmp_path.iterdir())
    jobs.close()


def test_a_fault_in_one_scene_does_not_end_the_others(mapper, tmp_path, monkeypatch):
    jobs = SceneJobs(None, tmp_path, Limits())
    monkeypatch.setattr(scenes, "map_scene", lambda *_, **__: 1 / 0)
    broken = added(jobs)
    until(lambda: broken.state == "failed")
    assert broken.error["code"] == "fault" and "ZeroDivisionError" in broken.error["message"]
    monkeypatch.setattr(scenes, "map_scene", mapper)
    mapper.goes_on.set()
    after = added(jobs)
    until(lambda: after.state == "done")
    jobs.close()


def test_the_end_of_the_service_ends_the_scene_that_is_mapped(mapper, tmp_path):
    jobs = SceneJobs(None, tmp_path, Limits())
    running = added(jobs)
    until(lambda: running.state == "running")
    jobs.close()
    jobs.close()
    assert running.state == "canceled"
