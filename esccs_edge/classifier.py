"""The front door of the SDK: raw optical and SAR pixels in, predictions out.

It checks what comes in, wires bundle, backend and pipeline together, and does no arithmetic.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from .any_task import open_model
from .contracts.bundle import Bundle
from .contracts.bundle_files import Precision
from .contracts.stored_units import as_stored
from .contracts.tasks.scene_classification import require_scene_classification
from .contracts.values import Prediction
from .errors import EsccsError, InputError
from .runtime.counters import Stats
from .runtime.model import Health, ModelRuntime

if TYPE_CHECKING:
    from .scenes.summary import SceneSummary


class Classifier:
    """Classifies co-registered optical and SAR patches; either may be absent. Thread-safe.

    Args:
        bundle: Bundle folder, an open `Bundle`, or None for the one in the package.
        backend: ``"cpu"``, ``"tensorrt"`` or ``"auto"``, which picks once, here.
        max_batch: Most pairs in one batch.
        max_delay_ms: Longest wait of `submit` for others in its batch, while another batch is
            under way.
        lanes: Batches that may be on the way at once.
        queue_size: Most requests of `submit` that wait before `Overloaded`.
        threads: CPU threads; None for all.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"auto"``: what is exact and
            fastest on this device. `health` says which it is, and why.
        dn_offset: Added to optical digital numbers instead of the manifest's offset; see
            `esccs_edge.contracts.sensors.sentinel2_dn_offset`.
        sar_unit: ``"dB"``, or ``"linear"`` when SAR pixels are linear sigma0; None is the unit
            that the manifest gives.

    Raises:
        ArtifactError: The bundle or its model file is missing, altered or unsafe.
        ManifestError: The manifest breaks its contract or does not fit the model.
        BackendError: The model does not run here.
        MissingDependencyError: The backend's library is not installed.
        InputError: An argument is out of its range, or the bundle does another task.
    """

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
        dn_offset: float | None = None,
        sar_unit: str | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        require_scene_classification(self.bundle.manifest.task)
        self.manifest = as_stored(self.bundle.manifest, dn_offset=dn_offset, sar_unit=sar_unit)
        self._model: ModelRuntime[Prediction] = open_model(
            self.bundle,
            backend,
            max_batch,
            max_delay_ms,
            lanes=lanes,
            queue_size=queue_size,
            threads=threads,
            precision=precision,
            manifest=self.manifest,
        )

    @property
    def backend_name(self) -> str:
        """``"cpu"`` or ``"tensorrt"``."""
        return self._model.backend.name

    def classify(self, optical: Any, sar: Any) -> Prediction:
        """Classify one pair in the calling thread, with the lowest latency.

        Args:
            optical: ``(C, H, W)`` in the manifest's band order, digital numbers (integer) or
                reflectance (float), or None.
            sar: ``(P, H, W)`` in the manifest's polarization order, float dB (linear sigma0 with
                ``sar_unit="linear"``), or None.

        Raises:
            InputError: Shape, type or values are not what the manifest asks for.
            BackendError: Inference failed twice or gave NaN.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that made the classifier.
        """
        return self._model.run({"optical": optical, "sar": sar})

    def classify_batch(
        self, opticals: Sequence[Any] | None, sars: Sequence[Any] | None
    ) -> list[Prediction | EsccsError]:
        """Classify pairs in the calling thread, in batches of up to ``max_batch``.

        Args:
            opticals: N patches as for `classify` (an ``(N, C, H, W)`` array will do); entries may
                be None, and None in place of the list means that every optical patch is absent.
            sars: The same for SAR.

        Returns:
            N answers in order; the place of a pair that cannot be judged holds its error.

        Raises:
            InputError: The lengths differ, or both lists are None.
        """
        return self._model.run_batch(
            {"optical": optical, "sar": sar} for optical, sar in _zipped(opticals, sars)
        )

    def submit(
        self, optical: Any, sar: Any, *, deadline_ms: float | None = None
    ) -> Future[Prediction]:
        """Queue one pair; requests of all threads share batches.

        The pixels are copied before this returns. See `classify` for arguments and errors of the
        result.

        Args:
            optical: As for `classify`.
            sar: As for `classify`.
            deadline_ms: Latest start of the inference, in milliseconds from now; a request that is
                still queued then ends in `DeadlineExceeded`.

        Raises:
            InputError: Shape or type are not what the manifest asks for.
            Overloaded: The queue is full; the pixels were not looked at, nothing was enqueued.
        """
        return self._model.submit({"optical": optical, "sar": sar}, deadline_ms=deadline_ms)

    def stream(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Prediction | EsccsError]:
        """Classify an iterable of ``(optical, sar)`` in its order, overlapping with its reading.

        Pairs are pulled in the calling thread, a few batches ahead, and copied. The place of a
        pair that cannot be judged holds its error.
        """
        return self._model.stream({"optical": optical, "sar": sar} for optical, sar in pairs)

    async def aclassify(self, optical: Any, sar: Any) -> Prediction:
        """Classify one pair from a coroutine; canceling it frees its place in the queue."""
        import asyncio  # loaded already where there is a loop; elsewhere it would delay the start

        return await asyncio.wrap_future(self.submit(optical, sar))

    def classify_scene(
        self,
        optical_path: str | os.PathLike[str] | None,
        sar_path: str | os.PathLike[str] | None,
        out_path: str | os.PathLike[str],
        *,
        stride: int | None = None,
        overwrite: bool = False,
    ) -> SceneSummary:
        """Classify a whole raster into a map; see `esccs_edge.scenes.mapping.classify_scene`."""
        from .scenes.mapping import classify_scene

        return classify_scene(
            self, optical_path, sar_path, out_path, stride=stride, overwrite=overwrite
        )

    def warmup(self) -> None:
        """Run batches of several sizes on every free lane, so that later calls find all prepared.

        What a lane meets for the first time it has to prepare, which takes many times as long as to
        run it. Call it before the first request, since others find no lane meanwhile. On a GPU it
        prepares for pairs like those of the contract: digital numbers, where it has a scale, and
        SAR.

        Raises:
            BackendError: Inference failed.
            ClosedError: After `close`.
            ForkedProcessError: In a forked child of the process that made the classifier.
        """
        self._model.warmup()

    def health(self) -> Health:
        """Ask the fixed test pair again and compare with the answer given at the start."""
        return self._model.health()

    def stats(self) -> Stats:
        """Return counts, mean batch size and recent latencies."""
        return self._model.stats()

    def close(self) -> None:
        """Answer what is queued, then free the backend. Idempotent."""
        self._model.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> str:
        raise TypeError("a Classifier cannot be pickled; make one in each process from its bundle")


def _zipped(
    opticals: Sequence[Any] | None, sars: Sequence[Any] | None
) -> Iterable[tuple[Any, Any]]:
    if opticals is None and sars is None:
        raise InputError("both lists are None, expected optical or SAR patches")
    count = len(sars) if opticals is None else len(opticals)  # type: ignore[arg-type]
    if sars is not None and len(sars) != count:
        raise InputError(f"there are {count} optical and {len(sars)} SAR patches, expected as many")
    absent = [None] * count
    return zip(
        absent if opticals is None else opticals, absent if sars is None else sars, strict=True
    )
