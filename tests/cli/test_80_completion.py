"""What a shell is offered, as it asks: through the environment that click reads."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest


def offered(*words: str) -> list[str]:
    """``type,value`` lines for the last of the words."""
    environment = {
        **os.environ,
        "_ESCCS_EDGE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("esccs-edge", *words)),
        "COMP_CWORD": str(len(words)),
    }
    program = "from esccs_edge.cli import main; main(prog_name='esccs-edge')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "words",
    [("map", "s2"), ("classify", "s2.tif", "s1"), ("stack", "S2"), ("evaluate", "default", "d"),
     ("train", "--data", "d"), ("map", "--quicklook", "m")],
)  # fmt: skip
def test_files_are_left_to_the_shell(words):
    assert offered(*words) == [f"file,{words[-1]}"]


def test_bundles_are_folders_or_the_word_for_the_packaged_one():
    assert offered("verify", "de") == ["dir,de", "plain,default"]
    assert offered("map", "--bundle", "runs") == ["dir,runs"]


@pytest.mark.skipif(find_spec("torch") is None, reason="training needs torch")
def test_settings_are_the_options_of_the_task():
    assert offered("train", "--set", "clouds.dr") == ["plain,clouds.draws="]
    words = ("train", "--task", "semantic-segmentation", "--set", "cr")
    assert offered(*words) == ["plain,crop="]
