"""The GPU path against its own parts and its peers; `docs/hardware/run.sh` runs it where one is.

Every relation compares numbers of one run on one machine. TARGET is what the design asks for, and
SLACK what noise on a shared machine may take from it. Not yet run on hardware.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import gpu_parts
from support.tiny import raw_pair

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.manifest import BatchProfile
from esccs_edge.contracts.values import PatchPair
from esccs_edge.cuda.probe import probe_driver
from esccs_edge.runtime.counters import percentiles_ms
from esccs_edge.system.sealed_cache import SealedCache

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        bool(probe_driver().problem), reason=f"no GPU: {probe_driver().problem}"
    ),
]  # fmt: skip

PATCH = 64
ARCHITECTURE = {
    "optical": {"width": 32, "blocks": [2, 2, 2]},
    "sar": {"width": 32, "blocks": [2, 2, 2]},
}
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
ROUNDS = 300
SLACK = 1.15
#: Of the slower of the bare engine loop and the upload of the raw pixels.
THROUGHPUT_TARGET = 0.95
#: Over copies, kernels and engine.
LATENCY_EXTRA_MS = 0.030
P99_TARGET = 1.2
EAGER_TARGET = 3.0
BANDWIDTH_TARGET = 0.8
UPLOAD_TARGET = 0.8


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Bundle:
    """A student of the default size with random but fitted weights, in all three precisions."""
    pytest.importorskip("torch", reason="making a student needs torch")
    from support.small_student import small_bundle, small_index

    from esccs_edge.calibration.quantize import quantize_student
    from esccs_edge.export.to_fp16 import add_float16
    from esccs_edge.export.to_onnx import export_student

    folder = tmp_path_factory.mktemp("student")
    bundle = export_student(small_bundle(folder / "bundle", PATCH, ARCHITECTURE))
    bundle = quantize_student(add_float16(bundle), small_index(folder / "pairs", bundle.manifest))
    profile = BatchProfile(1, 32, max(BATCHES))
    return Bundle(bundle.folder, bundle.manifest.evolve(batch=profile))


@pytest.fixture(scope="module")
def open_backend(student, tmp_path_factory):
    from esccs_edge.backends.trt.backend import TrtBackend

    cache = SealedCache(tmp_path_factory.mktemp("engines"))
    cache.folder.chmod(0o700)
    opened = []

    def make(precision: str, **options):
        while opened:
            opened.pop().close()
        backend = TrtBackend(
            student, student.manifest, max_batch=max(BATCHES), precision=precision, cache=cache,
            **options,
        )  # fmt: skip
        opened.append(backend)
        return backend

    yield make
    while opened:
        opened.pop().close()


@pytest.fixture
def tell(capsys, request):
    """Print a line of results, and keep it where ESCCS_HARDWARE_OUT says."""

    def write(**found) -> None:
        line = json.dumps({"test": request.node.name, **found})
        with capsys.disabled():
            print("\n" + line)
        if folder := os.environ.get("ESCCS_HARDWARE_OUT"):
            with open(Path(folder) / "results.jsonl", "a") as stream:
                stream.write(line + "\n")

    return write


def pairs_of(student: Bundle, count: int) -> list[PatchPair]:
    return [PatchPair(*raw_pair(student.manifest, seed)) for seed in range(count)]


def switches(backend) -> dict:
    """Everything that can be set and that changes a time."""
    return {**backend.describe(), "clocks": "as found"}


def latencies_s(call: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    for _ in range(20):
        call()
    times = []
    gc.disable()  # as a station with a latency promise would
    try:
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    finally:
        gc.enable()
    return times


def pairs_per_s(backend, batch: list[PatchPair], seconds: float = 1.0) -> float:
    """Raw pixels in, logits out, two lanes in turn."""
    lanes = [backend.open_lane() for _ in range(2)]
    for lane in lanes * 3:
        lane.start(batch)
        lane.finish()
    lanes[0].start(batch)
    rounds, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        lanes[(rounds + 1) % 2].start(batch)
        lanes[rounds % 2].finish()
        rounds += 1
    found = rounds * len(batch) / (time.perf_counter() - start)
    lanes[rounds % 2].finish()
    for lane in lanes:
        lane.close()
    return found


def test_uploads_come_near_the_ceilings_of_the_link(student, open_backend, tell):
    """How fast a large block is copied, and the raw pixels of a batch beside it."""
    backend, count = open_backend("fp16", graph_batches=()), 256
    if not backend.describe()["copies"]:
        pytest.skip("this GPU shares memory with the CPU: nothing is copied")
    link = gpu_parts.copy_gb_per_s(backend, 256 << 20)
    batch = pairs_of(student, count)
    parts = gpu_parts.parts_ms(backend, batch, rounds=10)
    found = {
        name: sum(getattr(pair, name).nbytes for pair in batch) / parts[f"upload {name}"] / 1e6
        for name in ("optical", "sar")
    }
    engine = {size: size / gpu_parts.bare_loop_s(backend, pairs_of(student, size), rounds=20)
              for size in (1, 32, max(BATCHES))}  # fmt: skip
    tell(link_gb_per_s=link, upload_gb_per_s=found, engine_alone_pairs_per_s=engine,
         switches=switches(backend))  # fmt: skip
    assert found["optical"] >= UPLOAD_TARGET / SLACK * link["up"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_latency_of_one_pair(benchmark, student, open_backend, tell, precision):
    backend = open_backend(precision)
    batch, lane = pairs_of(student, 1), backend.open_lane()

    def answer():
        lane.start(batch)
        return int(np.argmax(lane.finish().outputs["logits"]))

    found = percentiles_ms(latencies_s(answer))
    parts = gpu_parts.parts_ms(backend, batch)
    benchmark.extra_info.update(parts_ms=parts, switches=switches(backend), **found)
    benchmark(answer)
    lane.close()
    # Both modalities go side by side; the slower one counts.
    device_ms = (
        parts["engine"]
        + parts["download"]
        + max(parts[f"upload {m}"] + parts[f"preprocess {m}"] for m in ("optical", "sar"))
    )
    tell(precision=precision, latency_ms=found, parts_ms=parts, device_ms=device_ms,
         switches=switches(backend))  # fmt: skip
    assert found["p50"] <= SLACK * (device_ms + LATENCY_EXTRA_MS)
    assert found["p99"] <= SLACK * P99_TARGET * found["p50"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_throughput_follows_the_slower_of_engine_and_upload(
    benchmark, student, open_backend, tell, precision
):
    backend = open_backend(precision)
    rates, bounds = {}, {}
    for size in BATCHES:
        batch = pairs_of(student, size)
        rates[size] = pairs_per_s(backend, batch)
        parts = gpu_parts.parts_ms(backend, batch, rounds=10)
        upload_s = 1e-3 * (parts["upload optical"] + parts["upload sar"])
        engine_s = gpu_parts.bare_loop_s(backend, batch, rounds=20)
        bounds[size] = size / max(engine_s, upload_s)
    lane, largest = backend.open_lane(), pairs_of(student, BATCHES[-1])

    def run():
        lane.start(largest)
        lane.finish()

    benchmark.extra_info.update(pairs_per_s=rates, bound=bounds, switches=switches(backend))
    benchmark(run)
    lane.close()
    tell(precision=precision, pairs_per_s=rates, bound_pairs_per_s=bounds,
         switches=switches(backend))  # fmt: skip
    assert max(rates.values()) >= THROUGHPUT_TARGET / SLACK * max(bounds.values())


@pytest.mark.parametrize("graphs", [True, False])
def test_graphs_and_plain_enqueue_side_by_side(student, open_backend, tell, graphs):
    backend = open_backend("fp16", graph_batches=None if graphs else ())
    if graphs and not backend.describe()["graph_batches"]:
        pytest.skip("this CUDA provider has no graphs")
    batch, lane = pairs_of(student, 1), backend.open_lane()

    def answer():
        lane.start(batch)
        lane.finish()

    tell(graphs=graphs, latency_ms=percentiles_ms(latencies_s(answer)), switches=switches(backend))
    lane.close()


@pytest.mark.parametrize("wait", ["block", "spin"])
def test_sleeping_and_spinning_side_by_side(student, open_backend, tell, wait):
    """Latency of one pair, and what it costs the CPU; nothing is asserted."""
    backend = open_backend("fp16", wait=wait)
    batch, lane = pairs_of(student, 1), backend.open_lane()

    def answer():
        lane.start(batch)
        lane.finish()

    cpu_s, wall_s = time.process_time(), time.perf_counter()
    found = percentiles_ms(latencies_s(answer))
    share = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s)
    tell(wait=wait, latency_ms=found, busy_cores=share, switches=switches(backend))
    lane.close()


def test_optical_and_sar_overlap_in_a_trace(student, open_backend, tell):
    backend = open_backend("fp16", graph_batches=())
    if not backend.describe()["copies"]:
        pytest.skip("this GPU shares memory with the CPU: there are no copies to overlap")
    spans = gpu_parts.trace(backend, pairs_of(student, 256))
    if folder := os.environ.get("ESCCS_HARDWARE_OUT"):
        events = json.dumps({"traceEvents": gpu_parts.as_trace_events(spans)})
        (Path(folder) / "trace.json").write_text(events)
    tell(spans=[[s.stream, s.name, s.start_ms, s.end_ms] for s in spans],
         overlap_ms=gpu_parts.overlap_ms(spans))  # fmt: skip
    assert gpu_parts.overlap_ms(spans) > 0


def test_sustained_load_leaves_memory_flat(student, open_backend, tell):
    """Seconds of load are set by ESCCS_SUSTAINED_S; `docs/hardware/run.sh` asks for ten minutes."""
    seconds = float(os.environ.get("ESCCS_SUSTAINED_S", "5"))
    backend, batch = open_backend("fp16"), pairs_of(student, 64)
    pairs_per_s(backend, batch, seconds=1.0)
    before = backend.describe()["free_device_bytes"]
    rate = pairs_per_s(backend, batch, seconds=seconds)
    lost = before - backend.describe()["free_device_bytes"]
    tell(seconds=seconds, pairs_per_s=rate, lost_device_bytes=lost)
    assert lost <= 1 << 20  # a megabyte: drivers keep some bookkeeping


@pytest.fixture(scope="module")
def torch_cuda():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    return torch


class TorchPeer:
    """Raw pixels in, label out, through torch: pinned upload, normalizing on the GPU, network."""

    def __init__(self, torch, student: Bundle, dtype, batch: list[PatchPair]):
        from esccs_edge.export.to_onnx import load_student

        self.torch, self.dtype = torch, dtype
        self.network = load_student(student).eval().cuda().to(dtype)
        self.specs = student.manifest.modalities["optical"], student.manifest.modalities["sar"]
        self.host = [
            torch.from_numpy(np.stack([getattr(pair, name) for pair in batch])).pin_memory()
            for name in ("optical", "sar")
        ]
        self.full = torch.ones(len(batch), 2, device="cuda", dtype=dtype)
        self.tables = [
            [torch.tensor(v, device="cuda").reshape(1, -1, 1, 1) for v in (s.mean, s.std)]
            for s in self.specs
        ]

    def ready(self, pixels, spec, table):
        value = pixels.cuda(non_blocking=True).to(self.torch.float32)
        value = value * spec.dn_scale if spec.dn_scale else value
        return ((value.clamp(*spec.clip) - table[0]) / table[1]).to(self.dtype)

    def __call__(self):
        with self.torch.inference_mode():
            inputs = [
                self.ready(*each) for each in zip(self.host, self.specs, self.tables, strict=True)
            ]
            logits = self.network(*inputs, self.full)[0]
            return logits.argmax(1).cpu()


@pytest.mark.parametrize("way", ["eager fp32", "eager fp16", "compile fp16"])
@pytest.mark.parametrize("size", [1, 256])
def test_same_work_through_torch(benchmark, student, open_backend, tell, torch_cuda, way, size):
    batch = pairs_of(student, size)
    dtype = torch_cuda.float32 if "fp32" in way else torch_cuda.float16
    peer = TorchPeer(torch_cuda, student, dtype, batch)
    if "compile" in way:
        peer.network = torch_cuda.compile(peer.network, mode="reduce-overhead")  # CUDA graphs
    theirs = percentiles_ms(latencies_s(peer, rounds=100))
    backend = open_backend("fp32" if "fp32" in way else "fp16")
    lane = backend.open_lane()

    def answer():
        lane.start(batch)
        return np.argmax(lane.finish().outputs["logits"], axis=1)

    ours = percentiles_ms(latencies_s(answer, rounds=100))
    benchmark.extra_info.update(way=way, theirs_ms=theirs, ours_ms=ours)
    benchmark(peer)
    lane.close()
    tell(way=way, batch=size, torch=torch_cuda.__version__, theirs_ms=theirs, ours_ms=ours,
         switches=switches(backend))  # fmt: skip
    if way == "eager fp16" and size == 1:
        assert theirs["p50"] >= EAGER_TARGET / SLACK * ours["p50"]


def test_preprocessing_uses_the_memory_bandwidth(student, open_backend, tell, torch_cuda):
    """Bytes read and written by the kernel, against a plain copy on the same device."""
    backend, count = open_backend("fp16", graph_batches=()), 256
    parts = gpu_parts.parts_ms(backend, pairs_of(student, count))
    channels = len(student.manifest.modalities["optical"].channels)
    moved = count * channels * PATCH * PATCH * (2 + 4)
    ours = moved / parts["preprocess optical"] / 1e6
    source = torch_cuda.empty(256 << 20, dtype=torch_cuda.uint8, device="cuda")
    target = torch_cuda.empty_like(source)
    first, last = (torch_cuda.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(5):
        target.copy_(source)
    first.record()
    for _ in range(20):
        target.copy_(source)
    last.record()
    last.synchronize()
    copy = 20 * 2 * source.nbytes / first.elapsed_time(last) / 1e6
    tell(kernel_gb_per_s=ours, copy_gb_per_s=copy, share=ours / copy)
    assert ours >= BANDWIDTH_TARGET / SLACK * copy
