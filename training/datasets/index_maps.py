"""An ``index.csv`` with a map of classes per pair as a `MapDataset`: one's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array, Mask
from esccs_edge.errors import InputError
from esccs_edge.rasters.label_map import NO_LABEL, read_label_map
from esccs_edge.rasters.pair_index import PairIndex, read_index
from esccs_edge.rasters.reader import read_sample, require_place_of

from .index import file_channels, reading_spec, require_disjoint
from .map_dataset import IGNORED, MapSample
from .rasters import read_array


class IndexMaps:
    """Pairs with a map of classes each, read when asked for.

    Channels are those of `index.IndexDataset`. Rows without a map are left out.
    """

    contracts: Mapping[str, ModalitySpec] = {}

    def __init__(self, index: PairIndex, manifest: Manifest | None = None) -> None:
        require_disjoint((row.group for row in index.rows), (row.split for row in index.rows))
        self._index = index
        self._numbers = [i for i, row in enumerate(index.rows) if row.target is not None]
        rows = [index.rows[i] for i in self._numbers]
        self.name, self.classes = index.folder.name or "index", index.classes
        self.groups = tuple(row.group for row in rows)
        self.splits = tuple(row.split for row in rows)
        self.covers = tuple(row.cover for row in rows)
        self.simulated = tuple(sorted({name for row in rows for name in row.simulated}))
        self.has_cloud_masks = all(row.cloud_mask is not None for row in rows)
        opticals, sars = (
            [path for row in rows if (path := row.paths[name]) is not None]
            for name in ("optical", "sar")
        )
        self._specs = (
            manifest.modalities
            if manifest is not None
            else {
                "optical": reading_spec(file_channels(opticals, is_sar=False)),
                "sar": reading_spec(file_channels(sars, is_sar=True)),
            }
        )
        self.optical_channels = self._specs["optical"].channels if opticals else ()
        self.sar_channels = self._specs["sar"].channels if sars else ()

    @classmethod
    def open(
        cls, path: str | Path, classes: Sequence[str], manifest: Manifest | None = None
    ) -> IndexMaps:
        """Read an index file.

        Args:
            path: The file.
            classes: Class names in the order of the numbers in the maps.
            manifest: Contract of the model that will read the pairs.

        Raises:
            InputError: The index is malformed, no row has a map, or a group stands in two splits.
            RasterError: The first file of a modality cannot be read.
        """
        index = read_index(path)
        if not any(row.target is not None for row in index.rows):
            raise InputError(
                f"{path} has no map of classes, expected files in a column 'mask'",
                hint="A mask holds the number of the class of each pixel, 255 where none counts",
            )
        return cls(PairIndex(index.folder, tuple(classes), index.rows), manifest)

    def __len__(self) -> int:
        return len(self._numbers)

    def sample(self, index: int) -> MapSample:
        """Read a sample.

        Raises:
            InputError: Its map holds a number beyond the classes.
            RasterError: A file cannot be read.
        """
        number = self._numbers[index]
        row = self._index.rows[number]
        images = self._index.load(number, self._specs)
        labels = self._index.load_target(number)
        assert labels is not None
        target = np.where(labels == NO_LABEL, IGNORED, labels).astype(np.uint8)
        clear: Array | None = None
        if row.clear is not None:
            require_place_of(row.clear, row.image)
            one = {"optical": self._specs["optical"]}
            clear = read_sample({"optical": row.clear}, one)["optical"]
        cloud = None if row.cloud_mask is None else _mask(row.cloud_mask, row.image)
        return MapSample(images["optical"], images["sar"], target, clear, cloud)


def _mask(path: Path, image: Path) -> Mask:
    """Read where cloud is: true, or any number above 0."""
    is_array = path.suffix.lower() == ".npy"
    found = read_array(path) if is_array else read_label_map(path, image)
    return np.asarray(found > 0)
