"""Running the command line in this process, and what its answers must look like."""

from __future__ import annotations

import json

from click.testing import CliRunner

from esccs_edge.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def run_json(*arguments, code: int = 0):
    """Run with --json; standard output must be one JSON document and nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def refused(result) -> str:
    """A refusal: exit code 1, nothing on standard output, one message and no traceback."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.count("error:") == 1 and "Traceback" not in result.stderr
    return result.stderr
