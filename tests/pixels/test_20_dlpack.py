"""DLPack: real capsules of NumPy and torch, and capsules made here that play a CUDA producer."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np
import pytest
from support.fake_gpu import Block
from support.onnx_answer import onnx_answer
from support.real_gpu import ENGINES, needs_gpu, running_or_skipped
from support.tiny import checked_pair, tiny_bundle, tiny_manifest
from support.trt_machine import Machine, assert_same, cpu_answer, host_pairs

from esccs_edge import Classifier
from esccs_edge.errors import InputError
from esccs_edge.pixels.device_pixels import LEGACY_STREAM, device_pixels_of
from esccs_edge.pixels.dlpack import _Deleter, _Device, _Managed, _Tensor, _Versioned, take

CUDA, CUDA_MANAGED, CPU, CUDA_HOST = 2, 13, 1, 3
_new_capsule = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
)(("PyCapsule_New", ctypes.pythonapi))
_name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(
    ("PyCapsule_GetName", ctypes.pythonapi)
)


class Producer:
    """An array of the fake GPU that offers DLPack and nothing else."""

    def __init__(self, array, *, versioned=True, device=CUDA, strides=None, major=1, offset=0,
                 dtype=None, wait=lambda stream: None):  # fmt: skip
        self.block = Block(array.nbytes + offset, "device")
        self.block.array[offset:] = array.reshape(-1).view(np.uint8)
        self.versioned, self.device, self.wait = versioned, device, wait
        self.asked, self.given_back, self.capsules = [], [], []
        self._shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        self._strides = None if strides is None else (ctypes.c_int64 * array.ndim)(*strides)
        self._deleter = _Deleter(self.given_back.append)
        self.managed = (_Versioned if versioned else _Managed)()
        self.managed.deleter = ctypes.cast(self._deleter, ctypes.c_void_p)
        if versioned:
            self.managed.major = major
        kind = {"i": 0, "u": 1, "f": 2}[array.dtype.kind]
        self.managed.tensor = _Tensor(
            self.block.array.ctypes.data, _Device(device, 0), array.ndim,
            dtype or (kind, array.itemsize * 8, 1), self._shape,
            None if strides is None else self._strides, offset,
        )  # fmt: skip

    def __dlpack_device__(self):
        return self.device, 0

    def __dlpack__(self, *, stream=None, **new):
        if new and not self.versioned:
            raise TypeError("unexpected keyword max_version")
        self.asked.append((stream, *new.values()))
        self.wait(stream)
        name = b"dltensor_versioned" if self.versioned else b"dltensor"
        self.capsules.append(_new_capsule(ctypes.addressof(self.managed), name, None))
        return self.capsules[-1]


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}])
def test_numpys_own_capsule_is_read_and_given_back(options):
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    alive = weakref.ref(array)
    try:
        capsule = array.__dlpack__(**options)
    except TypeError:
        pytest.skip("this NumPy knows no versions of DLPack")
    lent = take(capsule)
    assert (lent.address, lent.shape, lent.dtype) == (array.ctypes.data, (2, 3, 4), "uint16")
    assert lent.strides in (array.strides, None)  # an older NumPy names none for contiguous pixels
    del array, capsule
    assert alive() is not None
    del lent
    assert alive() is None


def test_capsule_of_torch_is_read():
    torch = pytest.importorskip("torch")
    part = torch.zeros(2, 3, 4)[:, 1:]
    lent = take(part.__dlpack__())
    assert (lent.address, lent.shape) == (part.data_ptr(), (2, 2, 4))
    assert lent.strides == (48, 16, 4)


def test_capsule_can_be_taken_once():
    capsule = np.zeros(3, np.float32).__dlpack__()
    lent = take(capsule)
    with pytest.raises(InputError, match="not used yet"):
        take(capsule)
    with pytest.raises(InputError, match="not used yet"):
        take("capsule")
    assert lent.shape == (3,)


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("device", [CUDA, CUDA_MANAGED])
def test_memory_is_kept_while_used_and_given_back_once(versioned, device):
    array = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    producer = Producer(array, versioned=versioned, device=device, offset=64)
    found = device_pixels_of(producer, "SAR")
    assert found.address == producer.block.array.ctypes.data + 64
    assert (found.shape, found.dtype, found.stream) == ((2, 4, 4), np.float32, LEGACY_STREAM)
    assert producer.asked == [(LEGACY_STREAM, (1, 0)) if versioned else (LEGACY_STREAM,)]
    assert _name_of(producer.capsules[0]).startswith(b"used_dltensor")
    assert producer.given_back == []
    del found
    assert producer.given_back == [ctypes.addressof(producer.managed)]


def test_producer_without_a_deleter_is_fine():
    producer = Producer(np.zeros((2, 4, 4), np.float32))
    producer.managed.deleter = None
    assert device_pixels_of(producer, "SAR") is not None


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "changes, words",
    [
        ({"strides": (1, 2, 8)}, "contiguous"),
        ({"dtype": (4, 16, 1)}, "type code 4, 16 bits"),
        ({"dtype": (2, 32, 4)}, "4 lanes"),
        ({"dtype": (2, 4, 1)}, "4 bits"),
        ({"major": 2}, "version 2, expected 1"),
        ({"offset": 3}, "address"),
    ],
)
def test_what_cannot_be_read_is_refused_and_given_back(changes, words):
    producer = Producer(np.zeros((2, 4, 4), np.float32), **changes)
    with pytest.raises(InputError, match=words):
        device_pixels_of(producer, "SAR")
    assert len(producer.given_back) == 1


def test_strides_of_an_axis_with_one_element_do_not_matter():
    producer = Producer(np.zeros((1, 4, 4), np.float32), strides=(7, 4, 1))
    assert device_pixels_of(producer, "SAR").shape == (1, 4, 4)


def test_producers_refusal_is_told():
    class Refusing(Producer):
        def __dlpack__(self, **_):
            raise BufferError("requires grad")

    with pytest.raises(InputError, match="Refusing.*requires grad"):
        device_pixels_of(Refusing(np.zeros((2, 4, 4), np.float32)), "SAR")


@pytest.mark.parametrize("device", [CPU, CUDA_HOST])
def test_arrays_on_the_host_are_not_taken_for_device_pixels(device):
    array = np.zeros((2, 16, 16), np.float32)
    producer = Producer(array, device=device)
    producer.__class__ = type("OnHost", (Producer,), {"__array__": lambda self, *a, **k: array})
    assert device_pixels_of(producer, "SAR") is None
    assert isinstance(checked_pair(None, producer, tiny_manifest()).sar, np.ndarray)
    assert producer.asked == []


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_lane_reads_them_after_the_producers_own_stream(monkeypatch, tmp_path, seed, versioned):
    """The producer writes on its stream 77 and makes the stream that it is given wait for that."""
    machine = Machine(monkeypatch, tmp_path, seed=seed)
    driver = machine.driver
    backend = machine.open(graph_batches=())
    lane = backend.open_lane()
    (pair,) = host_pairs(machine.manifest, 1)
    theirs = driver.adopt_stream(77)

    def make_wait(stream):
        driver.push()
        done = driver.create_event(timing=False, blocking=True)
        driver.record_event(done, theirs)
        driver.wait_event(driver.adopt_stream(stream), done)
        driver.live.remove(done)  # theirs, not ours
        driver.pop()

    late = Producer(np.zeros_like(pair.optical), versioned=versioned, wait=make_wait)
    content = pair.optical.reshape(-1).view(np.uint8)
    driver.enqueue_on(77, lambda: np.copyto(late.block.array, content))
    there = checked_pair(late, pair.sar, machine.manifest)
    lane.start([there])
    assert_same(lane.finish(), cpu_answer(tmp_path / "bundle", [pair]))
    assert late.given_back == []
    del there
    assert len(late.given_back) == 1
    backend.close()


class OnlyDlpack:
    """A tensor of torch without its other interface, as jax's arrays are."""

    def __init__(self, tensor):
        self.__dlpack_device__ = tensor.__dlpack_device__
        self.__dlpack__ = tensor.__dlpack__


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("engine", ENGINES)
def test_real_tensors_are_borrowed_by_dlpack(monkeypatch, tmp_path, engine):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    monkeypatch.setenv("ESCCS_CUDA", "cuda-python")  # pycuda cannot wait for a foreign stream
    bundle = tiny_bundle(tmp_path / "bundle")
    pairs = host_pairs(bundle.manifest, 6)
    wanted = onnx_answer(bundle, pairs).outputs["logits"].argmax(1)
    there = [
        [OnlyDlpack(torch.from_numpy(array).cuda()) for array in (p.optical, p.sar)] for p in pairs
    ]
    with running_or_skipped(engine):
        with Classifier(bundle, backend="tensorrt", max_batch=4) as classifier:
            found = classifier.classify_batch(*map(list, zip(*there, strict=True)))
    assert [a.label for a in found] == [bundle.manifest.classes[number] for number in wanted]
