"""How a task is learned: the seam behind which the stages of different tasks differ.

`esccs_edge.contracts.task.Task` states what a model of the task answers; a `LearningTask` of the
same name states its networks and losses (through its stages), the metrics of its runs, its held-out
samples and how data become tensors. `training.run.train` and `export` know no more than this.
Calibration draws its strata and scores by `Task.target`, one class or a map of classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from esccs_edge.contracts.familiarity import Familiarity
from esccs_edge.contracts.manifest import Manifest

from ..options import RunOptions

if TYPE_CHECKING:  # torch takes seconds to load, and options are checked before that
    from torch import nn

    from ..datasets.dataset import Dataset
    from ..datasets.stored_samples import StoredSample
    from ..stages.training_run import TrainingRun


class Networks(Protocol):
    """What the stages of a run have trained."""

    @property
    def student(self) -> nn.Module:
        """The network that is exported."""


R = TypeVar("R", bound="TrainingRun")
N = TypeVar("N", bound=Networks)


class LearningTask(Protocol[R, N]):
    """How one task is learned; ``R`` is its run, ``N`` what its stages train.

    Attributes:
        name: As `Task.name`.
        options_class: Options of its runs; its defaults and tables.
        data_class: What it asks of data.
    """

    name: str
    options_class: type[RunOptions]
    data_class: type[Any]

    def open_data(self, options: Any) -> Dataset:
        """Open what ``options.data`` names.

        Raises:
            InputError: There is no such data, or it is not of this task.
        """

    def open(self, options: Any, dataset: Any, folder: Path) -> R:
        """Measure the contracts of the modalities of open data; writes nothing.

        A task whose options say that a ``teacher`` was brought takes it by this name.

        Raises:
            InputError: The data cannot be trained on.
        """

    def train(self, run: R) -> N:
        """Train the stages one after the other."""

    def judge(self, run: R, networks: N) -> tuple[dict[str, Any], float]:
        """Return the metrics by split and network, and the temperature of the student."""

    def familiarity(self, run: R, networks: N) -> Mapping[str, Familiarity]:
        """Let the student answer distances from the training data, and say which are familiar.

        Returns:
            Modality name -> `Manifest.familiarity`; empty where the task answers no distances.
        """

    def held_out(self, run: R) -> Iterator[StoredSample]:
        """Yield the samples that calibration and evaluation of the bundle read."""

    def simulated(self, run: R) -> Mapping[str, str]:
        """Return what of the data was simulated, in words, for the provenance."""

    def architecture(self, options: Any) -> Mapping[str, Any]:
        """Return what `network` needs beside the contract, as plain values."""

    def network(self, manifest: Manifest) -> nn.Module:
        """Return the network of ``manifest.architecture``, its weights not set.

        It takes the tensors of ``manifest.inputs`` in their order, and returns those of
        ``manifest.outputs``: a tensor, or a tuple of several.

        Raises:
            ManifestError: The manifest does not state the architecture.
        """
