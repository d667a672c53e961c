"""The whole page: peers by patch size, batch and threads, the load measurements, whole maps.

``make bench`` runs it. Tables are printed; JSON, Markdown and pictures are written to ``--out``.
Nothing else should run meanwhile. From the folder ``tests``: ``python -m benchmarks.page --help``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from esccs_edge.cli.progress import Progress
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.system.atomic import write_atomic
from esccs_edge.system.cores import usable_cores

from .load.measure import SOAK_CALLS, measure_scaling
from .load.report import markdown as load_page
from .load.report import write_report
from .peers import PEERS
from .peers.comparison import ROUNDS, Plan, compare
from .peers.figure import draw_figure
from .peers.report import markdown as peers_page
from .peers.rows import peers_host

PARTS = ("peers", "load", "maps")
PATCHES, BATCHES = (64, 256), (1, 8, 32, 128)
#: Height and width of the scene that is mapped.
MAP_SIZE = 1024


def main(words: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    options = _parser().parse_args(words)
    bundle, out = Bundle.open(options.bundle), options.out
    for part in options.part or PARTS:
        if part == "peers":
            print(_peers(bundle, options, out))
        elif part == "load":
            print(_load(bundle, options, out))
        else:
            print(_maps(options, out))


def _peers(bundle: Bundle, options: argparse.Namespace, out: Path) -> str:
    plan = Plan(
        peers=options.peer or tuple(PEERS),
        patches=options.patch or PATCHES,
        batches=options.batch or BATCHES,
        threads=options.threads or sorted({1, usable_cores()}),
        seconds=options.seconds,
        rounds=options.rounds,
        backend=options.backend,
    )
    with Progress("peers") as progress:
        found = compare(bundle, plan, progress=progress)
    document = {**asdict(found), "plan": asdict(plan)}
    page = peers_page(document)
    write_atomic(out / "peers.json", json.dumps(document, indent=2) + "\n")
    write_atomic(out / "peers.md", page)
    draw_figure(document["rows"], out / "peers.png")
    return page


def _load(bundle: Bundle, options: argparse.Namespace, out: Path) -> str:
    host = peers_host()
    found = measure_scaling(bundle, seconds=options.seconds, soak_calls=options.soak, step=Progress)
    write_report(out, found, host)
    return load_page(found, host)


def _maps(options: argparse.Namespace, out: Path) -> str:
    from .maps import measure_maps, table  # needs torch and ONNX Runtime, as no other part does

    bundle = Bundle.open(options.map_bundle)
    rows = measure_maps(bundle, size=options.map_size)
    document = {"host": peers_host(), "size": options.map_size, "rows": [asdict(r) for r in rows]}
    write_atomic(out / "maps.json", json.dumps(document, indent=2) + "\n")
    write_atomic(out / "maps.md", table(rows))
    return table(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks.page", description=__doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for tables, JSON and pictures")
    add("--part", choices=PARTS, action="append", help="may be repeated [all]")
    add("--bundle", default="default", help="folder of the model")
    add("--map-bundle", default="land-cover", help="model of the maps [land-cover]")
    add("--map-size", type=int, default=MAP_SIZE, help=f"pixels a side [{MAP_SIZE}]")
    add("--backend", default="cpu", help="backend of our own row [cpu]")
    add("--peer", choices=PEERS, action="append", help="may be repeated [all]")
    add("--patch", type=int, action="append", help=f"pixels, may be repeated {list(PATCHES)}")
    add("--batch", type=int, action="append", help=f"may be repeated {list(BATCHES)}")
    add("--threads", type=int, action="append", help="may be repeated [1 and all]")
    add("--seconds", type=float, default=1.0, help="time spent on each row [1]")
    add("--rounds", type=int, default=ROUNDS, help=f"turns that it is spent in [{ROUNDS}]")
    add("--soak", type=int, default=SOAK_CALLS, help=f"calls of the long run [{SOAK_CALLS}]")
    return parser


if __name__ == "__main__":
    main()
