"""One line per epoch: a CSV that survives restarts, and plain text where there is no terminal."""

from __future__ import annotations

import csv
import io
import sys
import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from esccs_edge.system.atomic import write_atomic

#: Plain lines per stage at most, beside the last one.
PLAIN_LINES = 20


class EpochLog(Callback):
    """Writes what a stage logged at the end of each epoch.

    Args:
        path: CSV file; rows of epochs that are run again after a restart are replaced.
        name: Of the stage, for the plain lines.
        print_lines: Print a line every so often to the standard error stream.
    """

    def __init__(self, path: Path, name: str, *, print_lines: bool) -> None:
        self.path = path
        self.name = name
        self.print_lines = print_lines
        self._rows: list[dict[str, str]] = []
        self._started = 0.0

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        """Read the rows of epochs that are already finished."""
        self._started = time.monotonic()
        if self.path.is_file():
            with open(self.path, newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            self._rows = [row for row in rows if int(row["epoch"]) < trainer.current_epoch]

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        """Append this epoch."""
        values = {name: f"{float(value):.6g}" for name, value in trainer.callback_metrics.items()}
        self._rows.append({"epoch": str(trainer.current_epoch), **values})
        self._write()
        epochs = trainer.max_epochs or 1
        done = trainer.current_epoch + 1
        if self.print_lines and (done % max(1, epochs // PLAIN_LINES) == 0 or done == epochs):
            shown = " ".join(f"{name} {value}" for name, value in values.items())
            elapsed_s = time.monotonic() - self._started
            print(f"{self.name}: epoch {done}/{epochs}, {elapsed_s:.0f} s, {shown}",
                  file=sys.stderr, flush=True)  # fmt: skip

    def _write(self) -> None:
        text = io.StringIO(newline="")
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomic(self.path, text.getvalue())
