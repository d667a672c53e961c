"""Series classification, learned by Joint-FRP: a teacher on complete series, a masked student.

What needs torch is imported where it is used, since options are checked before torch is loaded, and
since export rebuilds a network without the stages.
"""

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
from ...series_options import PixelSeriesOptions, SeriesClassificationOptions

if TYPE_CHECKING:
    from ...datasets.stored_samples import StoredSample
    from ...stages.series.classification_run import SeriesNetworks, SeriesRun
    from ..series.pixel_series import PixelSeriesNet


class SeriesClassificationLearning:
    """One class per pixel series."""

    name = "series-classification"
    options_class: type[RunOptions] = SeriesClassificationOptions
    data_class: type[Any] = SeriesDataset

    def open_data(self, options: SeriesClassificationOptions) -> SeriesDataset:
        """Open series of pixels."""
        from ...datasets.series_kinds import open_series

        return open_series(options.data, options.series, options.seed)

    def open(
        self, options: SeriesClassificationOptions, dataset: SeriesDataset, folder: Path
    ) -> SeriesRun:
        """Measure the sensors."""
        from ...stages.series.classification_run import SeriesRun

        return SeriesRun.open(options, dataset, folder)

    def train(self, run: SeriesRun) -> SeriesNetworks:
        """Train teacher, student, and the baselines that are asked for."""
        from ...stages.series.classification_run import SeriesNetworks

        teacher = run.train_teacher()
        student = run.train_student(teacher, run.options.student, "student")
        return SeriesNetworks(teacher, student, run.train_rows(teacher))

    def judge(self, run: SeriesRun, networks: SeriesNetworks) -> tuple[dict[str, Any], float]:
        """Judge all networks on the test places at every missing rate."""
        from ...judging.series_judge import judge_run

        return judge_run(run, networks)

    def familiarity(self, run: SeriesRun, networks: SeriesNetworks) -> Mapping[str, Familiarity]:
        """Answer no distances."""
        return {}

    def held_out(self, run: SeriesRun) -> Iterator[StoredSample]:
        """Yield validation and test series, whole and with masked dates."""
        from ...judging.series_judge import held_out_series

        return held_out_series(run)

    def simulated(self, run: SeriesRun) -> Mapping[str, str]:
        """Return what is simulated."""
        found = {
            "dates": "dates are masked at random while the student learns, and where a missing "
            "rate above 0 is judged; at rate 0 all gaps are those of the data"
        }
        if run.dataset.simulated:
            found["series"] = f"{', '.join(run.dataset.simulated)} of {run.dataset.name}"
        return found

    def architecture(self, options: SeriesClassificationOptions) -> Mapping[str, Any]:
        """Return the sizes of the student."""
        student = options.student
        return {
            **dataclasses.asdict(options.network),
            "reconstruct": student.reconstruct,
            "couple": student.couple,
        }

    def network(self, manifest: Manifest) -> PixelSeriesNet:
        """Return the student that the manifest states."""
        from ..series.pixel_series import PixelSeriesNet

        sizes = dict(manifest.architecture)
        try:
            reconstruct, couple = sizes.pop("reconstruct"), sizes.pop("couple")
            options = PixelSeriesOptions(**sizes)
        except (KeyError, TypeError, InputError) as error:
            names = [field.name for field in dataclasses.fields(PixelSeriesOptions)]
            raise ManifestError(
                f"manifest architecture is {dict(manifest.architecture)!r}, expected "
                f"{', '.join(names)}, reconstruct, couple",
                hint="Export a bundle that `esccs-edge train` wrote",
            ) from error
        channels = [len(spec.channels) for spec in manifest.modalities.values()]
        assert manifest.sample.dates is not None  # the task has checked it
        return PixelSeriesNet(
            channels, manifest.sample.dates, len(manifest.classes), options,
            reconstruct=reconstruct, couple=couple,
        )  # fmt: skip
