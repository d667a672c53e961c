"""How good a finished segmentation bundle is on held-out maps, through the public runtime.

Overall and by cloud cover, of all, clear and cloudy pixels. Images are read in windows of the
model's size, each pixel of a label map in one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.types import Array
from esccs_edge.contracts.values import NODATA
from esccs_edge.errors import InputError

from ..datasets.map_dataset import IGNORED, MapDataset, MapSample, repeated
from ..samples.map_samples import DegradedMap, DegradedMaps, MapDegradation
from .evaluate import Modality, channel_order
from .map_metrics import PixelCounts

if TYPE_CHECKING:
    from esccs_edge.runtime.model import ModelRuntime

CHUNK = 32


def evaluate_maps(
    model: ModelRuntime[Any],
    manifest: Manifest,
    dataset: MapDataset,
    *,
    clouds_seeds: Sequence[int] = (),
    split: str = "test",
    only: Modality | None = None,
    named: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Judge a model of semantic segmentation.

    Args:
        model: Ready to answer.
        manifest: Its contract.
        dataset: Images with label maps.
        clouds_seeds: Simulate clouds from these seeds, each window once per seed and cloud bin;
            none takes the images as they are, with their cloud masks where they have some.
        split: Which samples.
        only: Show the model one modality and hold the other back.
        named: What each class of the model is called in the data, where the data name them
            otherwise; several may be one. Pixels of other classes of the data do not count.
        on_progress: Called with the number of windows that are judged and of all.

    Returns:
        ``{"overall": ..., "by_cloud": ..., "simulated": [...]}``; see `PixelCounts.report`.
        A pixel without an answer is wrong and counted in ``failed``.

    Raises:
        InputError: No sample in the split, classes or channels that the model lacks, ``named``
            does not name each class once, or images smaller than the window of the model.
    """
    classes = _shared_classes(dataset, manifest, named)
    order = {
        name: channel_order(found, manifest.modalities[name].channels, name)
        for name, found in (
            ("optical", dataset.optical_channels), ("sar", dataset.sar_channels)
        )
    }  # fmt: skip
    parts = _parts(dataset, manifest, split, clouds_seeds)
    total, done = sum(map(len, parts)), 0
    counts = PixelCounts(len(classes.names))
    shown = (maps.get(position) for maps in parts for position in range(len(maps)))
    while chunk := list(islice(shown, CHUNK)):
        answers = model.run_batch([_images(found.sample, order, only) for found in chunk])
        for found, answer in zip(chunk, answers, strict=True):
            _count(counts, found, answer, classes, dataset, simulated=bool(clouds_seeds))
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, total)
    simulated = [name for name in dataset.simulated if only in (None, name) or name == "clouds"]
    if clouds_seeds and only != "sar" and "clouds" not in simulated:
        simulated.append("clouds")
    return {**counts.report(classes.names), "simulated": simulated}


def _parts(
    dataset: MapDataset, manifest: Manifest, split: str, clouds_seeds: Sequence[int]
) -> list[DegradedMaps]:
    crop = manifest.sample.height
    if not clouds_seeds:
        mask: Any = "files" if dataset.has_cloud_masks else "simulator"
        return [DegradedMaps(dataset, split, MapDegradation(cover=None, mask=mask), crop)]
    return [
        DegradedMaps(dataset, split, MapDegradation(cover=bin_range(position)), crop, seed)
        for seed in clouds_seeds
        for position in range(len(CLOUD_BINS))
    ]


def _count(
    counts: PixelCounts, found: DegradedMap, answer: Any, classes: _Classes, dataset: MapDataset,
    *, simulated: bool,
) -> None:  # fmt: skip
    sample = found.sample
    target = classes.of_data[sample.target]
    label = getattr(answer, "label", None)  # an error has none
    failed = np.full(sample.size, NODATA, np.uint8)
    answered = repeated(failed if label is None else classes.of_model[label], target.shape)
    if simulated or dataset.has_cloud_masks:
        assert sample.cloud is not None
        counts.add(target, answered, repeated(sample.cloud, target.shape), found.cover)
        return
    recorded: Sequence[float | None] = getattr(dataset, "covers", ())
    counts.add(target, answered, None, recorded[found.index] if recorded else None)


def _images(
    sample: MapSample, order: dict[str, list[int] | None], only: Modality | None
) -> dict[str, Array | None]:
    images = {"optical": sample.optical, "sar": sample.sar}
    for name, wanted in order.items():
        pixels = images[name]
        if only not in (None, name):
            images[name] = None
        elif pixels is not None:
            picked = pixels if wanted is None else pixels[wanted]
            images[name] = np.ascontiguousarray(picked)
    return images


@dataclass(frozen=True)
class _Classes:
    """The classes that are judged.

    Attributes:
        names: In order.
        of_data: Their number for each number of the data set, `IGNORED` for others, ``(256,)``.
        of_model: Their number for each number that the model answers, `NODATA` for none.
    """

    names: tuple[str, ...]
    of_data: Array
    of_model: Array


def _shared_classes(
    dataset: MapDataset, manifest: Manifest, named: Mapping[str, str] | None
) -> _Classes:
    if not named:
        named = {name: name for name in manifest.classes}
        if unknown := sorted(set(dataset.classes) - set(manifest.classes)):
            raise InputError(
                f"{dataset.name} has classes {unknown} that the model does not know, expected "
                f"among {list(manifest.classes)}",
                hint="Say what each class of the model is called there: --same Forest=trees",
            )
    elif set(named) != set(manifest.classes):
        raise InputError(
            f"names are given for {sorted(named)}, expected for each of {list(manifest.classes)}"
        )
    elif strange := sorted(set(named.values()) - set(dataset.classes)):
        raise InputError(
            f"{dataset.name} has no classes {strange}, expected among {list(dataset.classes)}"
        )
    names = tuple(dict.fromkeys(named[name] for name in manifest.classes))
    of_data, of_model = np.full(256, IGNORED, np.uint8), np.full(256, NODATA, np.uint8)
    for number, name in enumerate(dataset.classes):
        if name in names:
            of_data[number] = names.index(name)
    for number, name in enumerate(manifest.classes):
        of_model[number] = names.index(named[name])
    return _Classes(names, of_data, of_model)
