"""Fixtures shared by all layers; heavy imports stay inside the fixtures that need them."""

from __future__ import annotations

import os
import tarfile
from functools import partialmethod
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from esccs_edge.backends.cpu.signal_stack import kept_signal_stack

REPOSITORY = Path(__file__).parent.parent

# How long an example takes says how busy the machine is.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")

#: Folder -> packages of its extra, imported by its tests at their top. Where one is missing the
#: folder is left out, so that a machine without torch runs the suite of the runtime.
FOLDER_NEEDS = {
    "training": ("torch", "lightning", "torchmetrics", "safetensors", "rasterio"),
    "export": ("torch", "safetensors", "onnx", "onnxscript", "onnxruntime"),
    "calibration": ("torch", "safetensors", "onnx", "onnxruntime"),
}
LEFT_OUT = {
    folder: missing
    for folder, packages in FOLDER_NEEDS.items()
    if (missing := [package for package in packages if find_spec(package) is None])
}
collect_ignore = list(LEFT_OUT)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole-loops",
        action="store_true",
        help="run loops over every call and moment, which are sampled without it",
    )


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether loops over every call and moment run as a whole."""
    return bool(request.config.getoption("--whole-loops"))


def pytest_report_header() -> list[str]:
    return [
        f"tests/{folder} is left out: {', '.join(missing)} not installed"
        for folder, missing in LEFT_OUT.items()
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol():
    """Keep the signal stack, which tests lose that open OpenVINO by themselves.

    Without one the alarm of a test that takes too long would kill the process without a word.
    """
    with kept_signal_stack():
        return (yield)


if "mix_stderr" in signature(CliRunner).parameters:  # click before 8.2 mixes it in by default
    CliRunner.__init__ = partialmethod(CliRunner.__init__, mix_stderr=False)  # type: ignore


@pytest.fixture(scope="session", autouse=True)
def away_from_the_sources(tmp_path_factory: pytest.TempPathFactory):
    """Leave the repository: `python -c` in a test would import the sources, not the package."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep tests, and the processes they start, out of the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    before = os.environ.get("ESCCS_CACHE_DIR")
    os.environ["ESCCS_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["ESCCS_CACHE_DIR"]
    else:
        os.environ["ESCCS_CACHE_DIR"] = before


@pytest.fixture
def bundle(tmp_path: Path):
    """A bundle of the hand-checkable model, 16 x 16 pixels."""
    from support.tiny import tiny_bundle

    return tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of public sample scenes; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ESCCS_SAMPLE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no sample data at {folder}; set ESCCS_SAMPLE_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def bigearthnet(sample_data: Path, tmp_path_factory) -> dict[str, dict[str, dict[str, Path]]]:
    """BigEarthNet-MM unpacked: place -> ``"S1"`` or ``"S2"`` -> band -> file."""
    folder = tmp_path_factory.mktemp("bigearthnet")
    # Python 3.11.2, the one of Debian 12, and 3.10 before 3.10.12 cannot filter what is unpacked.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    places: dict[str, dict[str, dict[str, Path]]] = {}
    for sensor in ("S1", "S2"):
        name = f"BigEarthNet-{sensor}-Example"
        with tarfile.open(sample_data / "bigearthnet-mm" / f"{name}.tar.bz2") as archive:
            archive.extractall(folder, **safely)
        for patch in sorted((folder / name).iterdir()):
            bands = {path.stem.rpartition("_")[2]: path for path in patch.glob("*.tif")}
            places.setdefault("_".join(patch.name.split("_")[-2:]), {})[sensor] = bands
    assert len(places) == 6
    return places


@pytest.fixture
def make():
    """Make pipelines that are closed, without waiting for what hangs, when the test ends."""
    from support.fake import numbered_manifest

    from esccs_edge.runtime.pipeline import Pipeline

    made = []

    def factory(backend, **options) -> Pipeline:
        pipeline = Pipeline(backend, numbered_manifest(), **options)
        made.append(pipeline)
        return pipeline

    yield factory
    for pipeline in made:
        pipeline.close(drain=False, timeout_s=1.0)


@pytest.fixture
def gate():
    """Hold a fake backend back until the test opens it, at the latest when it ends."""
    from support.fake import Gate

    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def hold(gate, monkeypatch):
    """Let a classifier's lanes answer nothing until ``gate`` is opened; one pair holds a lane."""

    from esccs_edge.backends.cpu.lane import CpuLane

    finish = CpuLane.finish

    def held(lane):
        gate([])
        return finish(lane)

    def hold(classifier, pair) -> None:
        monkeypatch.setattr(CpuLane, "finish", held)
        classifier.submit(*pair)
        gate.await_entry()

    return hold
