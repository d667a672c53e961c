"""What ``esccs-edge bench --scaling`` does: measure, write the files if asked to, report."""

from __future__ import annotations

from pathlib import Path

from .progress import Progress
from .shell import CommandResult


def scaling_answer(
    bundle: str, *, seconds: float, soak_calls: int | None, out: Path | None
) -> CommandResult:
    """Run the scaling measurements on the CPU.

    Args:
        bundle: Folder of a bundle, or ``default``.
        seconds: Time spent on each row.
        soak_calls: Calls of the soak; 0 leaves it out, None takes the usual number.
        out: Folder for ``scaling.json``, ``scaling.md`` and ``scaling.png``, or None.
    """
    if out is not None:
        from ..bench.load import figure as scaling_figure  # noqa: F401 - refuse before the timing, not after
    from ..bench.host import host
    from ..bench.load.report import SOAK_CALLS, document, markdown, measure_scaling, write_report
    from ..contracts.bundle import Bundle

    opened, machine = Bundle.open(bundle), host()
    calls = SOAK_CALLS if soak_calls is None else soak_calls
    found = measure_scaling(opened, seconds=seconds, soak_calls=calls, step=Progress)
    if out is not None:
        write_report(out, found, machine)
    return CommandResult(document(found, machine), markdown(found, machine))
