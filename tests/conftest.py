"""Fixtures shared by all layers; heavy imports stay inside the fixtures that need them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture
def bundle(tmp_path: Path):
    """A bundle of the hand-checkable model, 16 x 16 pixels."""
    from tiny import tiny_bundle

    return tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of public sample scenes; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ESCCS_SAMPLE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder}; set ESCCS_SAMPLE_DATA to its folder")
    return folder
