"""The service under load, as wrk sees it: a pair per request over loopback, in turns.

Starts `esccs-edge serve` with the bundle of the package, asks it with one connection up to more
than it opens requests for, in rounds one after the other, and prints the table of docs/service.md:
times and rates as multiples of those of one connection, medians of the rounds. Needs wrk.

    python docs/service_load.py [--seconds 3] [--rounds 5]
"""

from __future__ import annotations

import argparse
import secrets
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from esccs_edge import example_pair

CONNECTIONS = (1, 2, 8, 32, 128)
#: Sends the body of a file and prints what came of it.
SCRIPT = """
local file = io.open("{body}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "multipart/form-data; boundary={mark}"
function response(status) if status == 429 then refused = (refused or 0) + 1 end end
function setup(thread) all = thread end
function done(summary, latency)
  io.write(string.format("%f %f %f %d %d\\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.requests,
    all:get("refused") or 0))
end
"""


class Load(NamedTuple):
    """What one call of wrk saw: answers a second, milliseconds, share refused with 429."""

    rate: float
    p50_ms: float
    p99_ms: float
    refused: float


def write_request(folder: Path) -> Path:
    """Write the body of a request with the pair of the package, and the script that sends it."""
    mark, body = secrets.token_hex(8), b""
    pair = example_pair()
    for name, pixels in (("optical", pair.optical), ("sar", pair.sar)):
        stored = BytesIO()
        np.save(stored, pixels)
        body += (
            (
                f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
            ).encode()
            + stored.getvalue()
            + b"\r\n"
        )
    (folder / "body").write_bytes(body + f"--{mark}--\r\n".encode())
    script = folder / "pair.lua"
    script.write_text(SCRIPT.replace("{body}", str(folder / "body")).replace("{mark}", mark))
    return script


def load(address: str, script: Path, connections: int, seconds: int) -> Load:
    """Run wrk once; one thread, so that the service keeps the cores."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", script]
    done = subprocess.run([*words, address], capture_output=True, text=True, check=True)
    rate, p50, p99, count, refused = map(float, done.stdout.splitlines()[-1].split())
    share = refused / count
    return Load(rate * (1 - share), p50, p99, share)


def table(found: dict[int, list[Load]]) -> str:
    """Return the rows, each round held against its own first."""
    lines = ["| connections | answers/s | p50 | p99 | refused |", "|---|---|---|---|---|"]
    for connections, rounds in found.items():
        ones = found[CONNECTIONS[0]]
        ratio = [
            median(getattr(load, name) / getattr(one, against)
                   for load, one in zip(rounds, ones, strict=True))
            for name, against in (("rate", "rate"), ("p50_ms", "p50_ms"), ("p99_ms", "p50_ms"))
        ]  # fmt: skip
        refused = median(load.refused for load in rounds)
        cells = (f"{value:.2f}" for value in ratio)
        lines.append(f"| {connections} | {' | '.join(cells)} | {refused:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Serve, ask in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    words = [sys.executable, "-m", "esccs_edge", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        script = write_request(Path(folder))
        service = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            assert service.stderr is not None
            said = next(line for line in service.stderr if line.startswith("listening at "))
            address = f"http://127.0.0.1:{said.strip().rpartition(':')[2]}/v1/classify"
            found: dict[int, list[Load]] = {connections: [] for connections in CONNECTIONS}
            for _ in range(given.rounds):
                for connections, rounds in found.items():
                    rounds.append(load(address, script, connections, given.seconds))
        finally:
            service.terminate()
            service.wait(60)
    print(table(found))
    one = found[CONNECTIONS[0]]
    print(f"one connection: {median(r.rate for r in one):.0f} answers/s, "
          f"p50 {median(r.p50_ms for r in one):.2f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
