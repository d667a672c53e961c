"""What all front doors share; `Classifier` and `Segmenter` stand on it directly.

It opens a bundle of one task and hands pairs to the model in every way there is. What an answer is,
and what the calls are named, the front doors say.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from .any_task import open_model
from .backends.device_choice import Device, FlavorChoice
from .contracts.bundle import Bundle
from .contracts.bundle_files import Precision
from .contracts.stored_units import as_stored
from .contracts.tasks import require_task
from .errors import EsccsError, InputError, RasterError
from .runtime.counters import Stats
from .runtime.model import Health, ModelRuntime

if TYPE_CHECKING:
    from .scenes.summary import SceneSummary

A = TypeVar("A")
P = TypeVar("P", bound="PairModel[Any]")


class PairModel(Generic[A]):
    """A model of co-registered optical and SAR patches; either may be absent. Thread-safe.

    Args:
        bundle: Bundle folder, name of one in the package (``"default"``, ``"land-cover"``,
            ``"crop-series"``), an open `Bundle`, or None for the one in the package that does the
            task; no `series-segmentation` ships.
        backend: ``"cpu"``, ``"tensorrt"`` or ``"auto"``, which picks once, here.
        max_batch: Most pairs in one batch.
        max_delay_ms: Longest wait of `submit` for others in its batch, in milliseconds, while
            another batch is under way; where none is, a request starts at once.
        lanes: Batches that may be under way at once, on each device.
        queue_size: Most requests of `submit` that wait before `Overloaded`.
        threads: CPU threads; None for all.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"auto"``: what is exact and
            fastest on this device. `health` says which it is, and why.
        device: GPUs to run on: a number as the driver counts them, several such as ``(0, 1)``, or
            ``"all"``; None is what ``ESCCS_DEVICE`` says, or the first. Pixels that already lie on
            a GPU need a model on that GPU alone.
        flavor: TensorRT library, ``"tensorrt"``, ``"rtx"`` or ``"auto"``, which takes the former
            where installed; None is what ``ESCCS_FLAVOR`` says, or ``"auto"``.
        dn_offset: Added to optical digital numbers instead of the manifest's offset; see
            `esccs_edge.contracts.sensors.sentinel2_dn_offset`.
        sar_unit: ``"dB"``, or ``"linear"`` when SAR pixels are linear sigma0; None is the unit
            that the manifest gives.
        digest: SHA-256 that the bundle's ``manifest.json`` must have, kept where whoever writes the
            bundle cannot write; see `Bundle.open`.
        check_every_s: Seconds from one look at the model to the next, in a thread of its own; None
            never looks. Weights that changed in memory are loaded anew, and requests that hang
            in the device fail; see `ModelRuntime`.

    Raises:
        ArtifactError: The bundle or its model file is missing, altered or unsafe.
        ManifestError: The manifest breaks its contract or does not fit the model.
        BackendError: The model does not run here.
        MissingDependencyError: The backend's library is not installed.
        InputError: An argument is out of its range, or the bundle does another task.
    """

    #: Name of the task that the bundle must do.
    task: ClassVar[str]
    #: The bundle in the package that is taken where none is given; None where none does the task.
    shipped: ClassVar[str | None] = None

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        backend: str = "auto",
        max_batch: int = 32,
        max_delay_ms: float = 2.0,
        *,
        lanes: int = 2,
        queue_size: int = 256,
        threads: int | None = None,
        precision: Precision = "auto",
        device: Device = None,
        flavor: FlavorChoice | None = None,
        dn_offset: float | None = None,
        sar_unit: str | None = None,
        digest: str | None = None,
        check_every_s: float | None = None,
    ) -> None:
        self.bundle = Bundle.opened(self._shipped() if bundle is None else bundle, digest)
        require_task(self.bundle.manifest.task, self.task)
        self.manifest = as_stored(self.bundle.manifest, dn_offset=dn_offset, sar_unit=sar_unit)
        self._precision = precision
        self._model: ModelRuntime[A] = open_model(
            self.bundle,
            backend,
            max_batch,
            max_delay_ms,
            lanes=lanes,
            queue_size=queue_size,
            threads=threads,
            precision=precision,
            device=device,
            flavor=flavor,
            manifest=self.manifest,
            check_every_s=check_every_s,
        )

    @property
    def backend_name(self) -> str:
        """``"cpu"`` or ``"tensorrt"``: what ``backend`` came to; `health` says why."""
        return self._model.backend.name

    def submit(self, optical: Any, sar: Any, *, deadline_ms: float | None = None) -> Future[A]:
        """Queue one pair; requests of all threads share batches.

        The pixels are copied before this returns; those on a GPU are not, and must stay as they
        are until the answer is there. ``result()`` of the future gives the answer, or raises what
        the call that answers one pair would raise.

        Args:
            optical: ``(C, H, W)`` in the manifest's band order, digital numbers (integer) or
                reflectance (float), or None.
            sar: ``(P, H, W)`` in the manifest's polarization order, float dB (linear sigma0 with
                ``sar_unit="linear"``), or None.
            deadline_ms: Latest start of the inference, in milliseconds from now; a request that is
                still queued then ends in `DeadlineExceeded`.

        Raises:
            InputError: Shape or type are not what the manifest asks for.
            Overloaded: The queue is full; the pixels were not looked at, nothing was enqueued.
        """
        return self._model.submit({"optical": optical, "sar": sar}, deadline_ms=deadline_ms)

    def stream(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[A | EsccsError]:
        """Answer an iterable of ``(optical, sar)`` in its order, overlapping with its reading.

        Pairs are pulled in the calling thread, a few batches ahead, and copied. The place of a
        pair that cannot be judged holds its error. Where the queue of `submit` is full it waits, so
        nothing is `Overloaded`.

        Raises:
            InputError: ``pairs`` is no iterable.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that opened the model.
        """
        return self._model.stream(map(_pair, iterable_of("pairs", pairs)))

    def warmup(self) -> None:
        """Run batches of several sizes on every free lane, so that later calls find all prepared.

        What a lane meets for the first time it has to prepare, which takes many times as long as to
        run it. Call it before the first request, since others find no lane meanwhile. On a GPU it
        prepares for pairs like those of the contract: digital numbers, where it has a scale, and
        SAR.

        Raises:
            BackendError: Inference failed.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that opened the model.
        """
        self._model.warmup()

    def health(self) -> Health:
        """Ask the fixed test pair again and compare with the answer given at the start.

        Takes as long as one request, at most twenty seconds; from a coroutine call it by
        `asyncio.to_thread`. A full queue is a problem too.

        Raises:
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that opened the model.
        """
        return self._model.health()

    def stats(self) -> Stats:
        """Return counts, mean batch size and latencies of the last 2,048 calls and requests."""
        return self._model.stats()

    def close(self) -> None:
        """Answer what is queued, then free the backend. Idempotent."""
        self._model.close()

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        manifest, description = self.manifest, self._model.backend.describe()
        arithmetic = description.get("precision") or "own precision"
        where = f"{self.backend_name} in {arithmetic}"
        classes = f"{len(manifest.classes)} classes"
        return f"<{type(self).__name__} of {manifest.name}, {classes}, on {where}>"

    def __reduce__(self) -> str:
        name = type(self).__name__
        raise TypeError(f"a {name} cannot be pickled; make one in each process from its bundle")

    def _run(self, optical: Any, sar: Any) -> A:
        return self._model.run({"optical": optical, "sar": sar})

    def _run_batch(
        self, opticals: Sequence[Any] | None, sars: Sequence[Any] | None
    ) -> list[A | EsccsError]:
        return self._model.run_batch(
            {"optical": optical, "sar": sar} for optical, sar in _zipped(opticals, sars)
        )

    async def _arun(self, optical: Any, sar: Any, deadline_ms: float | None) -> A:
        import asyncio  # loaded already where there is a loop; elsewhere it would delay the start

        return await asyncio.wrap_future(self.submit(optical, sar, deadline_ms=deadline_ms))

    def _shipped(self) -> str:
        if self.shipped is None:
            raise InputError(
                f"no bundle is given and none in the package does {self.task!r}, expected a folder",
                hint="Train one: esccs-edge train --task " + self.task,
            )
        return self.shipped

    def _map(
        self,
        optical_path: str | os.PathLike[str] | None,
        sar_path: str | os.PathLike[str] | None,
        out_path: str | os.PathLike[str],
        *,
        stride: int | None,
        overwrite: bool,
        resume: bool,
    ) -> SceneSummary:
        try:
            from .scenes.mapping import map_scene
        except OSError as error:  # a process without a file left to read a module from
            raise RasterError(
                f"what maps scenes cannot be loaded: {error.strerror}",
                hint="Close files, or allow this process more of them (ulimit -n)",
            ) from error
        return map_scene(
            self._model,
            {"optical": optical_path, "sar": sar_path},
            out_path,
            stride=stride,
            overwrite=overwrite,
            resume=f"{self.backend_name} {self._precision}" if resume else None,
        )


def iterable_of(name: str, given: Any) -> Iterable[Any]:
    """Return what is to be streamed, or refuse it.

    Raises:
        InputError: It is no iterable.
    """
    if not isinstance(given, Iterable):
        raise InputError(f"{name} is a {type(given).__name__}, expected an iterable of tuples")
    return given


def _pair(given: Any) -> dict[str, Any] | EsccsError:
    """Return the sample that a pair is, or the error to stand in its place."""
    try:
        optical, sar = given
    except (TypeError, ValueError):
        kind = type(given).__name__
        return InputError(f"one of the pairs is of type {kind}, expected (optical, sar)")
    return {"optical": optical, "sar": sar}


def _zipped(
    opticals: Sequence[Any] | None, sars: Sequence[Any] | None
) -> Iterable[tuple[Any, Any]]:
    if opticals is None and sars is None:
        raise InputError("both lists are None, expected optical or SAR patches")
    for name, patches in (("opticals", opticals), ("sars", sars)):
        if patches is not None and not hasattr(patches, "__len__"):
            raise InputError(
                f"{name} is a {type(patches).__name__}, expected a sequence of patches",
                hint="`stream` takes iterators; list() makes a sequence of one",
            )
    count = len(sars) if opticals is None else len(opticals)  # type: ignore[arg-type]
    if sars is not None and len(sars) != count:
        raise InputError(
            f"there are {count} optical and {len(sars)} SAR patches, expected as many",
            hint="A batch of one pair is [optical], [sar]",
        )
    absent = [None] * count
    return zip(
        absent if opticals is None else opticals, absent if sars is None else sars, strict=True
    )
