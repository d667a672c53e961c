"""Whole scenes: rasters in, a class map with scores out, in bounded memory.

The scene is cut into overlapping patches, the model streams through them, and what its task wants
blended (probabilities and further score layers) is averaged per pixel. Only a few rows of pixels
are in memory at any time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from ..contracts.arguments import require_path, whole_number
from ..contracts.manifest import Manifest
from ..contracts.types import PathLike, Progress
from ..contracts.values import NODATA, Prediction
from ..errors import EsccsError, InputError
from ..rasters.products.prepared import any_product, as_rasters
from ..rasters.reader import SamplePaths, given_paths, open_scene
from .finished_rows import finished_rows
from .map_writer import require_free_target
from .scene_run import PatchModel, RawPatch, write_map
from .summary import SceneSummary
from .tiling import Tiling


class PatchClassifier(Protocol):
    """What `classify_scene` needs of `esccs_edge.Classifier`."""

    @property
    def manifest(self) -> Manifest:
        """Contract of the model."""

    def stream(self, pairs: Iterable[tuple[Any, Any]]) -> Iterator[Prediction | EsccsError]:
        """Classify pairs in order, copying what it keeps; a refused one yields its error."""


def classify_scene(
    classifier: PatchClassifier,
    optical_path: PathLike | None,
    sar_path: PathLike | None,
    out_path: PathLike,
    *,
    stride: int | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    progress: Progress | None = None,
) -> SceneSummary:
    """Classify a scene into a Cloud Optimized GeoTIFF of classes, with scores beside it.

    Args:
        classifier: The model; see `PatchClassifier`.
        optical_path: GeoTIFF with the model's bands, a product, or None.
        sar_path: GeoTIFF on the same grid with the model's polarizations, a product, or None.
        out_path: Class map to write, ``map.tif``; the scores become ``map.scores.tif``.
        stride: Pixels from one patch to the next, at most the patch size; half of it by default.
        overwrite: Replace existing files.
        resume: As for `map_scene`.
        progress: Called with (patches done, patches in all).

    Raises:
        EsccsError: As `map_scene`.
    """
    return map_scene(
        _PairModel(classifier),
        {"optical": optical_path, "sar": sar_path},
        out_path,
        stride=stride,
        overwrite=overwrite,
        resume=resume,
        progress=progress,
    )


def map_scene(
    model: PatchModel,
    paths: SamplePaths,
    out_path: PathLike,
    *,
    stride: int | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    progress: Progress | None = None,
) -> SceneSummary:
    """Map a scene with a model of any task; the map is a Cloud Optimized GeoTIFF of classes.

    Args:
        model: The model.
        paths: Modality name -> GeoTIFF with the model's channels, all on one grid; or products,
            which are brought to one grid first (`esccs_edge.rasters.products`).
        out_path: Class map to write, ``map.tif``; the scores become ``map.scores.tif``. Their
            formats stand at `esccs_edge.scenes.map_writer.open_map`.
        stride: Pixels from one patch to the next, at most the patch size; half of it by default.
        overwrite: Replace existing files.
        resume: Keep finished rows in a hidden folder beside the map, and go on from those that an
            earlier run left there with the same rasters, model, stride and this text, which says
            how the model runs (``"cpu int8"``). The files become those of a run without a stop.
        progress: Called with (patches done, patches in all).

    A pixel has no answer where no modality is valid there, or where the model refused every patch
    around it. A scene smaller than a patch is padded with absent pixels.

    Raises:
        InputError: No input, a wrong stride, a model that cannot map, an output that is also an
            input, or every patch was refused (then the first refusal is raised).
        RasterError: An input cannot be read or two do not match; the output exists or cannot be
            written. Files of these names are then what they were before.
        EsccsError: The model failed.
    """
    for name, path in {**paths, "out_path": out_path}.items():
        if path is not None or name == "out_path":
            require_path(name, path)
    started_s = time.perf_counter()
    manifest = model.manifest
    if manifest.sample.dates is not None:
        raise InputError(
            f"the model reads series of {manifest.sample.dates} dates, expected one of a single "
            "date",
            hint="Map a folder of dated rasters: esccs-edge map FOLDER OUT",
        )
    stride = checked_stride(stride, manifest)
    if resume is not None:
        require_lasting(paths)
    sources = list(given_paths(paths, manifest.modalities).values())
    require_free_target(out_path, sources, overwrite=overwrite)
    with (
        as_rasters(paths, manifest, out_path) as prepared,
        open_scene(prepared.paths, manifest.modalities, manifest.sample.pixel_size_m) as scene,
        ExitStack() as stack,
    ):
        grid = scene.grid
        tiling = Tiling.of(grid.height, grid.width, manifest.sample.height, stride)
        rows = None
        if resume is not None:
            parts = [manifest.to_json(), tiling.rows, tiling.columns, resume]
            given = given_paths(paths, manifest.modalities)
            rows = stack.enter_context(finished_rows(out_path, given, parts))
        return write_map(
            model, scene, tiling, out_path,
            rows=rows, overwrite=overwrite, progress=progress, started_s=started_s,
        )  # fmt: skip


def require_lasting(paths: SamplePaths) -> None:
    """Refuse inputs of which a later run cannot know whether they are the same.

    Raises:
        InputError: An input is a product, which every run brings to its grid anew.
    """
    if any_product(paths):
        raise InputError(
            "products are brought to one grid anew by every run, so that it cannot go on",
            hint="Stack them first: esccs-edge stack OPTICAL SAR --out pair",
        )


class _PairModel:
    """A classifier of pairs as a model of named modalities."""

    def __init__(self, classifier: PatchClassifier) -> None:
        self.manifest = classifier.manifest
        self._classifier = classifier
        if hasattr(classifier, "classify_batch"):
            self.run_batch = self._run_batch

    def _run_batch(self, samples: Sequence[RawPatch]) -> list[Prediction | EsccsError]:
        opticals, sars = ([sample[name] for sample in samples] for name in ("optical", "sar"))
        found: list[Prediction | EsccsError] = self._classifier.classify_batch(opticals, sars)  # type: ignore[attr-defined]
        return found

    def stream(self, samples: Iterable[RawPatch]) -> Iterator[Prediction | EsccsError]:
        return self._classifier.stream((patch["optical"], patch["sar"]) for patch in samples)


def checked_stride(stride: int | None, manifest: Manifest) -> int:
    """Return the stride; refuses models whose answers no map can hold.

    Raises:
        InputError: The samples are not square, the classes too many, or the stride too large.
    """
    sample = manifest.sample
    if len(manifest.classes) > NODATA:
        raise InputError(f"the model has {len(manifest.classes)} classes, a map holds {NODATA}")
    if sample.height != sample.width:
        raise InputError(
            f"the model reads samples of {sample.height} x {sample.width} pixels, expected square "
            "ones",
            hint="Only such models can map a scene",
        )
    if stride is None:
        return max(sample.height // 2, 1)
    return whole_number("stride", stride, 1, sample.height)
