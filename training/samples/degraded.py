"""Raw pairs as the model will see them: turned, given a SAR patch, clouded, or half absent.

NumPy only, nothing is normalized. Everything drawn for a pair depends on (seed, epoch, index)
alone, and SAR, clouds and the rest draw from separate streams, so that changing the cover never
changes the SAR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.contracts.types import Array
from esccs_edge.errors import InputError

from ..datasets.dataset import HasClearImages, PairDataset, indices_of
from ..simulate.clouds import simulate_clouds
from ..simulate.light import UNITS_PER_REFLECTANCE, draw_light
from ..simulate.sar import simulate_sar
from ..simulate.textures import CloudTextures
from .cloud_cover import estimate_cloud_cover

#: A fixed cover, a range to draw from, or equal numbers in all `CLOUD_BINS`.
Cover = float | tuple[float, float] | Literal["stratified"]
#: Where SAR comes from in a data set that has none: nowhere, the clear optical pixels alone, or
#: pixels and class. What was drawn from the class knows the label: it may teach, never judge.
SarSource = Literal["absent", "from pixels", "from class"]


@dataclass(frozen=True)
class DegradedPair:
    """One raw pair after simulation.

    Attributes:
        clear: ``(C, H, W)`` optical patch before clouds, or the clear image that a data set of
            truly cloudy pairs has of the place; None where there is none.
        optical: The same with clouds, or None when the modality is absent.
        sar: ``(P, H, W)`` or None when absent.
        label: Class index, -1 if unknown.
        cover: Share of cloudy pixels: simulated, or of truly cloudy images the recorded or else
            the estimated one; 0 where the image is shown clear.
        estimated_cover: Cover estimated from ``optical`` alone; 1 when it is absent.
        index: Position in the data set.
    """

    clear: Array | None
    optical: Array | None
    sar: Array | None
    label: int
    cover: float
    estimated_cover: float
    index: int


@dataclass(frozen=True)
class Degradation:
    """How pairs are changed.

    Attributes:
        cover: Wanted cloud cover; see `Cover`.
        clear_share: Share of pairs left exactly clear when ``cover`` is a range; of truly cloudy
            pairs, share that shows the clear image of the place instead.
        augment: Flip and turn, and change gains a little (training only).
        drop_share: Share of pairs that lose one modality (training only).
        textures: Real cloud shapes and spectra, used for half of the skies.
        hide_labels: Hand out -1 for every label; what is simulated from labels stays the same.
        sar: What stands in for SAR where the data set has none; see `SarSource`.
    """

    cover: Cover = (0.0, 1.0)
    clear_share: float = 0.0
    augment: bool = False
    drop_share: float = 0.0
    textures: CloudTextures | None = None
    hide_labels: bool = False
    sar: SarSource = "absent"


class DegradedPairs:
    """The pairs of one split of a data set, seen through a `Degradation`."""

    def __init__(
        self,
        dataset: PairDataset,
        split: str,
        degradation: Degradation,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.degradation = degradation
        self.seed = seed
        self.indices = indices_of(dataset, split)
        self.labels = np.asarray(dataset.labels)[self.indices]
        self._clear_images = dataset if isinstance(dataset, HasClearImages) else None
        self._bins = self._assign_bins()

    def __len__(self) -> int:
        return len(self.indices)

    def get(self, position: int, epoch: int = 0) -> DegradedPair:
        """Return the pair at ``position`` of the split as drawn for ``epoch``.

        Raises:
            InputError: The data set gave neither modality.
        """
        index = int(self.indices[position])
        streams = np.random.SeedSequence((self.seed, epoch, index)).spawn(3)
        turn, radar, sky = (np.random.Generator(np.random.PCG64DXSM(s)) for s in streams)
        optical, sar = self.dataset.pair(index)
        if optical is None and sar is None:
            raise InputError(f"pair {index} of {self.dataset.name} has neither optical nor SAR")
        clear = optical if self._clear_images is None else self._clear_images.clear(index)
        if self.degradation.augment:
            clear, optical, sar = _turned((clear, optical, sar), turn)
        if sar is None and not self.dataset.sar_channels and clear is not None:
            sar = self._simulated_sar(clear, position, radar)
        if self.degradation.augment:
            clear, optical = self._in_other_light((clear, optical), turn)
        if self._clear_images is None:
            cloudy, cover = self._clouded(clear, position, sky)
        elif sky.random() < self.degradation.clear_share:
            cloudy, cover = clear, 0.0
        else:
            cloudy, cover = optical, self._known_cover(index, optical)
        if turn.random() < self.degradation.drop_share and cloudy is not None and sar is not None:
            cloudy, sar = (None, sar) if turn.random() < 0.5 else (cloudy, None)
        estimated = self.estimated_cover(cloudy)
        label = -1 if self.degradation.hide_labels else int(self.labels[position])
        return DegradedPair(clear, cloudy, sar, label, cover, estimated, index)

    def labeled(self) -> Iterator[DegradedPair]:
        """Iterate over the pairs with a known label, in order."""
        for position in np.flatnonzero(self.labels >= 0):
            yield self.get(int(position))

    def estimated_cover(self, optical: Array | None) -> float:
        """Estimate the cover from the pixels; an absent patch counts as fully covered."""
        if optical is None:
            return 1.0
        scale = np.float32(1.0 / UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0))
        return estimate_cloud_cover(optical * scale, self.dataset.optical_channels)

    def _known_cover(self, index: int, optical: Array | None) -> float:
        """Cover of a truly cloudy image: recorded, or else estimated from its pixels."""
        cover = float(self.dataset.covers[index])
        return self.estimated_cover(optical) if np.isnan(cover) else cover

    def _in_other_light(
        self, images: Sequence[Array | None], rng: np.random.Generator
    ) -> tuple[Array | None, ...]:
        light = draw_light(self.dataset.optical_channels, rng)
        return _alike(light.on, images)

    def _simulated_sar(
        self, optical: Array, position: int, rng: np.random.Generator
    ) -> Array | None:
        source, label = self.degradation.sar, int(self.labels[position])
        if source == "absent":
            return None
        name = self.dataset.classes[label] if source == "from class" and label >= 0 else ""
        return simulate_sar(optical, self.dataset.optical_channels, rng, name)

    def _clouded(
        self, optical: Array | None, position: int, rng: np.random.Generator
    ) -> tuple[Array | None, float]:
        if optical is None:
            return None, 0.0
        wanted = self._wanted_cover(position, rng)
        if wanted == 0.0:
            return optical, 0.0
        bands, textures = self.dataset.optical_channels, self.degradation.textures
        cloudy, cover, _ = simulate_clouds(optical, bands, wanted, rng, textures)
        return cloudy, cover

    def _wanted_cover(self, position: int, rng: np.random.Generator) -> float:
        cover = self.degradation.cover
        if cover == "stratified":
            return float((self._bins[position] + rng.random()) / len(CLOUD_BINS))
        if isinstance(cover, tuple):
            is_clear = rng.random() < self.degradation.clear_share
            return 0.0 if is_clear else float(rng.uniform(*cover))
        return float(cover)

    def _assign_bins(self) -> npt.NDArray[np.int64]:
        """Deal the pairs of each class to the cover bins in turn, in a seeded order."""
        rng = np.random.default_rng(self.seed)
        bins = np.empty(len(self.indices), np.int64)
        bins[np.lexsort((rng.random(len(bins)), self.labels))] = np.arange(len(bins)) % len(
            CLOUD_BINS
        )
        return bins


def _turned(images: Sequence[Array | None], rng: np.random.Generator) -> tuple[Array | None, ...]:
    """Flip and turn all images of a place alike."""
    quarter, flip = int(rng.integers(4)), bool(rng.integers(2))

    def turn(pixels: Array) -> Array:
        turned = np.rot90(pixels, quarter, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if flip else turned)

    return _alike(turn, images)


def _alike(
    change: Callable[[Array], Array], images: Sequence[Array | None]
) -> tuple[Array | None, ...]:
    """Change all images; those that are one object stay one."""
    known: dict[int, Array] = {}
    for image in images:
        if image is not None and id(image) not in known:
            known[id(image)] = change(image)
    return tuple(None if image is None else known[id(image)] for image in images)
