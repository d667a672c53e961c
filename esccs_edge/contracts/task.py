"""What a model answers: the seam behind which scenes, maps and series differ.

Everything between the pixels and the answer works on named tensors. A `Task` says which tensors
there are, and makes an answer of one row of the outputs. `esccs_edge.contracts.tasks` keeps the
tasks by name; how a task is learned stands in `esccs_edge.training.learning.tasks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from ..errors import BackendError, EsccsError
from .familiarity import Familiarity
from .modality import Modalities, SampleSpec
from .tensor import Tensor
from .types import Array, Floats, Labels, Mask
from .values import Flag

A = TypeVar("A")


class Contract(Protocol):
    """What a task needs to know of a model; `esccs_edge.contracts.manifest.Manifest` is one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""

    @property
    def modalities(self) -> Modalities:
        """Modality name -> contract."""

    @property
    def sample(self) -> SampleSpec:
        """The grid of a sample."""

    @property
    def temperature(self) -> float:
        """Divides the logits before softmax."""

    @property
    def familiarity(self) -> Mapping[str, Familiarity]:
        """Modality name -> familiar distances; empty where the network answers none."""


Measure = Literal["balanced_accuracy", "miou"]


@dataclass(frozen=True)
class MapMask:
    """A yes or no per pixel of a map.

    Attributes:
        name: Of its band.
        layer: One of `Task.map_layers`.
        below: The mask is set where that layer is less than this.
    """

    name: str
    layer: str
    below: float


class Task(Protocol[A]):
    """One kind of answer ``A``.

    Attributes:
        name: What ``manifest.task`` and ``--task`` call it.
        target: What a training or test sample is labeled with: ``"class"``, or ``"map"`` of
            classes.
        measure: What its answers are judged by where one number must decide, such as what INT8
            may cost: mean recall, or mean intersection over union.
        network: Kind of network, for catalogs.
    """

    name: str
    target: Literal["class", "map"]
    measure: Measure
    network: str

    def inputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """Return the inputs of the network: the ``pixels`` of each modality, and one availability.

        Raises:
            ManifestError: The task cannot work on these modalities or this grid.
        """

    def outputs(self, contract: Contract) -> tuple[Tensor, ...]:
        """Return the outputs of the trained network; one has the role ``logits``."""

    def returned(self, contract: Contract) -> tuple[Tensor, ...]:
        """Return what comes back from the device: the outputs, or images made of them in the graph.

        Export makes images by their roles, see `esccs_edge.contracts.tensor`.
        """

    def rows(self, outputs: Mapping[str, Array], contract: Contract) -> Sequence[Any]:
        """Return what `answer` needs of each sample of a batch, all NumPy work done at once."""

    def answer(self, row: Any, flags: Set[Flag], contract: Contract) -> A | EsccsError:
        """Return the answer for one sample; an error where the numbers are not finite."""

    def stratum(self, labels: Labels) -> int | None:
        """Return the class for which a map of classes is drawn to measure INT8 ranges.

        Args:
            labels: ``(H, W)`` class numbers, -1 where the class is not known.

        Returns:
            Its number; None where no class is known.
        """

    def masked(self, answer: A, valid: Callable[[], Mask]) -> A:
        """Take back what an answer says where no modality has a valid pixel.

        Called where every modality lacks some pixels.

        Args:
            answer: What `answer` made.
            valid: Returns ``(H, W)``: True where any modality has a valid pixel. It costs a pass
                over the pixels, so call it only where answers are per pixel.

        Raises:
            InputError: The pixels lie where they cannot be looked at.
        """

    def without_pixels(self, flags: Set[Flag], contract: Contract) -> A:
        """Return the answer for a sample in which no modality holds a usable pixel."""

    def is_same(self, first: A, second: A) -> bool:
        """Return whether two answers agree but for rounding in low precision."""

    def map_layers(self, contract: Contract) -> tuple[str, ...]:
        """Name the score layers that a map gets beside the probability of each class."""

    def map_masks(self, contract: Contract) -> tuple[MapMask, ...]:
        """Return the masks that a map gets behind the `map_layers`, made of the blended layers."""

    def map_values(self, answer: A, contract: Contract) -> Floats | None:
        """Return what a map blends, all in [0, 1]: class probabilities, then the `map_layers`.

        Returns:
            ``(layers,)`` where one answer holds for the whole sample, or ``(layers, H, W)``; None
            where there is no answer.
        """


def input_tensors(contract: Contract) -> tuple[Tensor, ...]:
    """Return ``(N, C, H, W)`` pixels of each modality and ``availability (N, modalities)``.

    The T images of a time series lie below one another: ``(N, C, T * H, W)``.
    """
    grid = contract.sample.grid
    pixels = [
        Tensor(name, ("N", len(spec.channels), *grid), "pixels")
        for name, spec in contract.modalities.items()
    ]
    return (*pixels, Tensor("availability", ("N", len(pixels)), "availability"))


def not_finite(what: str) -> BackendError:
    """Return the error where the network answered what is no number, for a ``what``."""
    return BackendError(
        f"the network answered NaN or infinity for this {what}, expected finite numbers",
        hint="A damaged or overflowing model does this; check it with `esccs-edge verify`",
    )


def prevailing_class(labels: Labels) -> int | None:
    """Return the class with most known pixels, or None without any."""
    known = labels[labels >= 0]
    return int(np.bincount(known).argmax()) if known.size else None
