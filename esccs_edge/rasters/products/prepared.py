"""Whatever a user names -> rasters that the reader takes, for as long as a map is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ...contracts.manifest import Manifest
from ...contracts.types import PathLike, Progress
from ...system.working_folder import working_folder
from ..reader import SamplePaths, given_paths
from .opener import is_product
from .product import NOTHING_STATED, Stating


class Prepared(NamedTuple):
    """Inputs that the reader takes.

    Attributes:
        paths: Modality name -> raster, all on one grid or refused when read.
        notes: What was taken for granted or left out on the way, by modality.
    """

    paths: SamplePaths
    notes: tuple[str, ...] = ()


def any_product(paths: SamplePaths) -> bool:
    """Return whether any of the inputs is not simply a raster."""
    return any(path is not None and is_product(path) for path in paths.values())


@contextmanager
def as_rasters(
    paths: SamplePaths,
    manifest: Manifest,
    beside: PathLike,
    *,
    stating: Stating = NOTHING_STATED,
    progress: Progress | None = None,
) -> Iterator[Prepared]:
    """Yield the inputs as rasters on one grid.

    Rasters are yielded as they are and are never resampled. Where any input is a product, all are
    stacked into a hidden folder that is gone afterwards.

    Args:
        paths: Modality name -> raster or product.
        manifest: Contract of the model.
        beside: The folder is made beside this file, whose disk has room for it.
        stating: What the user says of inputs without metadata.
        progress: Called with (windows done, windows in all).

    Raises:
        InputError: No input, or of an unknown modality.
        RasterError: As `esccs_edge.rasters.products.stacking.stack_products`.
    """
    if not any_product(given_paths(paths, manifest.modalities)):
        yield Prepared(paths)
        return
    from .stacking import stack_products

    target = Path(beside)
    with working_folder(target.with_name(f"{target.stem}-pair")) as folder:
        made = stack_products(paths, manifest, folder, stating=stating, progress=progress)
        notes = [f"{name}: {note}" for name, p in made.products.items() for note in p.notes]
        if made.days_apart is not None:
            notes.append(f"the images are {made.days_apart:.1f} days apart")
        yield Prepared(dict(made.paths), tuple(notes))
