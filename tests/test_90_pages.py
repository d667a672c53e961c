"""Every shell block of README and docs runs, line by line, on tiny data or says why it does not."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.shell_blocks import NOT_RUN, STAND_INS, blocks, reason_not_to_run, steps, stood_in

from esccs_edge.cli import main

REPOSITORY = Path(__file__).parent.parent
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): [
        step for block in blocks("sh", path.read_text(encoding="utf-8")) for step in steps(block)
    ]
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
}
RUN = {
    page: found
    for page, every in PAGES.items()
    if (found := [step for step in every if not reason_not_to_run(page, step)])
}
#: Pages whose commands begin with the run that another page trains.
WITH_A_RUN = (
    "docs/commands.md",
    "docs/embedding.md",
    "docs/performance.md",
    "docs/security.md",
    "docs/service.md",
)
#: What else a page needs.
PACKAGES = {
    "docs/archive.md": ("ray", "pyarrow"),
    "docs/commands.md": ("tensorrt_rtx_bindings",),
    "docs/performance.md": ("pytest_benchmark", "matplotlib"),
    "docs/series.md": ("pyarrow", "h5py", "sklearn"),
    "docs/service.md": ("fastapi", "uvicorn"),
    "README.md": ("fastapi", "uvicorn", "matplotlib"),
}
SHELL = ("|", ">", "&&", "<<", "$(", "$_")


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> Path:
    """A finished run, exported and calibrated."""
    from support.page_sandbox import write_run

    return write_run(tmp_path_factory.mktemp("run") / "first")


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch, request) -> Path:
    """The folder that a page's commands run in."""
    pytest.importorskip("torch", reason="training needs torch")
    from support.page_sandbox import write_sandbox

    page = request.node.callspec.params["page"]
    folder = write_sandbox(tmp_path)
    if page in WITH_A_RUN:
        first = request.getfixturevalue("first_run")
        shutil.copytree(first, folder / "runs" / "first")
        manifest = folder / "runs/first/bundle/manifest.json"
        monkeypatch.setenv("DIGEST", sha256(manifest.read_bytes()).hexdigest())
    programs = folder / "bin"
    programs.mkdir()
    for name, words in (("esccs-edge", "-m esccs_edge"), ("python", ""), ("pytest", "-m pytest")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(folder)
    return folder


class Shell:
    """Runs the steps of a page one after the other; variables and folder are kept."""

    def __init__(self, monkeypatch, stack: ExitStack) -> None:
        self.monkeypatch, self.stack = monkeypatch, stack

    def run(self, step: str) -> None:
        words = shlex.split(step) if "<<" not in step else [step]
        if len(words) == 1 and "=" in step and "(" not in step:
            name, _, value = step.partition("=")
            self.monkeypatch.setenv(name, value)
        elif words[0] == "cd" and len(words) == 2:
            self.monkeypatch.chdir(words[1])
        elif words[:2] == ["esccs-edge", "serve"]:
            self.serve(words)
        elif words[0] == "esccs-edge" and not any(mark in step for mark in SHELL):
            with warnings.catch_warnings():
                warnings.simplefilter("default")  # those of others are no failure for a reader
                result = CliRunner().invoke(main, words[1:])
            assert result.exit_code == 0, f"{step}\n{result.output}{result.stderr}"
        else:
            done = subprocess.run(["bash", "-euc", step], capture_output=True, text=True)
            assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"

    def serve(self, words: list[str]) -> None:
        """Start the service until the page ends; ``$PORT`` is where it listens."""
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        self.stack.callback(process.communicate)
        self.stack.callback(process.kill)
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("listening at "):
                return self.monkeypatch.setenv("PORT", line.strip().rpartition(":")[2])
        raise AssertionError("".join(said))


@pytest.fixture
def shell(monkeypatch) -> Iterator[Shell]:
    with ExitStack() as stack:
        yield Shell(monkeypatch, stack)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_one_after_the_other(page, sandbox, shell):
    for package in PACKAGES.get(page, ()):
        pytest.importorskip(package)
    for step in RUN[page]:
        # Variables are replaced first, so that one row stands for all ways of saying a folder.
        expanded = step if "<<" in step or "$(" in step else os.path.expandvars(step)
        started = time.monotonic()
        shell.run(os.path.expandvars(stood_in(page, expanded)[0]))
        print(f"{time.monotonic() - started:6.1f} s  {step.splitlines()[0]}")


def test_every_row_of_the_tables_is_used_and_every_page_is_there():
    used = {row for page, every in PAGES.items() for step in every
            for row in stood_in(page, step.replace("$D/", "../shared/data/"))[1]}  # fmt: skip
    assert [row for row in STAND_INS if row not in used] == []
    for row in NOT_RUN:
        pages = [row.page] if row.page else PAGES
        assert any(s.startswith(row.line) for page in pages for s in PAGES[page]), row
    assert len(RUN["README.md"]) >= 9


def test_pages_of_the_site_hold_no_other_shell_blocks():
    languages = {"bash", "shell", "console", "zsh"}
    for page in PAGES:
        text = (REPOSITORY / page).read_text(encoding="utf-8")
        assert not [name for name in languages if blocks(name, text)], page


def test_steps_are_whole_commands():
    text = "a \\\n  b  # c\n# d\npython - <<'END'\nx = 1  # e\nEND\nf '#g'\n"
    assert list(steps(text)) == ["a    b", "python - <<'END'\nx = 1  # e\nEND", "f '#g'"]
