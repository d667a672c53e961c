"""Semantic segmentation, learned by CloudSeg and a gate: teacher, then student.

Optical and SAR image, one class per pixel. What needs torch is imported where it is used; see
`scene_classification`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esccs_edge.contracts.familiarity import Familiarity
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.errors import InputError, ManifestError

from ...datasets.map_dataset import MapDataset
from ...options import RunOptions
from ...segmentation_options import PyramidOptions, SegmentationOptions

if TYPE_CHECKING:
    from ...datasets.stored_samples import StoredSample
    from ...stages.semantic_segmentation.run import MapNetworks, MapRun
    from ..cloudseg import CloudSegNet

#: Where the cloud masks of a run come from, in words for the provenance.
MASK_WORDS = {
    "simulator": "cloud masks are those of the simulator",
    "files": "cloud masks are files of the data set",
    "estimate": "cloud masks are estimated from the pixels of the cloudy images",
}


class SemanticSegmentationLearning:
    """One class per pixel of an optical + SAR pair."""

    name = "semantic-segmentation"
    options_class: type[RunOptions] = SegmentationOptions
    data_class: type[Any] = MapDataset

    def open_data(self, options: SegmentationOptions) -> MapDataset:
        """Open images with label maps."""
        from ...datasets.maps import open_map_dataset

        return open_map_dataset(options.data, options.seed, options.classes or ())

    def open(self, options: SegmentationOptions, dataset: MapDataset, folder: Path) -> MapRun:
        """Measure both modalities."""
        from ...stages.semantic_segmentation.run import MapRun

        return MapRun.open(options, dataset, folder)

    def train(self, run: MapRun) -> MapNetworks:
        """Train teacher and student."""
        from ...stages.semantic_segmentation.run import MapNetworks

        teacher = run.train_teacher()
        return MapNetworks(teacher, run.train_student(teacher))

    def judge(self, run: MapRun, networks: MapNetworks) -> tuple[dict[str, Any], float]:
        """Judge both networks by cloud cover."""
        from ...judging.map_judge import score_maps

        return score_maps(run, networks)

    def familiarity(self, run: MapRun, networks: MapNetworks) -> Mapping[str, Familiarity]:
        """Return nothing: the network answers no distances."""
        return {}

    def held_out(self, run: MapRun) -> Iterator[StoredSample]:
        """Yield the held-out windows under clouds."""
        from ...judging.held_out_maps import held_out_windows

        return held_out_windows(run)

    def simulated(self, run: MapRun) -> Mapping[str, str]:
        """Return what is simulated, and where the cloud masks come from."""
        found = {name: f"{name} of {run.dataset.name} is simulated, all of it or a part"
                 for name in run.dataset.simulated}  # fmt: skip
        if run.options.clouds.simulate:
            found["clouds"] = f"all clouds of {run.dataset.name} are simulated"
            if run.options.clouds.textures:
                found["clouds"] += ", half of them with shapes and spectra of real clouds"
        found["cloud masks"] = MASK_WORDS[run.options.cloud_mask]
        return found

    def architecture(self, options: SegmentationOptions) -> Mapping[str, Any]:
        """Return the encoder, its sizes and the use of the gate."""
        sizes = dataclasses.asdict(options.network)
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in sizes.items()}
        return {**plain, "gate": options.student.gate}

    def network(self, manifest: Manifest) -> CloudSegNet:
        """Return the student that the manifest states, without what only training reads.

        Raises:
            ManifestError: The architecture is not one of this task, or names an encoder of another
                package that nobody trusts; see `factories.trust_encoder`.
        """
        from ..cloudseg import CloudSegNet
        from ..factories import require_trusted

        options, gate = _stated(manifest.architecture)
        require_trusted([options.encoder])
        optical, sar = (len(spec.channels) for spec in manifest.modalities.values())
        return CloudSegNet(optical, sar, len(manifest.classes), options, gate)


def _stated(architecture: Mapping[str, Any]) -> tuple[PyramidOptions, Any]:
    sizes = {key: value for key, value in architecture.items() if key != "gate"}
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
    try:
        options, gate = PyramidOptions(**plain), architecture["gate"]
        if gate in ("weighing", "reported"):
            return options, gate
    except (KeyError, TypeError, InputError) as error:
        cause: Exception | None = error
    else:
        cause = None
    raise ManifestError(
        f"manifest architecture is {dict(architecture)!r}, expected {{'encoder', 'widths', "
        "'blocks', 'decoder', 'gate': 'weighing' or 'reported'}",
        hint="Export a bundle that `esccs-edge train` wrote",
    ) from cause
