"""Each claim of the GPU benchmarks, on a fake GPU where it is true and on one where it is not."""

from __future__ import annotations

import time

import numpy as np
import pytest
from benchmarks import gpu_claims
from support import gpu_parts
from support.onnx_answer import onnx_answer
from support.power_meters import Steady
from support.timed_gpu import TimedDriver
from support.trt_machine import Machine, host_pairs

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.pixels.synthetic import smooth_samples

PAIRS = 8
#: A link of 1 GB/s, memory of 4 GB/s, an engine of 0.2 ms a batch; 8 pairs have 69,632 raw bytes.
GOOD = {
    "copy_to_device": lambda size: 1e-6 * size,
    "copy_to_host": lambda size: 1e-6 * size,
    "fill_zero": lambda size: 2.5e-7 * size,
    "esccs_preprocess_f32": lambda size: 0.05,
    "engine": lambda size: 0.2,
}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_parts, "BLOCK_BYTES", 1 << 20)
    return Machine(monkeypatch, tmp_path, driver=TimedDriver(dict(GOOD)))


def claim(machine, name, pairs=PAIRS, **options):
    """Measure and assert one claim; returns what it found."""
    with_graphs = options.pop("graphs", False)
    backend = machine.open(graph_batches=None if with_graphs else (), wait="spin")
    samples = host_pairs(machine.manifest, pairs)
    try:
        call = getattr(gpu_claims, name)
        return call(backend, samples, clock=machine.driver.clock, **options)
    finally:
        backend.close()
        machine.driver.released = False  # the next backend is opened on the same one


def assert_only_then(machine, name, spoil, **options):
    """A claim holds, and no more once something was spoilt."""
    found = claim(machine, name, **options)
    spoil(machine.driver)
    with pytest.raises(AssertionError):
        claim(machine, name, **options)
    return found


def test_parts_are_what_the_gpu_takes_whatever_the_host_does(machine):
    """The host's calls take twenty times as long as here; work that waits does not show it."""
    for call_ms in (0.001, 0.02):
        machine.driver.call_ms = call_ms
        backend = machine.open(graph_batches=(), wait="spin")
        samples = host_pairs(machine.manifest, PAIRS)
        found = gpu_parts.parts_ms(backend, samples, clock=machine.driver.clock)
        backend.close()
        machine.driver.released = False
        assert list(found) == ["upload", "preprocess", "engine", "download"]
        assert found["engine"] == pytest.approx(0.2) and found["preprocess"] == pytest.approx(0.05)


def test_block_that_cannot_outlast_the_host_is_told(machine):
    machine.driver.call_ms = 1000.0
    with pytest.raises(TimeoutError, match="enqueueing took"):
        claim(machine, "lanes_overlap")


def test_upload_against_the_link(machine):
    def slow_where_small(driver):
        driver.costs["copy_to_device"] = lambda size: 1.0 + 1e-6 * size

    name = "upload_is_near_the_link"
    found = assert_only_then(machine, name, slow_where_small, link_bytes=1 << 24)
    assert found["link_gb_per_s"]["up"] == pytest.approx(1.0)


def test_preprocessing_against_the_memory(machine):
    def slow(driver):
        driver.costs["esccs_preprocess_f32"] = lambda size: 0.5

    name = "preprocessing_uses_the_memory"
    found = assert_only_then(machine, name, slow, clear_bytes=1 << 20)
    assert found["memory_gb_per_s"] == pytest.approx(4.0)


@pytest.mark.parametrize("spoilt", ["the host is slow", "some answers are late"])
def test_latency_against_the_parts(machine, spoilt):
    def spoil(driver):
        if spoilt == "the host is slow":
            driver.call_ms = 0.05
        else:
            driver.stalls = lambda wait: 5.0 if wait % 50 == 0 else 0.0

    found = assert_only_then(machine, "latency_is_that_of_its_parts", spoil, pairs=1)
    assert found["device_ms"] == pytest.approx(0.2 + 0.05 + 0.012, abs=0.01)


