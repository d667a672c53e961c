"""Fuzz one target or all: ``python -m fuzz --examples 1000000``, from the folder ``tests``.

Engines: ``random`` damages seeds, thousands of times a second; ``hypothesis`` draws the damage and
makes a finding small; ``atheris`` is libFuzzer, which looks for new branches (not installed with
the package: ``pip install atheris``). An input that is neither read nor refused as it should be is
kept in ``--out``, and the status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .edits import Edit, drawn
from .targets import TARGETS, Target, opened

#: Findings after which a target is given up.
MAX_FINDINGS = 20


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz what the command line asks for; return the exit status."""
    options = _parser().parse_args(words)
    names = options.target or list(TARGETS)
    if options.engine == "atheris":
        return _by_atheris(names[0], options)
    found = 0
    for name in names:
        with opened(name) as target:
            run = by_hypothesis if options.engine == "hypothesis" else by_random
            began_s = time.monotonic()
            counts = run(target, options.examples, options.seed, options.out / name)
        took_s = time.monotonic() - began_s
        found += counts["findings"]
        print(json.dumps({"target": name, "engine": options.engine, **counts,
                          "seconds": round(took_s)}), flush=True)  # fmt: skip
    return 1 if found else 0


def by_random(target: Target, examples: int, seed: int, out: Path) -> dict[str, int]:
    """Damage seeds at random; return how many were read, refused and neither."""
    dice = random.Random(seed)
    counts = {"examples": 0, "read": 0, "refused": 0, "findings": 0}
    while counts["examples"] < examples and counts["findings"] < MAX_FINDINGS:
        content = target.damaged(dice.getrandbits(16), drawn(dice))
        counts["examples"] += 1
        try:
            counts["read" if target.accepts(content) else "refused"] += 1
        except Exception:
            counts["findings"] += 1
            keep(out, content)
    return counts


def by_hypothesis(target: Target, examples: int, seed: int, out: Path) -> dict[str, int]:
    """Let hypothesis draw the damage; it ends at the first finding, made small."""
    import hypothesis
    from hypothesis import strategies as st

    counts = {"examples": 0, "read": 0, "refused": 0, "findings": 0}
    number = st.integers(0, 2**20 - 1)
    edits = st.lists(st.builds(Edit, number, number, number), max_size=12)
    last: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(st.integers(0, 2**16 - 1), edits)
    def check(place: int, damage: list[Any]) -> None:
        content = target.damaged(place, damage)
        last[:] = [content]
        counts["examples"] += 1
        counts["read" if target.accepts(content) else "refused"] += 1

    try:
        check()
    except Exception:
        counts["findings"] += 1
        keep(out, last[0])
    return counts


def keep(out: Path, content: bytes) -> None:
    """Keep a finding, and say what was raised."""
    out.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(content).hexdigest()[:16]
    (out / name).write_bytes(content)
    (out / f"{name}.txt").write_text(traceback.format_exc())
    print(f"{out / name}: {sys.exc_info()[1]!r}"[:300], file=sys.stderr)


def _by_atheris(name: str, options: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["esccs_edge"]):
        import esccs_edge.archive.scene_list
        import esccs_edge.archive.stac
        import esccs_edge.rasters.pair_index
        import esccs_edge.rasters.reader  # noqa: F401
    for module in ("decode", "json_text", "manifest", "modality", "protobuf", "onnx_file"):
        _instrument(atheris, f"esccs_edge.contracts.{module}")
    corpus = options.out / f"{name}-corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    with opened(name) as target:
        for content in target.seeds:
            (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)

        def one(content: bytes) -> None:
            target.accepts(content)

        words = [sys.argv[0], str(corpus), f"-runs={options.examples}", f"-seed={options.seed + 1}",
                 f"-artifact_prefix={options.out}/{name}-", "-max_len=8192",
                 "-print_final_stats=1", "-rss_limit_mb=4096", "-timeout=60"]  # fmt: skip
        atheris.Setup(words, one)
        atheris.Fuzz()
    return 0


def _instrument(atheris: Any, name: str) -> None:
    """Count branches in the functions of a module that is loaded already."""
    for value in list(vars(sys.modules[name]).values()):
        if getattr(value, "__module__", None) == name:
            for code in vars(value).values() if isinstance(value, type) else [value]:
                if hasattr(code, "__code__"):
                    atheris.instrument_func(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fuzz", description=__doc__)
    add = parser.add_argument
    add("--target", choices=TARGETS, action="append", help="may be repeated [all]")
    add("--examples", type=int, default=10_000, help="of each target [10000]")
    add("--engine", choices=("random", "hypothesis", "atheris"), default="random")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("fuzz-out"), help="folder for what was found [fuzz-out]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
