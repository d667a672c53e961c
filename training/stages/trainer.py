"""Lightning's trainer of a stage: device, precision and logger as the options of the run name them.

A logger of your own is named by its factory, ``(folder: Path, stage: str) -> Logger``: it is called
once per stage, with the run's ``logs/`` and the name of the stage. Such as::

    def runs_of_mine(folder, stage):
        return WandbLogger(project="clouds", name=stage, save_dir=folder)
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from esccs_edge.errors import InputError

from ..learning.factories import imported
from ..options import RunOptions
from .epoch_log import EpochLog
from .stage import N, Stage

LOGGERS = ("tensorboard", "csv", "none")


def check_trainer(options: RunOptions) -> None:
    """Refuse, before anything is read or learned, what no stage of the run could be given.

    Raises:
        InputError: There is no such logger, accelerator or device, several devices are asked for,
            or the accelerator cannot do the precision.
    """
    if options.logger not in LOGGERS:
        _factory(options.logger)
    with quiet():
        trainer = _trainer(options, logger=False, enable_progress_bar=False)
    asked = f"accelerator {options.accelerator!r}, devices {options.devices!r}"
    if trainer.num_devices != 1:
        raise InputError(
            f"{asked} stands for {trainer.num_devices} devices, expected one: what a stage learns "
            "depends on the order of its samples, which processes do not share",
            hint="Name one, such as devices = 1 or '1,', and run seeds or folds side by side",
        )
    if trainer.precision != options.precision:
        raise InputError(
            f"precision is {options.precision!r}, which {asked} cannot do",
            hint=f"There Lightning takes {trainer.precision}: ask for that, or for a GPU",
        )


def open_trainer(
    stage: Stage[N], folder: Path, checkpoint: Callback, options: RunOptions
) -> L.Trainer:
    """Make the trainer of a stage.

    Args:
        stage: Its name names its logs.
        folder: Of the run.
        checkpoint: Keeps its state.
        options: Of the run.

    Raises:
        InputError: As `check_trainer`, or the factory made no logger.
    """
    logs = folder / "logs"
    is_terminal = sys.stderr.isatty()
    bars: list[Callback] = [TQDMProgressBar(leave=True)] if is_terminal else []
    log = EpochLog(logs / f"{stage.name}.csv", stage.name, print_lines=not is_terminal)
    return _trainer(
        options,
        max_epochs=stage.schedule.epochs,
        logger=_logger(options.logger, logs, stage.name),
        callbacks=[*bars, log, checkpoint],
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=is_terminal,
        default_root_dir=folder,
        log_every_n_steps=1,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's messages about the machine; errors and our own lines stay."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for pattern in (
            ".*does not have many workers.*",  # loading in-process is what keeps draws in order
            ".*isinstance.treespec, LeafSpec.*",
            ".*GPU available but not used.*",
            ".*AMP with fp16 is not supported on CPU.*",  # `check_trainer` refuses that in words
        ):
            warnings.filterwarnings("ignore", pattern)
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _trainer(options: RunOptions, **other: Any) -> L.Trainer:
    try:
        return L.Trainer(
            accelerator=options.accelerator,
            devices=options.devices,
            precision=options.precision,
            # One process, whatever a batch system started: else its tasks are taken for ranks.
            plugins=[LightningEnvironment()],
            enable_checkpointing=False,
            enable_model_summary=False,
            **other,
        )
    except (ImportError, MisconfigurationException, TypeError, ValueError) as error:
        raise InputError(
            f"accelerator is {options.accelerator!r}, devices is {options.devices!r}, expected "
            "what Lightning finds on this machine",
            hint=f"Lightning says: {error}",
        ) from None


def _logger(name: str, logs: Path, stage: str) -> Logger | bool:
    if name == "none":
        return False
    if name == "csv":
        return CSVLogger(logs, name="csv", version=stage)
    if name == "tensorboard":
        return TensorBoardLogger(logs, name="tensorboard", version=stage)
    made = _factory(name)(logs, stage)
    if not isinstance(made, Logger):
        raise InputError(
            f"{name} makes {type(made).__name__}, expected a logger of lightning.pytorch.loggers"
        )
    return made


def _factory(name: str) -> Any:
    if ":" not in name:
        raise InputError(
            f"option 'logger' is {name!r}, expected {', '.join(LOGGERS)} or package.module:factory"
        )
    return imported(name, "logger")