def test_latency_is_bounded_for_a_host_that_spins_only(machine):
    backend = machine.open(wait="block")
    with pytest.raises(AssertionError, match="a host that spins"):
        gpu_claims.latency_is_that_of_its_parts(backend, host_pairs(machine.manifest, 1))
    backend.close()


def one_unit(driver):
    """A GPU that does one thing at a time."""
    driver.units = {"copy_to_device": "all", "copy_to_host": "all", "esccs_preprocess_f32": "all",
                    "engine": "all", "fill_zero": "all"}  # fmt: skip


def test_lanes_against_one_after_the_other(machine):
    found = assert_only_then(machine, "lanes_overlap", one_unit)
    assert found["both_ms"] < 1.9 * found["one_ms"]


def test_throughput_against_engine_and_upload(machine):
    def measure():
        backend = machine.open(graph_batches=(), wait="spin")
        batches = {n: host_pairs(machine.manifest, n) for n in (1, PAIRS)}
        try:
            return gpu_claims.throughput_is_that_of_the_slower_part(
                backend, batches, seconds=0.05, clock=machine.driver.clock
            )
        finally:
            backend.close()
            machine.driver.released = False

    machine.driver.costs["esccs_preprocess_f32"] = lambda size: 0.01
    assert measure()["pairs_per_s"][PAIRS] > 2 * measure()["pairs_per_s"][1]
    one_unit(machine.driver)
    with pytest.raises(AssertionError):
        measure()


def test_graphs_against_plain_calls(machine):
    machine.driver.call_ms = 0.01
    plain, graph = (
        claim(machine, "latency_ms", pairs=1, rounds=50, graphs=graphs) for graphs in (False, True)
    )
    gpu_claims.graphs_are_no_slower(plain, graph)
    with pytest.raises(AssertionError):
        gpu_claims.graphs_are_no_slower(graph, {"p50": 2 * plain["p50"]})


def test_branches_against_one_after_the_other():
    layers = [("optical", 0.3), ("optical", 0.2), ("sar", 0.4), ("both", 0.1)]
    found = gpu_claims.branches_overlap(0.8, layers, ["optical", "sar"])
    assert found["share_of_shorter_branch_hidden"] == pytest.approx(0.5)
    with pytest.raises(AssertionError):
        gpu_claims.branches_overlap(1.3, layers, ["optical", "sar"])


def test_memory_against_itself(machine):
    def leak(driver):
        driver.leak = 1 << 16

    assert_only_then(machine, "memory_stays_flat", leak, seconds=0.02)


def test_load_against_idling():
    def rest():
        time.sleep(0.03)

    def load():
        rest()
        meter.readings[:] = [90.0]
        rest()
        return 10

    meter = Steady(50.0)
    found = gpu_claims.load_draws_more_than_idling(meter, rest, load)
    assert found["idle_watts"] == pytest.approx(50.0) and found["millijoules_a_pair"] > 0
    with pytest.raises(AssertionError):
        gpu_claims.load_draws_more_than_idling(Steady(50.0), rest, lambda: 10)


@pytest.mark.parametrize(
    "way, layout", [("eager fp32", "channels_last"), ("eager fp16", "contiguous")]
)
def test_torch_that_the_lane_is_held_against_answers_as_the_file(way, layout):
    pytest.importorskip("torch")
    from benchmarks.torch_peer import TorchPeer

    bundle = Bundle.open()
    samples = smooth_samples(bundle.manifest, 3)
    peer = TorchPeer(bundle, samples, way, layout, device="cpu")
    wanted = onnx_answer(bundle, samples).outputs["logits"]
    np.testing.assert_allclose(peer.logits(), wanted, atol=2e-2 if "fp16" in way else 1e-4)
    assert peer().tolist() == wanted.argmax(1).tolist()


def test_eager_against_the_lane():
    gpu_claims.is_faster_than_eager(0.1, 0.5)
    with pytest.raises(AssertionError):
        gpu_claims.is_faster_than_eager(0.1, 0.2)
