"""Fixtures for pytest, so that a project can time the classifier on its own hardware.

Installed with the package (entry point ``pytest11``). With pytest-benchmark, three lines do::

    def test_latency(benchmark, esccs_classifier, esccs_pairs):
        optical, sar = esccs_pairs[0]
        assert benchmark(esccs_classifier.classify, optical, sar).label

Bundle, digest, device and arithmetic then stand in the ``extra_info`` of the benchmark's JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

#: A batch of the size that `Classifier` gathers by default.
PAIRS = 32


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--esccs-bundle``, ``--esccs-backend``, ``--esccs-precision``, ``--esccs-threads``."""
    group = parser.getgroup("esccs-edge")
    group.addoption("--esccs-bundle", metavar="FOLDER", help="bundle; left out: the packaged one")
    group.addoption("--esccs-backend", default="auto", help="auto, cpu or tensorrt")
    group.addoption("--esccs-precision", default="auto", help="auto, fp32, bf16, fp16 or int8")
    group.addoption("--esccs-threads", type=int, help="CPU threads; left out: all")


@pytest.fixture(scope="session")
def esccs_classifier(pytestconfig: pytest.Config) -> Iterator[Any]:
    """A warm `esccs_edge.Classifier`, as the options of the command line say."""
    from . import Classifier

    option = pytestconfig.getoption
    with Classifier(
        option("--esccs-bundle"),
        option("--esccs-backend"),
        precision=option("--esccs-precision"),
        threads=option("--esccs-threads"),
    ) as classifier:
        classifier.warmup()
        yield classifier


@pytest.fixture(scope="session")
def esccs_pairs(esccs_classifier: Any) -> list[tuple[Any, Any]]:
    """`PAIRS` pairs ``(optical, sar)``, raw, as the classifier's bundle asks for them.

    Parts of the example scene where the bundle reads such, else simulated fields as smooth as land;
    the same at every run.
    """
    from .bench.pixels import timed_samples

    samples = timed_samples(esccs_classifier.manifest, PAIRS)
    return [(sample.pixels["optical"], sample.pixels["sar"]) for sample in samples]


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Record what is timed, once the fixtures of a test are made."""
    given = getattr(item, "funcargs", {})
    if {"benchmark", "esccs_classifier"} <= given.keys():
        from .bench.calls import described

        given["benchmark"].extra_info["esccs_edge"] = described(given["esccs_classifier"])
