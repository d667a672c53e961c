"""Series segmentation, learned from the labels of pixels: the 3-D FCN, or U-TAE."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esccs_edge.contracts.familiarity import Familiarity
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError, ManifestError

from ...datasets.series import SeriesDataset
from ...options import RunOptions
from ...series_options import FcnOptions, SeriesSegmentationOptions

if TYPE_CHECKING:
    from ...datasets.stored_samples import StoredSample
    from ...stages.series.segmentation_run import SegmentationNetworks, SegmentationRun
    from ..series.fcn3d import Fcn3d
    from ..series.utae import Utae


class SeriesSegmentationLearning:
    """One class per pixel of an image series."""

    name = "series-segmentation"
    options_class: type[RunOptions] = SeriesSegmentationOptions
    data_class: type[Any] = SeriesDataset

    def open_data(self, options: SeriesSegmentationOptions) -> SeriesDataset:
        """Open series of images."""
        from ...datasets.series_kinds import open_image_series

        return open_image_series(options.data, options.series, options.seed)

    def open(
        self, options: SeriesSegmentationOptions, dataset: SeriesDataset, folder: Path
    ) -> SegmentationRun:
        """Measure the sensor."""
        from ...stages.series.segmentation_run import SegmentationRun

        return SegmentationRun.open(options, dataset, folder)

    def train(self, run: SegmentationRun) -> SegmentationNetworks:
        """Train the one network."""
        from ...stages.series.segmentation_run import SegmentationNetworks

        return SegmentationNetworks(run.train_student())

    def judge(
        self, run: SegmentationRun, networks: SegmentationNetworks
    ) -> tuple[dict[str, Any], float]:
        """Count the test pixels at every missing rate."""
        from ...judging.series_maps import judge_maps

        return judge_maps(run, networks.student)

    def familiarity(
        self, run: SegmentationRun, networks: SegmentationNetworks
    ) -> Mapping[str, Familiarity]:
        """Answer no distances."""
        return {}

    def held_out(self, run: SegmentationRun) -> Iterator[StoredSample]:
        """Yield validation and test series."""
        from ...judging.series_maps import held_out_maps

        return held_out_maps(run)

    def simulated(self, run: SegmentationRun) -> Mapping[str, str]:
        """Return what is simulated."""
        found = {"dates": "dates are masked at random where a missing rate above 0 is judged"}
        if run.dataset.simulated:
            found["series"] = f"{', '.join(run.dataset.simulated)} of {run.dataset.name}"
        return found

    def architecture(self, options: SeriesSegmentationOptions) -> Mapping[str, Any]:
        """Return the backbone, and the sizes of the 3-D FCN."""
        if options.backbone == "utae":
            return {"backbone": "utae"}
        return {name: list(v) for name, v in dataclasses.asdict(options.network).items()}

    def network(self, manifest: Manifest) -> Fcn3d | Utae:
        """Return the network that the manifest states."""
        from ..series.backbones import backbone

        sizes = None
        try:
            if manifest.architecture != {"backbone": "utae"}:
                parts = {name: tuple(sizes) for name, sizes in manifest.architecture.items()}
                sizes = FcnOptions(**parts)
        except (TypeError, InputError) as error:
            raise ManifestError(
                f"manifest architecture is {dict(manifest.architecture)!r}, expected widths and "
                "decoder, four channel counts each, or the backbone 'utae'",
                hint="Export a bundle that `esccs-edge train` wrote",
            ) from error
        ((_, spec),) = manifest.modalities.items()
        return backbone(len(spec.channels), manifest.sample, len(manifest.classes), sizes)
