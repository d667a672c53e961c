"""The CPU path neither forks nor talks to anybody: OpenVINO comes without its telemetry."""

from __future__ import annotations

import subprocess
import sys

CLASSIFY = """
import sys
events = []
sys.addaudithook(lambda event, _: events.append(event))
from esccs_edge import Classifier
with Classifier(backend="cpu") as classifier:
    classifier.health()
assert "openvino" in sys.modules
watched = {"os.fork", "os.forkpty", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}
print(sorted(watched & set(events)), "openvino_telemetry" in sys.modules)
"""

#: A decision made before is not undone.
LOADED = """
import sys, types
sys.modules["openvino_telemetry"] = mine = types.ModuleType("openvino_telemetry")
import esccs_edge.backends.cpu.openvino
assert sys.modules["openvino_telemetry"] is mine
"""


def run(script: str) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_classifier_starts_without_a_fork_or_a_connection():
    assert run(CLASSIFY) == "[] False"


def test_a_package_that_is_loaded_already_stays():
    assert run(LOADED) == ""
