"""What the student of one fold answers on what the fold held out.

Labeled pairs are shown clear, in other light and under simulated clouds; real pairs of held-out
places as they are. Nothing is drawn from a label, so data without SAR are judged without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from esccs_edge.contracts.cloud_bins import CLOUD_BINS, bin_range
from esccs_edge.contracts.types import Array
from esccs_edge.system.atomic import atomic_path

from ..datasets.triplets import Chips
from ..kept_files import kept_arrays
from ..samples.degraded import Degradation, DegradedPair
from ..samples.samples import CloudySamples
from ..simulate.light import Light
from ..stages.scene_classification.run import Networks, SceneRun
from ..stages.stage import Batch
from .real_chips import BOTH, INPUTS

BATCH_SIZE = 64
#: Other light: a factor, and haze added to every band but the cirrus band, in reflectance.
LIGHT = {
    "light x 0.8": (0.8, 0.0),
    "light x 1.2": (1.2, 0.0),
    "haze + 0.02": (1.0, 0.02),
}
_USED = {"optical": (1, 0), "SAR": (0, 1), "optical + SAR": (1, 1)}


@dataclass(frozen=True)
class FoldAnswers:
    """Answers on the held-out pairs of one fold.

    Attributes:
        labels: ``(N,)`` classes of the labeled pairs.
        logits: What was shown -> ``(N, K)``.
        real_logits: What was shown of the M real pairs -> ``(M, K)``; the key ``"teacher"`` holds
            what the teacher answers on their clear images.
        real_gate: ``(M,)`` share of optical with both modalities under the real clouds.
        real_place: ``(M,)`` place of each real pair.
        real_corner: ``(M, 3)`` triplet, row and column of each real pair.
        real_cover: ``(M,)`` share under cloud, NaN where not known.
    """

    labels: npt.NDArray[np.int64]
    logits: Mapping[str, npt.NDArray[np.float32]]
    real_logits: Mapping[str, npt.NDArray[np.float32]]
    real_gate: npt.NDArray[np.float32]
    real_place: npt.NDArray[np.str_]
    real_corner: npt.NDArray[np.int64]
    real_cover: npt.NDArray[np.float64]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file, complete or not at all."""
        parts = {name: getattr(self, name) for name in _ARRAYS}
        for group in _MAPPINGS:
            parts |= {f"{group}/{key}": value for key, value in getattr(self, group).items()}
        with atomic_path(path) as partial, open(partial, "wb") as stream:
            np.savez_compressed(stream, **parts)

    @classmethod
    def load(cls, path: Path) -> FoldAnswers:
        """Read what `save` wrote.

        Raises:
            InputError: It cannot be read, or is damaged.
        """
        stored = kept_arrays(path, _ARRAYS, also=None, record=path)
        parts: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
        for group in _MAPPINGS:
            within = f"{group}/"
            parts[group] = {
                name.removeprefix(within): array
                for name, array in stored.items()
                if name.startswith(within)
            }
        return cls(**parts)


_ARRAYS = ("labels", "real_gate", "real_place", "real_corner", "real_cover")
_MAPPINGS = ("logits", "real_logits")


def fold_answers(run: SceneRun, networks: Networks) -> FoldAnswers:
    """Ask the student of a run about its test pairs and about its held-out real pairs."""
    student = networks.student.eval()
    labels, logits = _labeled(run, student)
    real = run.real_held_out()
    parts = _NO_REAL_PAIRS if real is None else _real(run, networks, real)
    return FoldAnswers(labels, logits, **parts)


_NO_REAL_PAIRS: dict[str, Any] = {
    "real_logits": {},
    "real_gate": np.zeros(0, np.float32),
    "real_place": np.zeros(0, np.str_),
    "real_corner": np.zeros((0, 3), np.int64),
    "real_cover": np.zeros(0),
}


