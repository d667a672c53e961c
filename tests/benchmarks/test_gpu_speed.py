"""The GPU path against its own parts and its peers; `docs/hardware/run.sh` runs it where one is.

The shipped model, on the engine that ``ESCCS_GPU_ENGINE`` names (see `real_gpu`; the stand-in says
nothing of TensorRT, but all of copies, kernels and host). What is claimed stands in `gpu_claims`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support import gpu_parts
from support.real_gpu import CHOSEN, ENGINES, STAND_IN, needs_gpu, running_or_skipped

from benchmarks import gpu_claims
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import BatchProfile
from esccs_edge.pixels.synthetic import smooth_samples
from esccs_edge.power import find_meter
from esccs_edge.system.sealed_cache import SealedCache

pytestmark = [pytest.mark.gpu, needs_gpu]

BATCHES = (1, 8, 32, 128, 1024)
PRECISIONS = ("fp32", "fp16", "int8")
LARGE = 256


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped bundle, for larger batches than it asks for."""
    shipped = Bundle.open()
    profile = BatchProfile(1, 32, max(BATCHES))
    return Bundle(shipped.folder, shipped.manifest.evolve(batch=profile))


@pytest.fixture(scope="module", autouse=True)
def engine():
    """The engine to run: the one chosen, or the first that is installed."""
    for name in (CHOSEN,) if CHOSEN else ENGINES:
        try:
            with running_or_skipped(name):
                yield name
                return
        except pytest.skip.Exception:
            continue
    pytest.skip("neither TensorRT nor torch is installed")


@pytest.fixture(scope="module")
def open_backend(bundle, engine, tmp_path_factory):
    """Open a backend; the one before is closed."""
    from esccs_edge.backends.trt.backend import TrtBackend

    cache = SealedCache(tmp_path_factory.mktemp("engines"))
    cache.folder.chmod(0o700)
    opened = []

    def make(precision: str, *, max_batch: int = max(BATCHES), wait: str = "spin", **options):
        while opened:
            opened.pop().close()
        backend = TrtBackend(
            bundle, bundle.manifest, max_batch=max_batch, precision=precision, cache=cache,
            wait=wait, **options,
        )  # fmt: skip
        opened.append(backend)
        return backend

    yield make
    while opened:
        opened.pop().close()


@pytest.fixture
def tell(capsys, request):
    """Print a line of results, with every switch, and keep it where ESCCS_HARDWARE_OUT says."""

    def write(backend, **found) -> None:
        switches = {**backend.describe(), "clocks": "as found"}
        line = json.dumps({"test": request.node.name, **found, "switches": switches})
        with capsys.disabled():
            print("\n" + line)
        if folder := os.environ.get("ESCCS_HARDWARE_OUT"):
            with open(Path(folder) / "results.jsonl", "a") as stream:
                stream.write(line + "\n")

    return write


def require_copies(backend) -> None:
    if not backend.describe()["copies"]:
        pytest.skip("this GPU shares memory with the CPU: nothing is copied")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_latency_of_one_pair(bundle, open_backend, tell, precision):
    backend = open_backend(precision, max_batch=1)
    pair = smooth_samples(bundle.manifest, 1)
    tell(backend, **gpu_claims.latency_is_that_of_its_parts(backend, pair))


def test_sleeping_beside_spinning(bundle, open_backend, tell):
    """Latency of one pair, and what waiting costs the CPU; nothing is asserted."""
    pair = smooth_samples(bundle.manifest, 1)
    for wait in ("block", "spin"):
        backend = open_backend("fp16", max_batch=1, wait=wait)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        found = gpu_claims.latency_ms(backend, pair, gpu_claims.ROUNDS)
        busy = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
        tell(backend, wait=wait, latency_ms=found, busy_cores=busy)


def test_graphs_beside_plain_calls(bundle, open_backend, tell):
    pair, found = smooth_samples(bundle.manifest, 1), {}
    for name, sizes in (("plain", ()), ("graph", None)):
        backend = open_backend("fp16", max_batch=1, graph_batches=sizes)
        if name == "graph" and not backend.describe()["graph_batches"]:
            pytest.skip("this CUDA provider has no graphs")
        found[name] = gpu_claims.latency_ms(backend, pair, gpu_claims.ROUNDS)
    tell(backend, **found)
    gpu_claims.graphs_are_no_slower(found["plain"], found["graph"])


