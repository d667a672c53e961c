"""A sample of what ``python -m fuzz`` runs for hours, and what it found once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.__main__ import by_hypothesis, by_random
from fuzz.targets import TARGETS, Json, opened

pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*rasterio._env.log_error:pytest.PytestUnraisableExceptionWarning"
)
CORPUS = Path(__file__).parent / "fuzz" / "corpus"
EXAMPLES = 400


@pytest.fixture(params=TARGETS)
def target(request):
    with opened(request.param) as made:
        made.name_of_target = request.param
        yield made


@pytest.mark.fault(14, 21, 22, 33, 48, 50, 54)
def test_damaged_input_is_read_or_refused(target, tmp_path):
    counts = by_random(target, EXAMPLES, seed=1, out=tmp_path)
    assert counts["findings"] == 0, sorted(tmp_path.iterdir())
    assert counts["examples"] == EXAMPLES and counts["read"] and counts["refused"]


def test_seeds_are_read(target):
    assert all(target.accepts(content) for content in target.seeds)


def test_what_was_found_once_is_read_or_refused(target):
    for file in sorted((CORPUS / target.name_of_target).glob("*")):
        target.accepts(file.read_bytes())


def test_hypothesis_draws_the_same_damage(target, tmp_path):
    counts = by_hypothesis(target, 30, seed=1, out=tmp_path)
    assert counts["findings"] == 0 and counts["examples"] >= 30


class Careless(Json):
    """A reader that forgets one kind of damage."""

    def read(self, content):
        if b"NaN" in content:
            raise KeyError("NaN")
        super().read(content)


@pytest.mark.parametrize("engine", [by_random, by_hypothesis])
def test_a_reader_that_raises_something_else_is_found(engine, tmp_path):
    counts = engine(Careless(), 20_000, seed=1, out=tmp_path)
    assert counts["findings"] > 0
    kept = [path for path in tmp_path.iterdir() if path.suffix != ".txt"]
    assert kept and all(b"NaN" in path.read_bytes() for path in kept)
    assert "KeyError" in "".join(path.read_text() for path in tmp_path.glob("*.txt"))
