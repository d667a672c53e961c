"""The error tree: what a stranger would catch catches it, and every message tells what to do."""

from __future__ import annotations

import pickle

import pytest

from esccs_edge import errors
from esccs_edge.errors import EsccsError, MissingDependencyError

TREE: list[type[EsccsError]] = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, EsccsError)
]


@pytest.mark.parametrize("error", TREE)
def test_every_error_is_ours_and_has_its_own_code(error):
    assert issubclass(error, EsccsError)
    assert [other.code for other in TREE].count(error.code) == 1


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("BackendError", RuntimeError),
        ("CudaError", RuntimeError),
        ("DeadlineExceeded", TimeoutError),
        ("ClosedError", RuntimeError),
        ("ForkedProcessError", RuntimeError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_an_error_is_also_the_standard_kind(name, builtin):
    assert issubclass(getattr(errors, name), builtin)


def test_text_is_message_and_hint():
    assert str(EsccsError("found 12, expected 13", hint="Add a band")) == (
        "found 12, expected 13. Add a band"
    )
    assert str(EsccsError("found 12, expected 13")) == "found 12, expected 13"


def test_a_missing_package_error_prints_the_install_command():
    error = MissingDependencyError.for_extra("rasterio", "geo", "Reading GeoTIFF")
    assert 'pip install "esccs-edge[geo]"' in str(error) and "rasterio" in str(error)


@pytest.mark.parametrize("error", TREE)
def test_an_error_survives_a_trip_between_processes(error):
    sent = error("found", hint="do this")
    received = pickle.loads(pickle.dumps(sent))
    assert (type(received), str(received), received.hint) == (error, str(sent), "do this")
