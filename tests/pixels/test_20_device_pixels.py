"""Pixels that lie on the GPU: read where they are, after their producer's stream, or refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from support.fake_gpu import Block
from support.onnx_answer import onnx_answer
from support.real_gpu import ENGINES, needs_gpu, running_or_skipped
from support.tiny import checked_pair, tiny_bundle, tiny_manifest
from support.trt_machine import Machine, assert_same, cpu_answer, host_pairs

from esccs_edge import Classifier, GpuPixels
from esccs_edge.backends import choice as backend_choice
from esccs_edge.backends.trt.pixel_kernels import RawLayout
from esccs_edge.contracts.values import DevicePixels
from esccs_edge.errors import InputError
from esccs_edge.pixels.device_pixels import LEGACY_STREAM, device_pixels_of
from esccs_edge.pixels.preprocess import preprocess


class OnGpu:
    """An array of the fake GPU, whose memory is the host's, seen through the interface."""

    def __init__(self, array, *, version=3, address=None, **changes):
        self.block = Block(array.nbytes, "device")
        self.block.array[:] = array.reshape(-1).view(np.uint8)
        start = self.block.array.ctypes.data if address is None else address
        self.__cuda_array_interface__ = {
            "typestr": array.dtype.str, "shape": array.shape, "data": (start, True),
            "version": version, "strides": None, **changes,
        }  # fmt: skip


@pytest.fixture
def machine(monkeypatch, tmp_path):
    return Machine(monkeypatch, tmp_path)


def as_device(pair, manifest, **options):
    return checked_pair(OnGpu(pair.optical, **options), OnGpu(pair.sar, **options), manifest)


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_same_answers_as_from_the_host_and_nothing_but_the_table_is_uploaded(
    monkeypatch, tmp_path, seed, integrated
):
    machine = Machine(monkeypatch, tmp_path, seed=seed, integrated=integrated)
    backend = machine.open(graph_batches=(4,))
    lane = backend.open_lane()
    pairs = host_pairs(machine.manifest, 4)
    mixed = [as_device(p, machine.manifest) if i % 2 else p for i, p in enumerate(pairs)]
    for batch in (mixed, mixed, mixed, pairs, pairs, pairs):  # each plain, captured, replayed
        lane.start(batch)
        assert_same(lane.finish(), cpu_answer(tmp_path / "bundle", pairs))
    before = len(machine.driver.uploaded)
    lane.answer([as_device(p, machine.manifest) for p in pairs])
    table = RawLayout(8, (13, 2), 16 * 16).header_bytes
    assert machine.driver.uploaded[before:] == ([] if integrated else [table])
    backend.close()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("graph_batches", [(), (1,)])
def test_lane_waits_for_the_stream_that_makes_the_pixels(
    monkeypatch, tmp_path, seed, graph_batches
):
    machine = Machine(monkeypatch, tmp_path, seed=seed)
    backend = machine.open(graph_batches=graph_batches)
    lane = backend.open_lane()
    producer = machine.driver.adopt_stream(77)
    for pair in host_pairs(machine.manifest, 3):  # with graphs: plain, captured, replayed
        late = OnGpu(np.zeros_like(pair.optical), stream=77)
        content = pair.optical.reshape(-1).view(np.uint8)
        machine.driver.enqueue_on(77, partial(np.copyto, late.block.array, content))
        lane.start([checked_pair(late, pair.sar, machine.manifest)])
        assert_same(lane.finish(), cpu_answer(tmp_path / "bundle", [pair]))
        assert not producer.queue
    assert len(lane.contexts.graphs) == len(graph_batches)
    backend.close()


class TorchStream:
    cuda_stream = 77


class ProtocolStream:
    def __cuda_stream__(self):
        return 0, 77


class PycudaStream:
    handle = 77


class CupyStream:
    ptr = 77


class TorchEvent:
    cuda_event = 5

    def __init__(self, fake):
        self.fake = fake


STREAMS = [TorchStream(), ProtocolStream(), PycudaStream(), CupyStream(), 77]


