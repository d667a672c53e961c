"""A fake GPU with TensorRT in place of the real ones, and pairs that ask much of a lane."""

from __future__ import annotations

import numpy as np

from esccs_edge.backends.trt import backend as trt_backend
from esccs_edge.backends.trt import engine_builder
from esccs_edge.backends.trt.build import BuiltPlan
from esccs_edge.backends.trt.library import LoadedEngine, error_log
from esccs_edge.contracts.values import PatchPair
from esccs_edge.cuda.device import Device
from esccs_edge.errors import BackendError, Remedy
from esccs_edge.system.sealed_cache import SealedCache
from support.fake_gpu import FakeDriver, host_kernels
from support.fake_trt import fake_flavor
from support.kernel_parts import assert_stats
from support.tiny import raw_pair, tiny_bundle


class Machine:
    """A fake GPU with TensorRT, put in place of the real ones.

    Its engines answer as the tiny model does, or as the model of ``make_bundle``.
    """

    def __init__(self, monkeypatch, folder, make_bundle=tiny_bundle, *, driver=None, **traits):
        host_kernels()
        self.driver, self.folder = driver or FakeDriver(**traits), folder
        self.serve(make_bundle(folder / "bundle"))
        self.builds, self.loads, self.refuse = 0, [], 0
        self.options, self.unbuildable = [], []  # of every build; those that fail
        patch = monkeypatch.setattr
        opened = classmethod(lambda cls, ordinal=0: Device(self.driver, ordinal))
        patch(trt_backend.Device, "open", opened)
        patch(trt_backend, "pick_flavor", lambda: self.flavor)
        patch(trt_backend, "load_fatbin", lambda: b"fake")
        patch(engine_builder, "build_apart", self._build)
        patch(engine_builder, "load_engine", self._load)

    def serve(self, bundle):
        """Let engines answer as a bundle's model."""
        self.bundle, self.manifest = bundle, bundle.manifest
        onnx = None if bundle.manifest.name == "tiny" else bundle.read(bundle.manifest.model)
        self.flavor = fake_flavor(self.driver, bundle.manifest, onnx=onnx)

    def _build(self, flavor, onnx, manifest, options, *, progress=None, timing_cache=None):
        self.builds += 1
        self.options.append(options)
        if options in self.unbuildable:
            raise BackendError(f"no engine for {options.target}, {options.typing}")
        return BuiltPlan(b"plan %d" % self.builds, b"timings")

    def _load(self, flavor, plan):
        self.loads.append(plan)
        if self.refuse:
            self.refuse -= 1
            raise BackendError("made for compute 8.6, this is 7.5", action=Remedy.REBUILD)
        return LoadedEngine(flavor, flavor.trt.engine, error_log(flavor), None)

    def open(self, max_batch=8, manifest=None, **options):
        cache = SealedCache(self.folder / "engines")
        return trt_backend.TrtBackend(
            self.bundle, manifest or self.manifest, max_batch=max_batch, cache=cache, **options
        )


def awkward_batch(manifest, count=5):
    """Both, one or no modality; nodata, NaN and infinity; three stored types."""
    pairs = []
    for seed in range(count):
        optical, sar = raw_pair(manifest, seed)
        if seed % 5 == 1:
            optical[:, :3] = 0
            sar[0, 4, 4], sar[1, 5, 5] = np.nan, np.inf
        elif seed % 5 == 2:
            optical = (optical * 1e-4).astype(np.float32)
            optical[3, 0, 0] = np.inf
        elif seed % 5 == 3:
            optical = optical.astype(np.int16) - 500
        pairs.append(PatchPair(None if seed % 5 == 4 else optical, None if seed % 5 == 2 else sar))
    return pairs


#: The fake engine differs from OpenVINO by the order of a dot product of 15 float32 numbers.
ENGINE_ATOL = 1e-4


def cpu_answer(bundle_folder, pairs, manifest=None):
    """Answer samples by the CPU backend."""
    from esccs_edge.backends.cpu.backend import CpuBackend
    from esccs_edge.contracts.bundle import Bundle

    bundle = Bundle.open(bundle_folder)
    backend = CpuBackend(
        bundle, manifest or bundle.manifest, max_batch=len(pairs), threads=1, precision="fp32"
    )
    output = backend.open_lane().answer(pairs)
    backend.close()
    return output


def assert_same(found, wanted):
    """Compare two outputs of lanes."""
    assert (
        found.outputs.keys() == wanted.outputs.keys() and found.stats.keys() == wanted.stats.keys()
    )
    for name, values in wanted.outputs.items():
        np.testing.assert_allclose(found.outputs[name], values, atol=ENGINE_ATOL)
    for name, theirs in wanted.stats.items():
        for a, b in zip(found.stats[name], theirs, strict=True):
            assert_stats(a, b)


def host_pairs(manifest, count):
    return [PatchPair(*raw_pair(manifest, seed)) for seed in range(count)]
