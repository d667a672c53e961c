"""A signal after a classifier is gone must reach its handler, not end the process.

OpenVINO's CPU plugin replaces the signal stack of a thread and frees it with the runtime; this
crashed whole programs, so it is tested in processes of their own.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import gc, os, signal, sys, threading
from esccs_edge import Classifier

signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
held = [Classifier(sys.argv[1], backend="cpu") for _ in range(int(sys.argv[2]))]

def end_all():
    while held:
        held.pop(0).close()
    gc.collect()

if sys.argv[3] == "thread":
    worker = threading.Thread(target=end_all)
    worker.start()
    worker.join()
else:
    end_all()
os.kill(os.getpid(), signal.SIGUSR1)
print("alive")
"""


@pytest.mark.fault(80)
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
@pytest.mark.parametrize("classifiers", [1, 3])
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_signal_after_close_reaches_its_handler(bundle, tmp_path, classifiers, where):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(bundle.folder), str(classifiers), where],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "handled\nalive\n"), done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_a_forked_child_makes_a_classifier_of_its_own(bundle, tmp_path):
    program = (
        "import os, sys\n"
        "from esccs_edge import Classifier\n"
        "def answer():\n"
        "    with Classifier(sys.argv[1], backend='cpu', threads=1) as classifier:\n"
        "        return classifier.health().ok\n"
        "assert answer()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if answer() else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle.folder)],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
