"""Auxiliaries that answer only on places that they did not learn.

An auxiliary has seen its own training pairs, so what it answers there says how well it remembers
them and not what its modality is worth. The places of the target are divided in two, a pair of
auxiliaries learns on each half, and the contributions on a place come from the pair that learned
on the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from esccs_edge.contracts.types import Mask

from ..datasets.splits import folds_by_group
from ..samples.transfer_parts import TrainingPart
from ..stages.scene_classification.run import SceneRun
from ..stages.stage import Batch
from .shared import Auxiliaries, Shared


class Crosswise(nn.Module):
    """Batch -> logits of the optical and of the SAR auxiliary that did not learn each place.

    Args:
        halves: Auxiliaries of the first and of the second half.
        half: ``(N,)`` which half learned each pair of the data set: 0 or 1.
    """

    learned_by: Tensor

    def __init__(self, halves: tuple[Auxiliaries, Auxiliaries], half: Tensor) -> None:
        super().__init__()
        self.optical = nn.ModuleList([part.optical for part in halves])
        self.sar = nn.ModuleList([part.sar for part in halves])
        self.register_buffer("learned_by", half, persistent=False)

    @torch.no_grad()
    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """``(N, K)`` of each modality."""
        in_second = (self.learned_by[batch["index"]] == 1)[:, None]

        def by_the_other(nets: nn.ModuleList, image: Tensor) -> Tensor:
            return torch.where(in_second, nets[0](image), nets[1](image))

        optical = by_the_other(self.optical, batch["optical"])
        return optical, by_the_other(self.sar, batch["sar"])


def with_crosswise(shared: Shared) -> Shared:
    """Train or load two pairs of auxiliaries, each on half of the target's places."""
    run = shared.run
    target = np.flatnonzero(np.asarray(run.target.splits) == "train")
    groups = [run.target.groups[int(i)] for i in target]
    labels = np.full(len(target), -1, np.int64)  # hidden here as everywhere
    others = 0 if run.real is None else len(run.real)  # real pairs are in both halves
    half = np.zeros(len(run.dataset) + others, np.int64)
    half[target] = folds_by_group(labels, groups, 2, run.options.seed)
    in_set = half[: len(run.dataset)]
    first, second = (_auxiliaries(shared, run, in_set == number, number) for number in (0, 1))
    return replace(shared, crosswise=Crosswise((first, second), torch.from_numpy(half)))


def _auxiliaries(shared: Shared, run: SceneRun, kept: Mask, number: int) -> Auxiliaries:
    part = replace(
        run, target=TrainingPart(run.target, kept), folder=run.folder / f"half-{number + 1}"
    )
    supervision = part.supervise(shared.teacher)
    sar = part.train_sar_auxiliary(supervision)
    return Auxiliaries(part.train_optical_auxiliary(supervision, sar), sar)
