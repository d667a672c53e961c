"""A run folder: one process at a time, and none that died keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from esccs_edge.errors import InputError
from esccs_edge.training.comparison.run import _check_folder as check_comparison
from esccs_edge.training.run import check_folder, train
from esccs_edge.training.run_folder import own_run_folder
from esccs_edge.training.scene_options import TrainOptions

HOLDER = """
import sys
from pathlib import Path
from esccs_edge.training.run_folder import own_run_folder
with own_run_folder(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "options.json").write_text("{}")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_a_dead_one_holds_nothing(tmp_path):
    folder = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process is at work"):
            train(TrainOptions(data="index.csv", out=str(folder)), resume=True)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with own_run_folder(folder):
        assert (folder / "options.json").is_file()


@pytest.mark.parametrize("check", ["train", "compare"])
def test_what_a_process_left_that_died_before_its_first_file_is_no_dead_end(tmp_path, check):
    folder = tmp_path / "run"
    leftover = folder / ".options-0123456789abcdef.esccs-partial"
    leftover.mkdir(parents=True)
    (leftover / "options.json").write_text('{"half": ')
    if check == "train":
        check_folder(folder, TrainOptions(), resume=False)
    else:
        check_comparison(folder, {}, TrainOptions(), False)
    assert os.listdir(folder) == []


def test_what_killed_processes_left_below_is_swept_and_the_rest_kept(tmp_path):
    (tmp_path / "logs" / ".teacher-0123456789abcdef.esccs-partial").mkdir(parents=True)
    (tmp_path / "logs" / "teacher.csv").write_text("mine")
    with own_run_folder(tmp_path):
        assert os.listdir(tmp_path / "logs") == ["teacher.csv"]


def test_a_folder_of_other_files_is_still_refused_and_a_refusal_leaves_no_folder(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / ".hidden").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no run"):
        check_folder(tmp_path / "used", TrainOptions(), resume=False)
    with pytest.raises(InputError):
        train(TrainOptions(data="nowhere.csv", out=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()
