"""Options of a training run from a TOML file or from plain values; the task's options class."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esccs_edge.contracts.decode import Decoder
from esccs_edge.errors import InputError
from esccs_edge.system.regular_file import read_regular

from .learning.tasks import learning_task
from .options import FREE, RunOptions
from .scene_options import TrainOptions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_OPTIONS_BYTES = 1 << 22
_DECODER = Decoder(
    InputError, "option", "Check the spelling; `esccs-edge train --list-options` prints all by task"
)


def read_options(path: str | Path, **overrides: Any) -> RunOptions:
    """Read a TOML file; its tables are the nested options.

    Args:
        path: The file.
        overrides: Top-level values that win over the file.

    Returns:
        `TrainOptions`, or the options of another task that ``task`` names.

    Raises:
        InputError: Not readable, not TOML, an unknown key, or a value of the wrong type; the
            message names the key.
    """
    file = Path(path)
    try:
        document = tomllib.loads(read_regular(file, MAX_OPTIONS_BYTES).decode())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not TOML: {error}") from None
    try:
        return options_from({**document, **overrides})
    except InputError as error:
        raise InputError(f"{file}: {error.message}", hint=error.hint) from None


def options_from(document: Mapping[str, Any]) -> RunOptions:
    """Build the options of a task from nested plain values; see `read_options`."""
    task = _DECODER.value(str, document.get("task", TrainOptions.task), "task")
    return _DECODER.build(learning_task(task).options_class, document)


def changed_options(record: Mapping[str, Any], options: RunOptions) -> list[str]:
    """Return the names of the top-level options that differ from those of a recorded run.

    Options that came after the record have their defaults there; those in `FREE` may differ.

    Raises:
        InputError: The record holds an option that is no longer known.
    """
    try:
        before = options_from(record).as_dict()
    except InputError as error:
        raise InputError(
            f"the recorded run cannot go on: {error.message}",
            hint="Start a new run, or use the version of esccs-edge that started this one",
        ) from None
    now = options.as_dict()
    counting = (before | now).keys() - set(FREE)
    return sorted(key for key in counting if before.get(key) != now.get(key))
