"""One named tensor at the border of a network, and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

#: What a tensor means decides how its values are fed, read and compared.
#:
#: ``pixels``        normalized pixels of the modality that the tensor is named after
#: ``availability``  share of valid pixels per sample and modality, in [0, 1]
#: ``logits``        one value per class along axis 1, before softmax
#: ``share``         weights in [0, 1], such as a gate
#: ``distance``      per modality, 0 or more: how far from the training data; 0 where it is absent
#:
#: The others are uint8 images, which export adds to the graph, so that little comes back from a
#: device:
#:
#: ``label``         position of the largest logit among the classes
#: ``confidence``    its probability in percent; `NOT_FINITE` where logits were not finite
#: ``percent``       share of the first modality in percent; `NOT_FINITE` likewise
#: ``scores``        probability of each class, in units of 1 / 255
Role = Literal[
    "pixels", "availability", "logits", "share", "distance",
    "label", "confidence", "percent", "scores",
]  # fmt: skip

_IMAGES = ("label", "confidence", "percent", "scores")

#: Stands for NaN and infinity in percent.
NOT_FINITE = 254


@dataclass(frozen=True)
class Tensor:
    """A tensor by name; the first axis is the batch.

    Attributes:
        name: As in the graph.
        shape: Sizes of the axes; the batch axis is ``"N"``.
        role: What it means.
    """

    name: str
    shape: tuple[str | int, ...]
    role: Role

    @property
    def dtype(self) -> str:
        """``"float32"``, or ``"uint8"`` by the role."""
        return "uint8" if self.role in _IMAGES else "float32"

    @cached_property
    def row(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(int(size) for size in self.shape[1:])
