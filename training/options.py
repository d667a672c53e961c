"""Options of a training run of any task: frozen values, defaults beside the fields.

No torch here, so that the command line can check them before anything heavy is loaded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from esccs_edge.errors import InputError

AnyOptions = TypeVar("AnyOptions", bound="RunOptions")
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
#: Options of every run that mean nothing on another machine.
PATHS = ("data", "out", "init")
#: Those that change no number, so that a run may go on with others. `devices` says which card
#: learns, never how many.
FREE = ("data", "out", "logger", "devices")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns (warm-up, then a cosine to zero).

    Attributes:
        epochs: Passes over the training split.
        batch_size: Samples per step of the optimizer.
        learning_rate: Highest learning rate.
        weight_decay: Of AdamW, on weights and not on biases or norms; SGD has its own.
        warmup_share: Share of all steps in which the rate rises from zero.
        averaging: Decay of the running mean of the weights, which is what a stage returns.
        optimizer: ``"adamw"``, which cancels a steady factor on a gradient, or ``"sgd"`` (Nesterov
            momentum; see `stage`), which does not.
        halved_at: Epochs from which on the rate is half of what it was, in place of warm-up and
            cosine.
    """

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.15
    averaging: float = 0.98
    optimizer: Literal["adamw", "sgd"] = "adamw"
    halved_at: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "2 or more")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.averaging < 1, "averaging", self.averaging, "0 or more, below 1")
        require_shares(self, "warmup_share")


@dataclass(frozen=True)
class CloudOptions:
    """What the auxiliaries and the student see instead of a clear sky.

    Attributes:
        simulate: False takes the optical images as they are, such as truly cloudy ones; the
            teacher then learns on those that look nearly clear.
        clear_share: Share of training pairs without any cloud; the rest is uniform in [0, 1].
        textures: Folder with real cloudy Sentinel-2 images (``s2_cloudy/*.tif``), or empty.
        draws: Different skies, turns and gains that a pair is seen under, kept in memory and seen
            in turn; 0 draws anew in every epoch.
    """

    simulate: bool = True
    clear_share: float = 0.2
    textures: str = ""
    draws: int = 0

    def __post_init__(self) -> None:
        require(self.draws >= 0, "draws", self.draws, "0 or more")
        require_shares(self, "clear_share")


@dataclass(frozen=True)
class RunOptions:
    """Options that a run of any task has; a task adds fields of its own in a subclass.

    Attributes:
        task: What is learned: a name in `training.learning.tasks`.
        data: Data set: an ``index.csv`` or ``kind:FOLDER``; see `datasets.open_dataset`.
        out: Run folder, created by the run.
        name: Model name for the manifest.
        seed: Seed of everything drawn.
        pixel_size_m: Ground size of a pixel.
        threads: Threads of torch; 0 leaves its default.
        precision: Arithmetic of the networks that learn, as Lightning calls it; ``"bf16-mixed"``
            is about twice as fast on CPUs that have it, ``"16-mixed"`` is for GPUs.
        accelerator: What the networks learn on, as Lightning calls it: ``"auto"``, ``"cpu"``,
            ``"gpu"`` and others.
        devices: Which of them, as Lightning calls it: ``1`` takes the first, ``"1,"`` the GPU with
            the number 1. A stage learns on one device.
        logger: Where each stage's numbers go beside ``logs/STAGE.csv``: ``"tensorboard"``,
            ``"csv"``, ``"none"``, or the factory of a Lightning logger,
            ``"package.module:factory"``; see `stages.trainer`.
        init: Bundle with ``student.safetensors`` whose weights the run starts at, or empty: its
            bands and sizes are those of the run then, its classes may be others.
    """

    task: str = ""
    data: str = ""
    out: str = ""
    name: str = "student"
    seed: int = 0
    pixel_size_m: float = 10.0
    threads: int = 0
    precision: Precision = "32-true"
    accelerator: str = "auto"
    devices: int | str = 1
    logger: str = "tensorboard"
    init: str = ""

    def evolve(self: AnyOptions, **changes: Any) -> AnyOptions:
        """Return a copy with top-level fields replaced."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Return plain nested values, as JSON takes them."""
        return dataclasses.asdict(self)

    def without_paths(self) -> dict[str, Any]:
        """Return the plain values but for paths, which mean nothing on another machine."""
        return {key: value for key, value in self.as_dict().items() if key not in PATHS}


def require(condition: bool, where: str, found: Any, expected: str) -> None:
    """Raise `InputError` that names the option, unless the condition holds."""
    if not condition:
        raise InputError(f"option {where!r} is {found!r}, expected {expected}")


def require_shares(options: Any, *names: str) -> None:
    """Raise `InputError` for the first of these options that is no share from 0 to 1."""
    for name in names:
        value = getattr(options, name)
        require(0 <= value <= 1, name, value, "a share from 0 to 1")
