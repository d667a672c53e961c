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

from support import fake_libcuda

TESTS = Path(__file__).parents[1]
#: The plain way launches a kernel and copies results by calls of their own.
SLACK = 1.1


def test_a_graph_spares_the_cpu_most_calls(tmp_path):
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
    found = {(row["graph"], row["batch"]): row for row in map(json.loads, done.stdout.splitlines())}
    assert SLACK * found[True, 1]["start"] <= found[False, 1]["start"]
