"""A verified ONNX model -> a serialized TensorRT engine, on any of the supported libraries.

INT8 means explicit Q/DQ, in a strongly typed network unless a library refuses that (see
`engine_builder`); no calibrator class is used anywhere. `build_apart` and `export.to_engine` call
`build_plan`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...contracts.manifest import BatchProfile, Manifest
from ...contracts.onnx_file import require_plain
from ...cuda.probe import probe_driver
from ...errors import ArtifactError, BackendError, InputError
from .library import Flavor, error_log, implement, logger_of, trt_error

#: Called as ``progress(phase, steps_done, steps)``, from the builder's threads.
BuildCallback = Callable[[str, int, int], None]
#: Scratch memory the builder may plan with; a student of a few MB needs far less.
WORKSPACE_BYTES = 1 << 30


@dataclass(frozen=True)
class BuildOptions:
    """What shapes an engine besides its ONNX; part of the cache key.

    Attributes:
        batch: Batch sizes of the one optimization profile.
        target: RTX only. ``"current"`` (this GPU), ``"portable"`` (the library's default set of
            GPUs), or a compute capability such as ``"8.6"``.
        max_aux_streams: Extra streams TensorRT may use, so that branches of the network can
            overlap.
        workspace_bytes: Scratch memory the builder may plan with.
        typing: ``"strong"``: the graph says every type. ``"weak"``, where the library still has it:
            Q/DQ say what is INT8, and all else is float32.
    """

    batch: BatchProfile
    target: str = "current"
    max_aux_streams: int = 1
    workspace_bytes: int = WORKSPACE_BYTES
    typing: str = "strong"


@dataclass(frozen=True)
class BuiltPlan:
    """What a build leaves.

    Attributes:
        plan: The serialized engine.
        timing_cache: To keep for the next build; None for `rtx`, which has none.
        layers: The table of layers that `rtx` logs while it builds; `layers` reads it.
    """

    plan: bytes
    timing_cache: bytes | None
    layers: str = ""


class BuildProgress:
    """TensorRT's build phases -> a callback. What the callback raises stops the build."""

    def __init__(self, progress: BuildCallback) -> None:
        self._progress = progress
        self._steps: dict[str, int] = {}
        self.error: BaseException | None = None

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        """Open a phase."""
        self._steps[phase] = steps
        self._report(phase, 0)

    def step_complete(self, phase: str, step: int) -> bool:
        """Advance a phase; False cancels the build."""
        self._report(phase, step + 1)
        return self.error is None

    def phase_finish(self, phase: str) -> None:
        """Close a phase."""
        self._report(phase, self._steps.get(phase, 0))

    def _report(self, phase: str, done: int) -> None:
        if self.error is not None:
            return
        try:
            self._progress(phase, done, self._steps.get(phase, done))
        except BaseException as error:  # it must not cross C++; build_plan raises it again
            self.error = error


def build_plan(
    flavor: Flavor,
    onnx: bytes,
    manifest: Manifest,
    options: BuildOptions,
    *,
    progress: BuildCallback | None = None,
    timing_cache: bytes | None = None,
) -> BuiltPlan:
    """Compile an ONNX model into a serialized engine.

    Args:
        flavor: Library to build with. ``tensorrt`` needs the GPU; ``rtx`` does not.
        onnx: Model file, verified by the caller.
        manifest: Its input and output names and shapes.
        options: Profile and target.
        progress: Called with the phases of the build; what it raises cancels the build.
        timing_cache: What an earlier build of the same flavor returned; ignored by ``rtx``.

    Raises:
        ArtifactError: The ONNX cannot be parsed, or its tensors are not the manifest's.
        BackendError: No GPU where one is needed, or the builder failed.
        InputError: A target this flavor does not know.
    """
    _require_builder_host(flavor, options)
    require_plain(onnx, "the ONNX model")
    trt = flavor.trt
    logger = logger_of(flavor)
    logger.take_layers()  # of a build that failed
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, options))
    parser = trt.OnnxParser(network, logger)  # owns weights: must outlive the build
    if not parser.parse(onnx):
        raise _parse_error(parser)
    _check_tensors(network, manifest)
    _leave_out_unread(network, manifest)
    config = builder.create_builder_config()
    _configure(flavor, config, options)
    _add_profile(builder, config, manifest, options.batch)
    cache = _attach_timing_cache(flavor, config, timing_cache)
    monitor = None
    if progress is not None:
        monitor = implement(trt.IProgressMonitor, BuildProgress)(progress)
        config.progress_monitor = monitor
    errors = error_log(flavor)
    builder.error_recorder = errors  # not before parsing: RTX 1.7 then crashes freeing the network
    plan = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.error is not None:
        raise monitor.error
    if plan is None:
        raise trt_error("Building the engine", errors)
    timings = None if cache is None else bytes(cache.serialize())
    return BuiltPlan(bytes(plan), timings, logger.take_layers())


