"""``esccs-edge check``: what a data set holds and what is wrong with it, before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .completion import complete_bundles
from .progress import Progress
from .shell import CommandResult, command

if TYPE_CHECKING:
    from esccs_edge.training.data_check import DataCheck

#: Problems and notes that the text names; the JSON document has them all.
_NAMED = 20


@command(
    "check",
    help="""
    Look an index.csv over before training on it.

    Counts by class, split and place, files, leaks between splits, labels and values. Every pair is
    read. The exit code is 1 if training, or with --bundle that model, would refuse something; all
    of it is listed.
    """,
    example="""
    esccs-edge check data/index.csv
    esccs-edge check data/index.csv --bundle runs/first/bundle --json
    """,
)
@click.argument("index", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--bundle",
    metavar="BUNDLE",
    shell_complete=complete_bundles,
    help="Model that is to read the pairs, a folder or 'default' [one to be trained on them].",
)
def run(index: Path, bundle: str | None) -> CommandResult:
    from esccs_edge.training.data_check import check_index

    manifest = None
    if bundle is not None:
        from ..contracts.bundle import Bundle

        manifest = Bundle.open(bundle).manifest
    with Progress("check") as progress:
        found = check_index(index, manifest, progress)
    return CommandResult(found.to_dict(), _text(found), exit_code=1 if found.problems else 0)


def _text(found: DataCheck) -> str:
    splits = list(found.pairs)
    classes = sorted({name for counts in found.pairs.values() for name in counts})
    rows = [["", *splits]]
    rows += [
        [name or "(no label)", *(str(found.pairs[split].get(name, 0)) for split in splits)]
        for name in classes
    ]
    rows.append(["places", *(str(found.places[split]) for split in splits)])
    width = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>8}" for cell in row[1:]) for row in rows]
    lines.append(", ".join(f"{name} in {n} pairs" for name, n in found.modalities.items()))
    if found.simulated:
        lines.append(
            "SIMULATED: " + ", ".join(f"{what} in {n} pairs" for what, n in found.simulated.items())
        )
    for title, sentences in (("problem", found.problems), ("note", found.notes)):
        lines += [f"{title}: {sentence}" for sentence in sentences[:_NAMED]]
        if len(sentences) > _NAMED:
            lines.append(f"and {len(sentences) - _NAMED} more {title}s; see --json")
    lines.append(
        f"{len(found.problems)} problems: training would refuse this"
        if found.problems
        else "nothing that training would refuse"
    )
    return "\n".join(lines)