@pytest.mark.parametrize("kind", ["event", *STREAMS], ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("seed", range(3))
def test_lane_waits_for_the_stream_or_event_that_the_caller_names(
    monkeypatch, tmp_path, seed, kind
):
    """The array says that it is ready, as pycuda's do, and is not."""
    machine = Machine(monkeypatch, tmp_path, seed=seed)
    backend = machine.open()
    lane, driver = backend.open_lane(), machine.driver
    producer = driver.adopt_stream(77)
    for pair in host_pairs(machine.manifest, 3):
        late = OnGpu(np.zeros_like(pair.optical), stream=None)
        content = pair.optical.reshape(-1).view(np.uint8)
        driver.enqueue_on(77, partial(np.copyto, late.block.array, content))
        if kind == "event":
            with backend.device.active():
                event = TorchEvent(driver.create_event(False, False))
                driver.record_event(event.fake, producer)
            pixels = GpuPixels(late, event=event)
        else:
            pixels = GpuPixels(late, stream=kind)
        assert_same(
            lane.answer([checked_pair(pixels, pair.sar, machine.manifest)]),
            cpu_answer(tmp_path / "bundle", [pair]),
        )
        if kind == "event":  # it is the caller's, and still there
            with backend.device.active():
                driver.destroy_event(event.fake)
    backend.close()


def test_what_is_borrowed_lives_until_the_answer():
    array, stream = OnGpu(np.zeros((2, 4, 4), np.float32), stream=None), TorchStream()
    there = device_pixels_of(GpuPixels(array, stream=stream), "SAR")
    assert there.stream is stream and there.event is None and there.owner[0] is array


@pytest.mark.parametrize(
    "named, words",
    [
        ({}, "neither a stream nor an event"),
        ({"stream": "5"}, "str is not a CUDA stream"),
        ({"event": True}, "bool is not a CUDA event"),
        ({"stream": 2}, "default stream of a thread"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_at_once(named, words):
    with pytest.raises(InputError, match=words):
        GpuPixels(OnGpu(np.zeros((2, 4, 4), np.float32)), **named)


def test_arrays_on_the_host_have_nothing_to_wait_for():
    pixels = GpuPixels(np.zeros((2, 4, 4), np.float32), stream=77)
    with pytest.raises(InputError, match="ndarray on the host, expected pixels on the GPU"):
        device_pixels_of(pixels, "SAR")


def test_arrays_on_other_accelerators_are_not_copied_in_silence():
    """They offer ``__array__``, by which NumPy would fetch them."""

    class Elsewhere:
        def __dlpack_device__(self):
            return 8, 0

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("copied through the host")

    with pytest.raises(InputError, match="accelerator other than a CUDA device"):
        device_pixels_of(Elsewhere(), "SAR")


def test_stream_is_taken_from_the_interface_or_is_the_default_one():
    array = np.zeros((2, 4, 4), np.float32)
    assert device_pixels_of(OnGpu(array, stream=5), "SAR").stream == 5
    assert device_pixels_of(OnGpu(array, stream=None), "SAR").stream is None
    assert device_pixels_of(OnGpu(array, version=2), "SAR").stream == LEGACY_STREAM
    assert device_pixels_of(array, "SAR") is None


def test_a_threads_own_default_stream_is_refused():
    """Whoever waits for it does so in another thread, where it is another stream."""
    with pytest.raises(InputError, match="default stream of a thread"):
        device_pixels_of(OnGpu(np.zeros((2, 4, 4), np.float32), stream=2), "SAR")


class Raises:
    """As torch's tensors that require a gradient do when they are asked for the interface."""

    def __init__(self, error, attribute="__cuda_array_interface__"):
        self._error, self._attribute = error, attribute

    def __getattr__(self, name):
        if name == self._attribute:
            raise self._error
        raise AttributeError(name)


@pytest.mark.parametrize("error", [RuntimeError("requires grad"), ValueError("x"), OSError("y")])
@pytest.mark.parametrize("attribute", ["__cuda_array_interface__", "__dlpack_device__"])
def test_what_a_foreign_object_raises_is_an_error_of_its_input(error, attribute):
    foreign = Raises(error, attribute)
    foreign.__dict__["__dlpack__"] = None
    with pytest.raises(InputError, match=f"optical is a Raises.*{error}.*detach"):
        device_pixels_of(foreign, "optical")


@pytest.mark.parametrize("missing", ["data", "shape", "typestr", "version"])
def test_an_interface_without_a_part_is_refused(missing):
    there = OnGpu(np.zeros((2, 4, 4), np.float32))
    del there.__cuda_array_interface__[missing]
    with pytest.raises(InputError, match=f"KeyError: '{missing}'"):
        device_pixels_of(there, "SAR")


def test_a_foreign_object_that_raises_fails_its_own_pair_only(machine, monkeypatch):
    monkeypatch.setattr(backend_choice, "tensorrt_is_usable", lambda: True)
    pairs = host_pairs(machine.manifest, 3)
    opticals = [OnGpu(pairs[0].optical), Raises(RuntimeError("requires grad")), pairs[2].optical]
    with Classifier(tiny_bundle(machine.folder / "b"), backend="tensorrt", max_batch=4) as model:
        answers = model.classify_batch(opticals, [pair.sar for pair in pairs])
        alone = model.classify(pairs[0].optical, pairs[0].sar)
    assert isinstance(answers[1], InputError) and "requires grad" in str(answers[1])
    assert answers[0].label == alone.label and answers[2].label


def test_dlpack_is_taken_where_the_interface_names_no_stream(monkeypatch):
    """torch says version 2 and no stream, but its DLPack waits for the stream it works on."""
    asked = []
    array = np.zeros((2, 4, 4), np.float32)

    class Both(OnGpu):
        def __dlpack_device__(self):
            return 2, 0

        def __dlpack__(self, *, stream, max_version=None):
            asked.append(stream)
            raise BufferError("asked")

    with pytest.raises(InputError, match="asked"):
        device_pixels_of(Both(array, version=2), "SAR")
    assert asked == [LEGACY_STREAM]
    assert device_pixels_of(Both(array, version=3, stream=7), "SAR").stream == 7


def test_owner_is_kept_alive():
    held = OnGpu(np.zeros((2, 4, 4), np.float32))
    assert device_pixels_of(held, "SAR").owner is held


def test_contiguous_strides_may_be_spelled_out():
    array = np.zeros((2, 4, 4), np.float32)
    assert device_pixels_of(OnGpu(array, strides=array.strides), "SAR").shape == (2, 4, 4)


@pytest.mark.parametrize(
    "array, changes, words",
    [
        (np.zeros((13, 16, 16), np.uint16), {"strides": (2, 26, 416)}, "contiguous"),
        (np.zeros((13, 16, 16), np.uint16), {"address": 4097}, "address"),
        (np.zeros((13, 16, 16), np.uint16), {"address": 0}, "address"),
        (np.zeros((16, 16, 13), np.uint16), {}, "transpose"),
        (np.zeros((13, 16, 16), np.int32), {}, "int32, expected one of uint8, uint16"),
        (np.zeros((13, 16, 16), ">u2"), {}, "dtype"),
    ],
)
def test_what_the_kernel_cannot_read_is_refused(array, changes, words):
    with pytest.raises(InputError, match=words):
        checked_pair(OnGpu(array, **changes), None, tiny_manifest())


def test_sar_on_the_gpu_must_be_float32():
    with pytest.raises(InputError, match="expected one of float32"):
        checked_pair(None, OnGpu(np.zeros((2, 16, 16), np.int16)), tiny_manifest())


def test_cpu_backend_refuses_them_with_a_way_out(tmp_path):
    bundle = tiny_bundle(tmp_path / "bundle")
    (pair,) = host_pairs(bundle.manifest, 1)
    with (
        Classifier(bundle, backend="cpu", max_batch=2) as classifier,
        pytest.raises(InputError, match="lie on a GPU.*TensorRT backend"),
    ):
        classifier.classify(OnGpu(pair.optical), OnGpu(pair.sar))


def test_preprocessing_on_the_cpu_refuses_them():
    spec = tiny_manifest().modalities["sar"]
    there = DevicePixels(4096, (2, 4, 4), np.dtype(np.float32), None, None)
    with pytest.raises(InputError, match="lie on a GPU"):
        preprocess([there], spec, np.empty((1, 2, 4, 4), np.float32))


def test_classifier_takes_them_in_every_call(machine, monkeypatch):
    monkeypatch.setattr(backend_choice, "tensorrt_is_usable", lambda: True)
    bundle = tiny_bundle(machine.folder / "bundle")
    pairs = host_pairs(bundle.manifest, 3)
    with Classifier(bundle, backend="cpu") as classifier:
        wanted = [classifier.classify(p.optical, p.sar) for p in pairs]
    there = [(GpuPixels(OnGpu(p.optical), stream=77), OnGpu(p.sar)) for p in pairs]
    with Classifier(bundle, backend="tensorrt", max_batch=4, lanes=1) as classifier:
        found: list[Any] = [
            [classifier.classify(*pair) for pair in there],
            classifier.classify_batch(*map(list, zip(*there, strict=True))),
            [classifier.submit(*pair).result(timeout=30) for pair in there],
            list(classifier.stream(there)),
        ]
    for answers in found:
        assert [a.label for a in answers] == [w.label for w in wanted]
        np.testing.assert_allclose([a.gate.sar for a in answers], [w.gate.sar for w in wanted])


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("engine", ENGINES)
def test_real_tensors_of_torch_are_read_where_they_lie(monkeypatch, tmp_path, engine):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    monkeypatch.setenv("ESCCS_CUDA", "cuda-python")  # pycuda cannot wait for a foreign stream
    bundle = tiny_bundle(tmp_path / "bundle")
    pairs = host_pairs(bundle.manifest, 6)
    wanted = onnx_answer(bundle, pairs).outputs["logits"].argmax(1)
    there = [[torch.from_numpy(array).cuda() for array in (p.optical, p.sar)] for p in pairs]
    with running_or_skipped(engine):
        with Classifier(bundle, backend="tensorrt", max_batch=4) as classifier:
            found = classifier.classify_batch(*map(list, zip(*there, strict=True)))
    assert [a.label for a in found] == [bundle.manifest.classes[number] for number in wanted]
