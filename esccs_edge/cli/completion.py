"""What a shell offers where a word is text to click: files, bundles, names of training options.

`esccs-edge` completes in bash, zsh and fish once the shell has read what
``_ESCCS_EDGE_COMPLETE=bash_source esccs-edge`` prints; see docs/commands.md.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell offer its files and folders."""
    return [CompletionItem(incomplete, type="file")]


def complete_bundles(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell offer its folders, and the names of the bundles in the package."""
    from ..contracts.bundle import SHIPPED

    folders = [CompletionItem(incomplete, type="dir")]
    return folders + [CompletionItem(name) for name in SHIPPED if name.startswith(incomplete)]


def complete_settings(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer ``KEY=`` of the training options of the task that is named so far."""
    from esccs_edge.training.option_list import option_list
    from esccs_edge.training.options_file import options_from

    task = context.params.get("task")
    rows = option_list(type(options_from({"task": task} if task else {})))
    return [
        CompletionItem(f"{row.key}=", help=row.meaning)
        for row in rows
        if row.key.startswith(incomplete)
    ]
