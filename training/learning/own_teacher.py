"""A teacher that the user brings: any callable from physical pixels to logits.

A foundation model, a network of another library or an ensemble brings statistics of its own, so it
gets pixels in their unit and not this package's normalized ones. It is asked and never trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.errors import InputError

from .factories import imported
from .networks import Ensemble, UnimodalNet


class Teacher(Protocol):
    """What teaches in place of the teacher that a run would train."""

    def __call__(self, pixels: Tensor, spec: ModalitySpec) -> Tensor:
        """Answer about optical patches.

        Args:
            pixels: ``(N, C, H, W)`` float32 in ``spec.unit``, clipped to ``spec.clip``, on the
                device of the run. Invalid pixels have the mean of their channel. While a run
                learns, patches are shifted, turned and changed in gain a little.
            spec: Names the channels.

        Returns:
            Logits ``(N, K)``, in the order of the data set's classes.
        """


class AskedTeacher(nn.Module):
    """A `Teacher` as the stages ask theirs: about normalized pixels.

    Args:
        teacher: Is put into eval mode and frozen if it is a torch module.
        spec: Contract of the optical images.
        classes: K.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, teacher: Teacher, spec: ModalitySpec, classes: int) -> None:
        super().__init__()
        self.teacher = teacher
        if isinstance(teacher, nn.Module):
            teacher.requires_grad_(False)
        self.spec, self.classes = spec, classes
        for name in ("mean", "std"):
            values = torch.tensor(getattr(spec, name))[:, None, None]
            self.register_buffer(name, values, persistent=False)
        self.eval()

    def __deepcopy__(self, _: dict[int, Any]) -> AskedTeacher:
        """Return itself: it never changes, and several copies of a large one would not fit."""
        return self

    def train(self, mode: bool = True) -> AskedTeacher:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Normalized ``(N, C, H, W)`` -> logits ``(N, K)``.

        Raises:
            InputError: The answer has another shape or is not finite.
        """
        low, high = self.spec.clip
        logits = self.teacher((x * self.std + self.mean).clamp(low, high), self.spec)
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != (len(x), self.classes):
            raise InputError(
                f"the teacher answers {found}, expected logits of shape {(len(x), self.classes)}: "
                "one row per patch and one column per class of the data set"
            )
        if not torch.isfinite(logits).all():
            raise InputError("the teacher answers NaN or infinity, expected finite logits")
        return logits.float()


#: What the stages may ask: trained here, or brought.
AnyTeacher = UnimodalNet | Ensemble | AskedTeacher


def teacher_named(name: str, classes: tuple[str, ...]) -> Teacher:
    """Make a teacher by the name of its factory, ``(classes) -> Teacher``.

    Raises:
        InputError: There is no such factory, or what it makes cannot be called.
    """
    factory: Callable[..., Any] = imported(name, "teacher.factory")
    made = factory(classes)
    if not callable(made):
        raise InputError(f"{name} makes {type(made).__name__}, expected a callable Teacher")
    return cast(Teacher, made)