def _require_builder_host(flavor: Flavor, options: BuildOptions) -> None:
    problem = probe_driver().problem
    if not problem or flavor.name == "rtx" and options.target != "current":
        return
    raise BackendError(
        f"TensorRT flavor {flavor.name!r} builds for the GPU of this host, but {problem}",
        hint="Build on the target device, or name a target for flavor 'rtx' such as '8.6'",
    )


def can_be_typed_weakly(trt: Any) -> bool:
    """Return whether a library has both ways of typing; from 11 on there is one."""
    flags = trt.NetworkDefinitionCreationFlag
    return hasattr(flags, "STRONGLY_TYPED") and hasattr(trt.BuilderFlag, "INT8")


def _network_flags(trt: Any, options: BuildOptions) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    if options.typing == "weak":
        return 0
    # Gone once every network is strongly typed.
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def _parse_error(parser: Any) -> ArtifactError:
    reasons = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
    return ArtifactError(
        f"TensorRT cannot read the ONNX model: {reasons or 'no reason given'}",
        hint="Export the bundle again with `esccs-edge export`",
    )


def _check_tensors(network: Any, manifest: Manifest) -> None:
    outputs = manifest.outputs | manifest.returned
    for kind, wanted in (("input", manifest.inputs), ("output", outputs)):
        count, get = getattr(network, f"num_{kind}s"), getattr(network, f"get_{kind}")
        tensors = [get(i) for i in range(count)]
        found = {tensor.name: tuple(tensor.shape) for tensor in tensors}
        expected = {name: (-1, *tensor.row) for name, tensor in wanted.items()}
        if found != expected:
            raise ArtifactError(
                f"the ONNX model has {kind}s {found}, the manifest says {expected} (-1: any batch)",
                hint="Export the bundle again with `esccs-edge export`",
            )


def _leave_out_unread(network: Any, manifest: Manifest) -> None:
    """Let the engine write no output that nobody reads."""
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    for tensor in outputs:
        if tensor.name not in manifest.returned:
            network.unmark_output(tensor)


def _configure(flavor: Flavor, config: Any, options: BuildOptions) -> None:
    trt = flavor.trt
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.max_aux_streams = options.max_aux_streams
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for the engine inspector
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32, not ten bits of it
    if options.typing == "weak":  # no FP16 beside it: a gate's floor does not exist there
        config.set_flag(trt.BuilderFlag.INT8)
    if hasattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # RTX: stream capture needs it
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if hasattr(config, "set_compute_capability"):
        _set_target(trt, config, options.target)


def _set_target(trt: Any, config: Any, target: str) -> None:
    if target == "portable":
        return
    name = "CURRENT" if target == "current" else "SM" + target.replace(".", "")
    capability = getattr(trt.ComputeCapability, name, None)
    if capability is None:
        known = sorted(n[2:-1] + "." + n[-1] for n in dir(trt.ComputeCapability) if n[:2] == "SM")
        raise InputError(
            f"RTX target is {target!r}, expected 'current', 'portable' or one of {known}"
        )
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(capability, 0):
        raise BackendError(f"TensorRT for RTX refused the target {target!r}")


def _add_profile(builder: Any, config: Any, manifest: Manifest, batch: BatchProfile) -> None:
    profile = builder.create_optimization_profile()
    for name, tensor in manifest.inputs.items():
        sizes = [(count, *tensor.row) for count in (batch.min, batch.opt, batch.max)]
        profile.set_shape(name, *sizes)
    if config.add_optimization_profile(profile) < 0:
        raise BackendError(f"TensorRT refused the batch profile {batch}")


def _attach_timing_cache(flavor: Flavor, config: Any, content: bytes | None) -> Any:
    if flavor.name == "rtx":  # has no effect there and makes the builder ask for a GPU
        return None
    cache = config.create_timing_cache(content or b"")
    if not config.set_timing_cache(cache, False):  # of another GPU or version: start afresh
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache
