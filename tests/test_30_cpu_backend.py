"""The OpenVINO backend: equal to the hand-checked model, strict about what it loads."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnx
import oracle
import pytest
import tiny

from esccs_edge import cpu_backend, cpu_lane
from esccs_edge.bundle import Bundle
from esccs_edge.cpu_backend import CpuBackend
from esccs_edge.cpu_lane import PART_SIZES, SPARE_SLOTS, parts, shares
from esccs_edge.errors import ArtifactError, BackendError, InputError, ManifestError
from esccs_edge.scene import ABSENT, ScenePair

#: float32 on both sides; means over 256 pixels and sums over 15 features in another order.
FLOAT32_ATOL = 1e-4
#: bfloat16 keeps 8 bits; logits of the small model lie within about +-10.
BFLOAT16_ATOL = 0.1

MAX_BATCH = 8


@pytest.fixture
def backend(bundle):
    made = CpuBackend(bundle, bundle.manifest, max_batch=MAX_BATCH, precision="f32")
    yield made
    made.close()


@pytest.fixture
def lane(backend):
    made = backend.open_lane()
    yield made
    made.close()


def run(lane, pairs):
    lane.start(pairs)
    return lane.finish()


def pairs_for(manifest, count: int) -> list[ScenePair]:
    """Pairs of every kind: both, optical only, SAR only, partly absent, nothing."""
    pairs = []
    for seed in range(count):
        optical, sar = tiny.raw_pair(manifest, seed)
        if seed % 5 == 3:
            optical[:, : seed % 16] = 0
            sar[:, :, seed % 16 :] = np.nan
        kinds = {1: (optical, None), 2: (None, sar), 4: (None, None)}
        pairs.append(ScenePair(*kinds.get(seed % 5, (optical, sar))))
    return pairs


def expected(manifest, pairs):
    """The slow road to logits and gate."""
    planes, shares = [], []
    for name, spec in (("optical", manifest.optical), ("sar", manifest.sar)):
        shape = (len(spec.channels), manifest.patch_size, manifest.patch_size)
        stack, share = [], []
        for pair in pairs:
            pixels = getattr(pair, name)
            plane, stats = np.zeros(shape), {"valid": 0, "pixels": 1}
            if pixels is not None:
                plane, stats = oracle.preprocess(pixels, spec)
            stack.append(plane)
            share.append(stats["valid"] / stats["pixels"])
        planes.append(np.stack(stack))
        shares.append(share)
    return tiny.expected(manifest, *planes, np.array(shares).T)


@pytest.mark.parametrize("count", range(1, MAX_BATCH + 1))
def test_it_equals_the_hand_checked_model_at_every_batch_size(lane, bundle, count):
    pairs = pairs_for(bundle.manifest, count)
    output = run(lane, pairs)
    logits, gate = expected(bundle.manifest, pairs)
    np.testing.assert_allclose(output.gate, gate, atol=1e-6)
    seen = gate.any(axis=1)  # without a valid pixel there is no answer
    np.testing.assert_allclose(output.logits[seen], logits[seen], atol=FLOAT32_ATOL)
    assert output.logits.dtype == output.gate.dtype == np.float32


def test_the_default_precision_stays_near(bundle):
    pairs = pairs_for(bundle.manifest, 4)
    lane = CpuBackend(bundle, bundle.manifest, max_batch=4).open_lane()
    np.testing.assert_allclose(
        run(lane, pairs).logits, expected(bundle.manifest, pairs)[0], atol=BFLOAT16_ATOL
    )


def test_sizes_may_change_from_batch_to_batch(lane, bundle):
    pairs = [ScenePair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    whole = run(lane, pairs).logits
    for count in (1, 7, 3, 8, 2):
        np.testing.assert_allclose(run(lane, pairs[-count:]).logits, whole[-count:], atol=1e-5)


def test_a_result_belongs_to_the_caller(lane, bundle):
    pairs = pairs_for(bundle.manifest, 3)
    first = run(lane, pairs[:2])
    kept = first.logits.copy(), first.gate.copy()
    run(lane, pairs[::-1])
    lane.close()
    assert (first.logits == kept[0]).all() and (first.gate == kept[1]).all()


def test_statistics_come_with_the_result(lane, bundle):
    output = run(lane, pairs_for(bundle.manifest, 4))
    assert output.sar[1] == ABSENT and output.optical[2] == ABSENT
    assert output.optical[0].valid == 256 and output.optical[3].valid == 256 - 3 * 16
    assert output.sar[3].nonfinite == 13 * 16


class Watched:
    """Stands in for an OpenVINO request; notes what is called of it and fails on demand."""

    def __init__(self, request, failing: str = "") -> None:
        self.request = request
        self.failing = failing
        self.calls = []

    def __getattr__(self, name):
        def call():
            self.calls.append(name)
            getattr(self.request, name)()
            if name == self.failing:
                self.failing = ""
                raise RuntimeError("primitive failed")

        return call


def watch(slot, pairs: int, failing: str = "", *, lone: bool = False) -> Watched:
    watched = Watched(slot._request(pairs, lone=lone), failing)
    slot._requests[pairs, lone] = watched
    return watched


def test_what_has_no_valid_pixel_needs_no_inference(lane, bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    empty = ScenePair(np.zeros_like(optical), np.full_like(sar, np.nan))
    pair = ScenePair(optical, sar)
    request = watch(lane._slots[0], 1, lone=True)
    wanted = run(lane, [pair])  # what this row held is gone afterwards
    for nothing in (ScenePair(None, None), empty):
        output = run(lane, [nothing])
        assert not output.gate.any() and not output.logits.any()
    assert request.calls == ["infer"]
    assert (run(lane, [pair]).logits == wanted.logits).all()
    output = run(lane, [empty] * 3)
    assert not output.gate.any() and not output.logits.any()


@pytest.mark.parametrize("largest", PART_SIZES)
@pytest.mark.parametrize("cores", [1, 2, 3, 16])
@pytest.mark.parametrize("pairs", [*range(1, 20), 31, 32, 33])
def test_a_batch_is_dealt_out_evenly_in_parts_of_known_sizes(pairs, cores, largest):
    dealt = shares(pairs, cores)
    sizes = {share.stop - share.start for share in dealt}
    assert max(sizes) - min(sizes) <= 1 and len(dealt) == min(pairs, cores)
    cut = [part for share in dealt for part in parts(share, largest)]
    assert [place for part in cut for place in range(part.start, part.stop)] == list(range(pairs))
    known = {size - less for size in PART_SIZES if size <= largest for less in (0, 1)}
    assert {part.stop - part.start for part in cut} <= known - {0}


@pytest.mark.parametrize("cores", [1, 2])
def test_more_parts_than_slots_are_answered_in_order(bundle, monkeypatch, cores):
    monkeypatch.setattr(cpu_lane, "PART_PIXELS", 1)
    backend = CpuBackend(bundle, bundle.manifest, max_batch=17, precision="f32")
    backend.cores = cores
    lane = backend.open_lane()
    pairs = pairs_for(bundle.manifest, 17)
    logits, gate = expected(bundle.manifest, pairs)
    for count in (17, 3, 16):
        output = run(lane, pairs[:count])
        np.testing.assert_allclose(output.gate, gate[:count], atol=1e-6)
        seen = output.gate.any(axis=1)
        np.testing.assert_allclose(
            output.logits[seen], logits[:count][seen], rtol=0, atol=FLOAT32_ATOL
        )
        assert [one.valid for one in output.optical] == [
            one.valid for one in run(lane, pairs[:count]).optical
        ]
    assert len(lane._slots) == cores + SPARE_SLOTS


def test_a_part_that_fails_while_others_are_read_leaves_the_lane_usable(bundle, monkeypatch):
    monkeypatch.setattr(cpu_lane, "PART_PIXELS", 1)
    backend = CpuBackend(bundle, bundle.manifest, max_batch=MAX_BATCH, precision="f32")
    backend.cores = 1
    lane = backend.open_lane()
    pairs = [ScenePair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    wanted = run(lane, pairs).logits
    watched = watch(lane._slots[1], 1, "wait")
    with pytest.raises(BackendError, match="primitive failed"):
        lane.start(pairs)
    np.testing.assert_allclose(run(lane, pairs).logits, wanted, atol=FLOAT32_ATOL)
    assert not watched.failing and watched.calls[::2] == ["start_async"] * (len(watched.calls) // 2)


def test_lanes_run_at_the_same_time_without_mixing(backend, bundle):
    pairs = [ScenePair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    wanted, _ = expected(bundle.manifest, pairs)
    first, second = backend.open_lane(), backend.open_lane()
    first.start(pairs)
    second.start(pairs[::-1])
    np.testing.assert_allclose(second.finish().logits, wanted[::-1], atol=FLOAT32_ATOL)
    np.testing.assert_allclose(first.finish().logits, wanted, atol=FLOAT32_ATOL)

    wrong = []

    def work(lane) -> None:
        for count in list(range(1, MAX_BATCH + 1)) * 5:
            if not np.allclose(run(lane, pairs[:count]).logits, wanted[:count], atol=FLOAT32_ATOL):
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_linear_sar_is_converted_in_the_lane(bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    linear = np.power(10, sar / 10, dtype=np.float32)
    options = {"max_batch": 1, "precision": "f32"}
    db = CpuBackend(bundle, bundle.manifest, **options).open_lane()
    converting = CpuBackend(bundle, bundle.manifest, sar_is_linear=True, **options).open_lane()
    first = run(db, [ScenePair(optical, sar)])
    second = run(converting, [ScenePair(optical, linear)])
    np.testing.assert_allclose(first.logits, second.logits, atol=FLOAT32_ATOL)
    assert second.sar[0].mean == pytest.approx(sar.mean(), abs=1e-4)


def test_the_given_manifest_decides_not_the_one_in_the_folder(bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    shifted = replace(bundle.manifest.optical, dn_offset=-1000.0)
    lane = CpuBackend(bundle, bundle.manifest.evolve(optical=shifted), max_batch=1).open_lane()
    assert run(lane, [ScenePair(optical, sar)]).optical[0].mean == pytest.approx(
        (optical.mean() - 1000) * 1e-4, rel=1e-4
    )


@pytest.mark.parametrize(
    ("count", "slot", "failing"),
    [(1, 0, "infer"), (4, 0, "start_async"), (4, 0, "wait"), (4, 1, "wait")],
)
def test_a_failing_request_is_a_backend_error_and_the_lane_goes_on(bundle, count, slot, failing):
    backend = CpuBackend(bundle, bundle.manifest, max_batch=MAX_BATCH, threads=2, precision="f32")
    backend.cores = 2  # whatever this host has
    lane = backend.open_lane()
    pairs = [ScenePair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(count)]
    wanted = expected(bundle.manifest, pairs)[0]
    np.testing.assert_allclose(run(lane, pairs).logits, wanted, atol=FLOAT32_ATOL)
    watched = watch(lane._slots[slot], max(count // 2, 1), failing, lone=count == 1)
    with pytest.raises(BackendError, match="primitive failed"):
        run(lane, pairs)
    np.testing.assert_allclose(run(lane, pairs).logits, wanted, atol=FLOAT32_ATOL)
    assert not watched.failing
    if count > 1:
        assert watched.calls == ["start_async", "wait"] * 2  # never started while it runs


def test_buffers_outlive_requests_that_an_interrupt_left_running(backend, bundle):
    """Python may raise KeyboardInterrupt right after a native call returned."""
    lane = backend.open_lane()
    batch = [ScenePair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(MAX_BATCH)]
    part = next(parts(shares(MAX_BATCH, backend.cores)[0], MAX_BATCH))
    request = watch(lane._slots[0], part.stop)
    start_async = request.request.start_async

    def interrupted():
        start_async()
        raise KeyboardInterrupt

    request.request = SimpleNamespace(start_async=interrupted, wait=request.request.wait)
    with pytest.raises(KeyboardInterrupt):
        run(lane, batch)
    lane.close()
    assert request.calls == ["start_async", "wait"]


def test_lone_pairs_of_many_threads_run_one_at_a_time(backend, bundle):
    pairs = [ScenePair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(4)]
    wanted, _ = expected(bundle.manifest, pairs)
    lanes = [backend.open_lane() for _ in pairs]
    running, most = [], []

    def counted(infer):
        running.append(1)
        most.append(len(running))
        infer()
        running.pop()

    for lane in lanes:
        request = watch(lane._slots[0], 1, lone=True)
        request.request = SimpleNamespace(infer=partial(counted, request.request.infer))
    wrong = []

    def work(lane, pair, logits) -> None:
        for _ in range(20):
            if not np.allclose(run(lane, [pair]).logits, logits, atol=FLOAT32_ATOL):
                wrong.append(pair)

    threads = [
        threading.Thread(target=work, args=(lane, pair, logits))
        for lane, pair, logits in zip(lanes, pairs, wanted, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(most) == 80 and max(most) == 1


def test_a_lane_may_be_closed_at_any_time_and_twice(backend, bundle):
    lane = backend.open_lane()
    lane.start(pairs_for(bundle.manifest, 3))
    lane.close()
    lane.close()
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend.open_lane()


def test_describe_names_device_version_and_arithmetic(bundle):
    made = CpuBackend(bundle, bundle.manifest, max_batch=2, threads=1, precision="f32")
    described = made.describe()
    assert described["backend"] == "cpu" and described["threads"] == 1
    assert described["precision"] == "f32" and described["openvino"] and described["device"]
    made.close()
    assert made.describe()["threads"] == 0


# ---- refusals -----------------------------------------------------------------------------------


@pytest.fixture
def no_parser(monkeypatch):
    """OpenVINO must not see a byte of the model."""

    def parse(*args):
        raise AssertionError("the model was parsed")

    monkeypatch.setattr(cpu_backend, "load_model", parse)


def test_an_altered_model_is_refused_before_it_is_parsed(bundle, no_parser):
    path = bundle.folder / "student.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="sha256"):
        CpuBackend(bundle, bundle.manifest, max_batch=1)


def test_external_data_is_refused_before_it_is_parsed(bundle, no_parser):
    model = onnx.load_from_string(bundle.read("student.onnx"))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="student.onnx.data")
    altered = bundle.add({"student.onnx": model.SerializeToString()})
    with pytest.raises(ArtifactError, match="another file"):
        CpuBackend(altered, altered.manifest, max_batch=1)


def test_bytes_that_are_no_model_are_an_artifact_error(bundle):
    for content in (b"", b"\x08\x08", b"not a model at all"):
        altered = bundle.add({"student.onnx": content})
        with pytest.raises(ArtifactError):
            CpuBackend(altered, altered.manifest, max_batch=1)


def other_model(change) -> bytes:
    model = onnx.load_from_string(tiny.tiny_onnx(tiny.tiny_manifest()))
    change(model.graph)
    return model.SerializeToString()


def fixed_batch(graph) -> None:
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def renamed_input(graph) -> None:
    graph.input[0].name = "image"
    graph.node[0].input[0] = "image"


def extra_output(graph) -> None:
    extra = onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, ["N", 1])
    graph.output.append(extra)


@pytest.mark.parametrize("change", [fixed_batch, renamed_input, extra_output])
def test_a_model_with_other_tensors_is_refused(bundle, change):
    altered = bundle.add({"student.onnx": other_model(change)})
    with pytest.raises(ManifestError, match="expected"):
        CpuBackend(altered, altered.manifest, max_batch=1)


@pytest.mark.parametrize("change", [{"patch_size": 32}, {"classes": ("A", "B")}])
def test_a_model_made_for_another_manifest_is_refused(tmp_path, change):
    content = tiny.tiny_onnx(tiny.tiny_manifest())
    manifest = tiny.tiny_manifest().evolve(**change)
    bundle = Bundle.create(tmp_path / "b", manifest, {"student.onnx": content})
    if "patch_size" in change:  # the small model pools, so only its declared inputs differ
        assert bundle.manifest.inputs["optical"] == ("N", 13, 32, 32)
    with pytest.raises(ManifestError, match="expected"):
        CpuBackend(bundle, manifest, max_batch=1)


def test_an_unknown_precision_is_refused(bundle):
    with pytest.raises(InputError, match="precision"):
        CpuBackend(bundle, bundle.manifest, max_batch=1, precision="f64")
