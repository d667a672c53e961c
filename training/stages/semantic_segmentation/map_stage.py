"""What both stages share: they may keep the network that was best on validation."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...datasets.map_dataset import IGNORED
from ...learning.map_losses import on_grid_of
from ...samples.map_samples import MapSamples
from ..stage import Batch, N, Stage

BATCH_SIZE = 16


class MapStage(Stage[N]):
    """A stage that answers with maps.

    After `validate_on` it keeps the weights with the highest mIoU, in its checkpoint too. It looks
    before an epoch rather than after the last one, since that is after the checkpoint.
    """

    best: N
    best_miou: Tensor

    def answers(self, net: N, batch: Batch) -> Tensor:
        """Logits ``(N, K, H, W)`` of a network of the stage."""
        raise NotImplementedError

    def validate_on(self, samples: MapSamples, every: int, classes: int) -> None:
        """Look at the validation split after every so many epochs, and after the last one."""
        self._validation = samples, every, classes
        self.best = copy.deepcopy(self.average)
        self.register_buffer("best_miou", torch.tensor(-1.0))

    def on_train_epoch_start(self) -> None:
        """Seed this epoch; look at what the epochs before it have come to."""
        super().on_train_epoch_start()
        if hasattr(self, "_validation") and self.current_epoch:
            if self.current_epoch % self._validation[1] == 0:
                self._look()

    def on_train_end(self) -> None:
        """Return the best weights."""
        if hasattr(self, "_validation"):
            self._look()
            self.average.load_state_dict(self.best.state_dict())

    @torch.no_grad()
    def _look(self) -> None:
        samples, _, classes = self._validation
        counts = torch.zeros(classes, classes, dtype=torch.int64)
        self.average.eval()
        batches: Iterable[Batch] = DataLoader(samples, BATCH_SIZE, generator=torch.Generator())
        for batch in batches:
            here = {name: value.to(self.device) for name, value in batch.items()}
            logits = on_grid_of(here["target"], self.answers(self.average, here))
            known = here["target"] != IGNORED
            both = here["target"][known] * classes + logits.argmax(dim=1)[known]
            counts += torch.bincount(both, minlength=classes**2).reshape(counts.shape).cpu()
        hits = counts.diagonal()
        union = counts.sum(dim=0) + counts.sum(dim=1) - hits
        miou = (hits[union > 0] / union[union > 0]).mean()
        if miou > self.best_miou:
            self.best_miou.fill_(miou)
            self.best.load_state_dict(self.average.state_dict())