def _labeled(
    run: SceneRun, student: nn.Module
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float32]]]:
    """Show the labeled test pairs under clear and cloudy skies and in other light."""
    found, labels = {}, np.zeros(0, np.int64)
    inputs = _USED if run.dataset.sar_channels else {"optical": _USED["optical"]}
    for sky, samples, pairs in _skies(run):
        batch = _batch(samples, pairs)
        labels = batch["label"].numpy()
        for name, used in inputs.items():
            found[f"{name}, {sky}"] = asked(student, batch, used)[0]
    return labels, found


def _skies(run: SceneRun) -> Iterator[tuple[str, CloudySamples, list[DegradedPair]]]:
    clear = run.samples(Degradation(cover=0.0), "test")
    pairs = list(clear.pairs.labeled())
    yield "clear", clear, pairs
    bands = run.dataset.optical_channels
    for name, (gain, haze) in LIGHT.items():
        yield name, clear, [_in_light(pair, bands, gain, haze) for pair in pairs]
    if run.options.clouds.simulate:
        for position, name in enumerate(CLOUD_BINS):
            sky = Degradation(cover=bin_range(position), textures=run.textures)
            samples = run.samples(sky, "test")
            yield f"clouds {name} %", samples, list(samples.pairs.labeled())


def _in_light(pair: DegradedPair, bands: Sequence[str], gain: float, haze: float) -> DegradedPair:
    if pair.optical is None:
        return pair
    changed = in_light(pair.optical, bands, gain, haze)
    return replace(pair, clear=changed, optical=changed)


def in_light(optical: Array, bands: Sequence[str], gain: float, haze: float) -> Array:
    """Return ``(C, H, W)`` pixels times a gain, plus haze in all bands but B10; 0 stays 0."""
    veil = np.array([0.0 if band == "B10" else haze for band in bands], np.float32)
    return Light(np.full(len(bands), gain, np.float32), veil).on(optical)


def _real(run: SceneRun, networks: Networks, real: Chips) -> dict[str, Any]:
    """Show the real pairs of held-out places."""
    student, teacher = networks.student, networks.supervision.teacher
    optical, sar = run.modalities.values()
    samples = CloudySamples(real, "test", optical, sar, Degradation(cover=0.0))
    pairs = [samples.pairs.get(i) for i in range(len(samples))]
    shown = {
        "cloudy": _batch(samples, pairs),
        "clear": _batch(samples, [replace(pair, optical=pair.clear) for pair in pairs]),
    }
    answers = {
        name: asked(student, shown[image or "cloudy"], (int(image != ""), int(has_sar)))
        for name, (image, has_sar) in INPUTS.items()
    }
    with torch.no_grad():
        taught: Tensor = teacher(shown["clear"]["clear"])
    chosen = samples.pairs.indices
    return {
        "real_logits": {**{name: logits for name, (logits, _) in answers.items()},
                        "teacher": taught.numpy()},
        "real_gate": answers[BOTH][1][:, 0],
        "real_place": np.array(real.groups)[chosen],
        "real_corner": np.array(real.corners, np.int64)[chosen],
        "real_cover": np.asarray(real.covers)[chosen],
    }  # fmt: skip


def _batch(samples: CloudySamples, pairs: Sequence[DegradedPair]) -> Batch:
    tensors = [samples.tensors(pair) for pair in pairs]
    return {name: torch.stack([sample[name] for sample in tensors]) for name in tensors[0]}


@torch.no_grad()
def asked(
    student: nn.Module, batch: Batch, used: tuple[int, int]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return logits ``(N, K)`` and gate ``(N, 2)``; a modality that is not used is absent."""
    mask = torch.tensor(used, dtype=torch.float32)
    inputs = batch["optical"] * mask[0], batch["sar"] * mask[1], batch["availability"] * mask
    parts = zip(*(torch.split(tensor, BATCH_SIZE) for tensor in inputs), strict=True)
    logits, gates = zip(*(student(*part) for part in parts), strict=True)
    return torch.cat(logits).numpy(), torch.cat(gates).numpy()
