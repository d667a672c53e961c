"""Scene classification, learned by ESCCS: teacher, two auxiliaries, student.

Optical and SAR patch, one class each; clouds are laid over the optical images. What needs torch
is imported where it is used, since options are checked before torch is loaded, and since export
rebuilds a network without the stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esccs_edge.contracts.familiarity import Familiarity
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError, ManifestError

from ...datasets.dataset import PairDataset
from ...options import RunOptions
from ...scene_options import EncoderOptions, TrainOptions

if TYPE_CHECKING:
    from ...datasets import PairDataset
    from ...datasets.stored_samples import StoredSample
    from ...stages.scene_classification.run import Networks, SceneRun
    from ..networks import StudentNet
    from ..own_teacher import Teacher


class SceneClassificationLearning:
    """One class per optical + SAR pair."""

    name = "scene-classification"
    options_class: type[RunOptions] = TrainOptions
    data_class: type[Any] = PairDataset

    def open_data(self, options: TrainOptions) -> PairDataset:
        """Open labeled pairs."""
        from ...datasets import open_dataset

        return open_dataset(options.data, options.seed, pixel_size_m=options.pixel_size_m)

    def open(
        self, options: TrainOptions, dataset: PairDataset, folder: Path,
        teacher: Teacher | None = None,
    ) -> SceneRun:  # fmt: skip
        """Measure both modalities."""
        from ...judging.fold_report import read_report
        from ...stages.scene_classification.run import SceneRun

        if options.cross_validation:
            read_report(options.cross_validation)  # refused here rather than after the training
        return SceneRun.open(options, dataset, folder, teacher)

    def train(self, run: SceneRun) -> Networks:
        """Train the four stages of ESCCS."""
        from ...stages.scene_classification.run import Networks

        teacher = run.train_teacher()
        supervision = run.supervise(teacher)  # its answers under clouds, and which may teach
        sar = run.train_sar_auxiliary(supervision)
        optical = run.train_optical_auxiliary(supervision, sar)
        student = run.train_student(supervision, sar, optical)
        return Networks(supervision, sar, optical, student)

    def judge(self, run: SceneRun, networks: Networks) -> tuple[dict[str, Any], float]:
        """Judge all networks by cloud cover."""
        from ...judging.network_scores import score_networks

        return score_networks(run, networks)

    def familiarity(self, run: SceneRun, networks: Networks) -> Mapping[str, Familiarity]:
        """Fit the distances of both modalities on the training pairs."""
        from ...judging.familiarity import fit_distances

        return fit_distances(run, networks.student)

    def held_out(self, run: SceneRun) -> Iterator[StoredSample]:
        """Yield the labeled validation and test pairs under clouds."""
        from ...judging.held_out_pairs import held_out_pairs

        return held_out_pairs(run)

    def simulated(self, run: SceneRun) -> Mapping[str, str]:
        """Return what is simulated: SAR where the data have none, and clouds."""
        from ...stages.scene_classification.run import taught_sar

        clouds, found = run.options.clouds, {}
        of_what = "" if run.real is None else f" of {run.dataset.name}"
        if not run.dataset.sar_channels:
            taught = taught_sar(run.options) == "from class"
            found["sar"] = (
                f"all SAR patches{of_what} are simulated, from the clear optical patch"
                + " and, where they teach, its class" * taught
                + "; where they judge or calibrate, from the patch alone"
            )
        if clouds.simulate:
            found["clouds"] = f"all clouds{of_what} are simulated"
            if clouds.textures:
                found["clouds"] += ", half of them with shapes and spectra of real clouds"
        return found

    def architecture(self, options: TrainOptions) -> Mapping[str, Any]:
        """Return the sizes of both branches."""
        parts = {"optical": options.student.optical, "sar": options.student.sar}
        return {
            name: {**dataclasses.asdict(part), "blocks": list(part.blocks)}
            for name, part in parts.items()
        }

    def network(self, manifest: Manifest) -> StudentNet:
        """Return the student with the branches that the manifest states.

        Raises:
            ManifestError: The architecture is not one of this task, or names an encoder of another
                package that nobody trusts; see `factories.trust_encoder`.
        """
        from ..factories import require_trusted
        from ..networks import StudentNet

        encoders = _encoders(manifest.architecture)
        require_trusted(part.encoder for part in encoders.values())
        optical, sar = (len(spec.channels) for spec in manifest.modalities.values())
        student = StudentNet(
            optical, sar, len(manifest.classes), encoders["optical"], encoders["sar"]
        )
        if manifest.familiarity:
            student.add_distances()
        return student


def _encoders(architecture: Mapping[str, Any]) -> dict[str, EncoderOptions]:
    try:
        parts = {name: architecture[name] for name in ("optical", "sar")}
        return {
            name: EncoderOptions(**{**part, "blocks": tuple(part["blocks"])})
            for name, part in parts.items()
        }
    except (KeyError, TypeError, InputError) as error:
        raise ManifestError(
            f"manifest architecture is {dict(architecture)!r}, expected "
            "{'optical': {'width', 'blocks', 'stem_stride', 'block', 'encoder'}, 'sar': {...}}",
            hint="Export a bundle that `esccs-edge train` wrote",
        ) from error
