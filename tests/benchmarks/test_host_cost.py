"""The CPU's part of a batch on the GPU: gathering pixels, calling the driver, reading results.

Measured through the real CUDA binding over a driver library that does nothing (**no GPU, no driver:
what those take comes on top**). Run: pytest tests/benchmarks/test_host_cost.py -s
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import fake_libcuda

TESTS = Path(__file__).parents[1]
#: The plain way launches a kernel and copies results by calls of their own.
SLACK = 1.1
#: A lane with one pair takes about 2.1 times what it cannot do without (2.4 while each sample was
#: looked at by calls of its own); more than this is another way to work.
MOST_OF_FLOOR = 3.0


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The lines that `host_cost.py` prints."""
    tmp_path = tmp_path_factory.mktemp("host_cost")
    environment = fake_libcuda.environment(tmp_path, "cuda-python", idle=True)
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, TESTS / "benchmarks" / "host_cost.py", tmp_path / "engines"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_graph_spares_the_cpu_most_calls(measured):
    found = {(row["graph"], row["batch"]): row for row in measured[:-1]}
    assert SLACK * found[True, 1]["start"] <= found[False, 1]["start"]


def test_a_large_batch_makes_no_more_calls_than_one_pair(measured):
    for graph in (True, False):
        assert len({row["calls"] for row in measured[:-1] if row["graph"] is graph}) == 1


def test_a_lane_takes_little_more_than_the_copy_and_the_driver(measured):
    assert measured[-1]["lane"] <= MOST_OF_FLOOR * measured[-1]["floor"]