def test_uploads_come_near_the_link(bundle, open_backend, tell):
    backend = open_backend("fp16", graph_batches=())
    require_copies(backend)
    batch = smooth_samples(bundle.manifest, LARGE)
    tell(backend, **gpu_claims.upload_is_near_the_link(backend, batch))


def test_preprocessing_uses_the_bandwidth_of_the_memory(bundle, open_backend, tell):
    backend = open_backend("fp16", graph_batches=())
    batch = smooth_samples(bundle.manifest, max(BATCHES))
    tell(backend, **gpu_claims.preprocessing_uses_the_memory(backend, batch))


def test_lanes_overlap(bundle, open_backend, tell):
    backend = open_backend("fp16", graph_batches=())
    require_copies(backend)
    tell(backend, **gpu_claims.lanes_overlap(backend, smooth_samples(bundle.manifest, LARGE)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_branches_overlap_inside_the_engine(bundle, open_backend, tell, engine, precision):
    if engine == STAND_IN:
        pytest.skip("the stand-in runs one operation after the other")
    from esccs_edge.backends.trt.layers import layers_of_inspector

    backend = open_backend(precision, graph_batches=())
    for size in (1, 32):
        samples = smooth_samples(bundle.manifest, size)
        names = layers_of_inspector(backend.layers(), bundle.manifest.modalities)
        times = backend.layer_times_ms(size)
        layers = [(layer.part, times.get(layer.name, 0.0)) for layer in names]
        alone = gpu_parts.parts_ms(backend, samples)["engine"]
        found = gpu_claims.branches_overlap(alone, layers, list(bundle.manifest.modalities))
        tell(backend, batch=size, precision=precision, **found)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_throughput_follows_the_slower_of_engine_and_upload(
    bundle, open_backend, tell, precision
):  # fmt: skip
    backend = open_backend(precision)
    batches = {size: smooth_samples(bundle.manifest, size) for size in BATCHES}
    tell(backend, **gpu_claims.throughput_is_that_of_the_slower_part(backend, batches))


def test_sustained_load_leaves_memory_flat(bundle, open_backend, tell):
    """Seconds of load are set by ESCCS_SUSTAINED_S."""
    seconds = float(os.environ.get("ESCCS_SUSTAINED_S", "5"))
    backend, batch = open_backend("fp16"), smooth_samples(bundle.manifest, 64)
    tell(backend, **gpu_claims.memory_stays_flat(backend, batch, seconds=seconds))


def test_sustained_energy_of_a_pair(bundle, open_backend, tell):
    """By the board's counter of energy, or its rails; what idling draws stands beside it."""
    meter = find_meter(gpu=0)
    if meter is None:
        pytest.skip("this GPU has no power sensor that can be read")
    backend, batch, seconds = open_backend("fp16"), smooth_samples(bundle.manifest, 64), 10.0

    def load() -> int:
        return round(seconds * gpu_parts.samples_per_s(backend, batch, seconds))

    found = gpu_claims.load_draws_more_than_idling(meter, lambda: time.sleep(3.0), load)
    tell(backend, **found)


@pytest.mark.parametrize("way", ["eager fp32", "eager fp16", "compile fp16"])
@pytest.mark.parametrize("size", [1, LARGE])
def test_same_work_through_torch(bundle, open_backend, tell, way, size):
    """The same folded graph and the same switches: TF32 off, as ours; both layouts of memory."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    from benchmarks.torch_peer import TorchPeer

    samples, theirs = smooth_samples(bundle.manifest, size), {}
    for layout in ("contiguous", "channels_last"):
        peer = TorchPeer(bundle, samples, way, layout)
        theirs[layout] = peer.latency_ms(rounds=100)
    backend = open_backend("fp32" if "fp32" in way else "fp16", max_batch=size)
    ours = gpu_claims.latency_ms(backend, samples, 100)
    tell(backend, way=way, batch=size, torch=torch.__version__, theirs_ms=theirs, ours_ms=ours)
    if way == "eager fp16" and size == 1:
        best = min(found["p50"] for found in theirs.values())
        gpu_claims.is_faster_than_eager(ours["p50"], best)
