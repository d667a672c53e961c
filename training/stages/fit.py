"""Run one stage of training to its end, through kills and restarts.

A stage leaves `<name>.safetensors` (the averaged weights) when it is finished and is then never
run again; until then `<name>.ckpt` holds the state after the last finished epoch.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from esccs_edge.errors import ArtifactError
from esccs_edge.system.atomic import atomic_path, write_atomic

from ..options import RunOptions
from ..samples.epoch_samples import EpochSamples
from .stage import N, Stage, epoch_seed
from .trainer import open_trainer, quiet


class EpochOrder(Sampler[int]):
    """A shuffled order that is the same each time it is asked for.

    Lightning may start an iterator and drop it after a restart, so nothing may be used up.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        return iter(torch.randperm(self.count, generator=generator).tolist())


class EpochData(L.LightningDataModule):
    """Loads the training split in an order and with draws that depend on the epoch alone."""

    def __init__(self, samples: EpochSamples, batch_size: int, seed: int, name: str) -> None:
        super().__init__()
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.stage_name = name

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Return the loader of the trainer's current epoch; an incomplete batch is left out."""
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        self.samples.set_epoch(epoch)
        order = EpochOrder(len(self.samples), epoch_seed(self.seed, self.stage_name, epoch))
        return DataLoader(
            self.samples,
            min(self.batch_size, len(self.samples)),
            sampler=order,
            drop_last=True,
            generator=torch.Generator(),  # so that the global one is left alone
        )


class EpochCheckpoint(Callback):
    """Keeps the state after the last finished epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        """Replace the checkpoint atomically."""
        with atomic_path(self.path) as partial:
            trainer.save_checkpoint(partial)


def fit(stage: Stage[N], samples: EpochSamples, folder: Path, options: RunOptions) -> N:
    """Train a stage, or go on where it stopped, or load it if it is finished.

    Args:
        stage: The stage; its name names the files.
        samples: Training split.
        folder: Run folder; gets ``checkpoints/`` and ``logs/``.
        options: Of the run: precision, device and logger.

    Returns:
        The stage's averaged network in eval mode, on the CPU.

    Raises:
        ArtifactError: A file that an earlier run left is damaged, or of another network.
        InputError: The logger or the device cannot be had; see `trainer`.
    """
    finished = folder / "checkpoints" / f"{stage.name}.safetensors"
    checkpoint = finished.with_suffix(".ckpt")
    if finished.is_file():
        with _told_if_damaged(finished):
            stage.average.load_state_dict(load_file(finished))
        return stage.average.eval()
    data = EpochData(samples, stage.schedule.batch_size, stage.seed, stage.name)
    going_on = checkpoint.is_file()
    if going_on:
        with _told_if_damaged(checkpoint):
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            stage.load_state_dict(state["state_dict"])
    with quiet(), _interruptible():
        trainer = open_trainer(stage, folder, EpochCheckpoint(checkpoint), options)
        trainer.fit(stage, data, ckpt_path=str(checkpoint) if going_on else None,
                    weights_only=True)  # fmt: skip
    state = {name: value.cpu().contiguous() for name, value in stage.average.state_dict().items()}
    write_atomic(finished, save(state))
    checkpoint.unlink(missing_ok=True)
    return stage.average.cpu().eval()


@contextmanager
def _told_if_damaged(path: Path) -> Iterator[None]:
    """Turn what is raised on reading a file of the run into words."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # torch and its unpickler have dozens for bytes that are not theirs
        raise ArtifactError(
            f"{path} is damaged, or of another network: {type(error).__name__}: {error}",
            hint=f"Remove it and run again with --resume: the stage {path.stem} is trained anew",
        ) from error


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be a `KeyboardInterrupt`; Lightning exits, and ignores it from then on."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit:
        raise KeyboardInterrupt from exit
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)
