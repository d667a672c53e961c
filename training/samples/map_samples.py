"""Images with label maps as the networks see them: cut, turned, clouded, normalized.

Everything drawn for a sample depends on (seed, epoch, index) alone, and cut and turns, clouds, and
dropped modalities draw from separate streams. Normalization is `esccs_edge.pixels.preprocess`, the
same function that runs on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.types import Array, Mask
from esccs_edge.errors import InputError
from esccs_edge.pixels.preprocess import preprocess

from ..datasets.dataset import indices_of
from ..datasets.map_dataset import IGNORED, MapDataset, MapSample, repeated
from ..simulate.clouds import simulate_clouds
from ..simulate.light import UNITS_PER_REFLECTANCE, draw_light
from ..simulate.textures import CloudTextures
from .cloud_cover import cloud_likelihood
from .epoch_samples import EpochSamples, Sample
from .windows import Window, cut, label_steps, random_window, windows

MaskSource = Literal["simulator", "files", "estimate"]


@dataclass(frozen=True)
class MapDegradation:
    """How samples are changed.

    Attributes:
        cover: Cloud cover to simulate: a number, a range to draw from, or None to take the images
            as they are.
        clear_share: Share of samples that show the clear sky instead.
        mask: Where the cloud mask comes from; see `SegmentationOptions.cloud_mask`.
        cut_anywhere: One random window per image (training); else all windows of the image, each
            pixel of its label map in one of them.
        turns: Turn, mirror, and change the light a little.
        drop_share: Share of samples that lose one modality, and of the others that lose it in a
            part, as beyond the edge of a swath.
        textures: Shapes and spectra of real clouds, used for half of the skies.
    """

    cover: float | tuple[float, float] | None = (0.0, 1.0)
    clear_share: float = 0.0
    mask: MaskSource = "simulator"
    cut_anywhere: bool = False
    turns: bool = False
    drop_share: float = 0.0
    textures: CloudTextures | None = None


@dataclass(frozen=True)
class DegradedMap:
    """One raw sample after simulation.

    Attributes:
        sample: What is shown; ``clear`` is set where ``optical`` is, ``cloud`` always.
        cover: Share of cloudy pixels of the optical image.
        index: Position in the data set.
        clouds_simulated: Whether clouds were laid over it.
        lost: The modality that the student must do without; its pixels stay for the teacher.
        gap: ``(H, W)``, where it must; None: everywhere.
    """

    sample: MapSample
    cover: float
    index: int
    clouds_simulated: bool
    lost: Literal["optical", "sar"] | None = None
    gap: Mask | None = None


class DegradedMaps:
    """The windows of one split of a data set, seen through a `MapDegradation`.

    Args:
        dataset: The data set.
        split: ``"train"``, ``"val"`` or ``"test"``.
        degradation: How samples are changed.
        crop: Height and width of a window.
        seed: Seed of everything drawn.

    Raises:
        InputError: The split holds no sample, an image is smaller than the window, or masks are
            to come from files that the data set does not have.
    """

    def __init__(
        self, dataset: MapDataset, split: str, degradation: MapDegradation, crop: int, seed: int = 0
    ) -> None:
        if degradation.mask == "files" and not dataset.has_cloud_masks:
            raise InputError(
                f"{dataset.name} has no cloud masks, and option 'cloud_mask' is 'files'",
                hint="Take cloud_mask = 'estimate', or simulate clouds",
            )
        self.dataset, self.degradation, self.crop, self.seed = dataset, degradation, crop, seed
        self.places: list[tuple[int, Window | None]] = []
        for index in indices_of(dataset, split).tolist():
            if degradation.cut_anywhere:
                self.places.append((index, None))
                continue
            sample = dataset.sample(index)
            found = windows(sample.size, crop, label_steps(sample), dataset.name)
            self.places += [(index, window) for window in found]

    def __len__(self) -> int:
        return len(self.places)

    def get(self, position: int, epoch: int = 0) -> DegradedMap:
        """Return the window at a position as drawn for an epoch."""
        index, window = self.places[position]
        number = 0 if window is None else 1 + position
        streams = np.random.SeedSequence((self.seed, epoch, index, number)).spawn(3)
        turn, sky, loss = (np.random.Generator(np.random.PCG64DXSM(s)) for s in streams)
        sample = self.dataset.sample(index)
        if window is None:
            window = random_window(
                sample.size, self.crop, label_steps(sample), self.dataset.name, turn
            )
        sample = cut(sample, window)
        if self.degradation.turns:
            sample = self._in_other_light(_turned(sample, turn), turn)
        sample, simulated = self._under_clouds(sample, sky)
        cloud = np.zeros(sample.size, bool) if sample.cloud is None else sample.cloud
        cover = float(cloud.mean())
        sample = replace(sample, cloud=cloud)
        both = sample.optical is not None and sample.sar is not None
        whole, part = (loss.random(2) < self.degradation.drop_share).tolist()
        if not both or not (whole or part):
            return DegradedMap(sample, cover, index, simulated)
        lost: Literal["optical", "sar"] = "optical" if loss.random() < 0.5 else "sar"
        gap = None if whole else draw_gap(sample.size, loss)
        return DegradedMap(sample, cover, index, simulated, lost, gap)

    def _under_clouds(self, sample: MapSample, rng: np.random.Generator) -> tuple[MapSample, bool]:
        """Show the sample under clouds and say where they are."""
        if sample.optical is None:
            return sample, False
        clear = sample.optical if sample.clear is None else sample.clear
        shows_clear = rng.random() < self.degradation.clear_share
        if shows_clear:
            seen, simulated = clear, False
            cloud: Mask | None = np.zeros(sample.size, bool)
        elif self.degradation.cover is None:
            seen, cloud, simulated = sample.optical, sample.cloud, False
        else:
            wanted = self.degradation.cover
            share = float(rng.uniform(*wanted)) if isinstance(wanted, tuple) else wanted
            seen, _, cloud = simulate_clouds(
                clear, self.dataset.optical_channels, share, rng, self.degradation.textures
            )
            simulated = share > 0
        if self.degradation.mask == "estimate" and not shows_clear:
            cloud = estimated_mask(seen, self.dataset.optical_channels)
        return replace(sample, optical=seen, clear=clear, cloud=cloud), simulated

    def _in_other_light(self, sample: MapSample, rng: np.random.Generator) -> MapSample:
        light = draw_light(self.dataset.optical_channels, rng)
        seen = None if sample.optical is None else light.on(sample.optical)
        clear = None if sample.clear is None else light.on(sample.clear)
        return replace(sample, optical=seen, clear=clear)


class MapSamples(EpochSamples):
    """Windows as tensors, deterministic per (seed, epoch, index).

    An item holds ``clear`` and ``optical`` ``(C, H, W)``, ``sar`` ``(P, H, W)``, ``availability``
    ``(2,)`` and ``cloud`` ``(H, W)`` as float32, ``shown`` ``(2, H, W)`` as bool, ``target``
    ``(h, w)`` and ``index`` (position in the data set) as int64, ``cover`` as float32. An absent
    modality is all zeros. One that the student must do without keeps its pixels; where that is,
    ``shown`` is False, and the availability is what is left. The target is `IGNORED` where no
    modality shows the student the ground.

    Args:
        maps: The windows.
        optical: Contract of the optical modality.
        sar: Contract of the SAR modality.
        draws: Epochs after which the draws repeat and are kept in memory; 0: never.
    """

    def __init__(
        self, maps: DegradedMaps, optical: ModalitySpec, sar: ModalitySpec, draws: int = 0
    ) -> None:
        super().__init__(draws)
        self.maps, self._optical, self._sar = maps, optical, sar

    def __len__(self) -> int:
        return len(self.maps)

    def draw(self, position: int, epoch: int) -> Sample:
        """Return the normalized window at a position as drawn for an epoch."""
        found = self.maps.get(position, epoch)
        sample = found.sample
        clear, _ = self._normalized(sample.clear, self._optical)
        optical, optical_share = self._normalized(sample.optical, self._optical)
        sar, sar_share = self._normalized(sample.sar, self._sar)
        if found.clouds_simulated:  # they were laid over pixels without data too
            optical *= clear.any(dim=0)
        shares = {"optical": optical_share, "sar": sar_share}
        there = {"optical": optical.any(dim=0).numpy(), "sar": sar.any(dim=0).numpy()}
        shown = {name: np.ones(sample.size, bool) for name in there}
        if found.lost is not None:
            shown[found.lost] &= False if found.gap is None else ~found.gap
            seen = there[found.lost] & shown[found.lost]
            shares[found.lost] = min(shares[found.lost], float(seen.mean()))
        ground = np.any([there[name] & shown[name] for name in there], axis=0)
        target = np.where(repeated(ground, sample.target.shape), sample.target, IGNORED)
        assert sample.cloud is not None
        return {
            "clear": clear,
            "optical": optical,
            "sar": sar,
            "availability": torch.tensor(list(shares.values()), dtype=torch.float32),
            "cloud": torch.from_numpy(np.ascontiguousarray(sample.cloud, np.float32)),
            "shown": torch.from_numpy(np.stack(list(shown.values()))),
            "target": torch.from_numpy(target.astype(np.int64)),
            "cover": torch.tensor(found.cover, dtype=torch.float32),
            "index": torch.tensor(found.index),
        }

    def _normalized(self, pixels: Array | None, spec: ModalitySpec) -> tuple[torch.Tensor, float]:
        size = self.maps.crop
        out = np.empty((1, len(spec.channels), size, size), np.float32)
        image = None if pixels is None else np.ascontiguousarray(pixels)
        stats = preprocess([image], spec, out, threads=1)[0]
        return torch.from_numpy(out[0]), float(stats.availability)


def draw_gap(size: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Draw where a modality ends: a side, a corner or a strip, cut by straight lines.

    Returns:
        ``(H, W)`` bool, True for a tenth to seven tenths of the pixels.
    """
    angle, share = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7)
    start = 1 - share if rng.random() < 0.5 else rng.uniform(0, 1 - share)
    rows, columns = np.indices(size)
    along = np.cos(angle) * rows + np.sin(angle) * columns
    first, last = np.quantile(along, (start, start + share))
    return np.asarray((along >= first) & (along <= last))


def estimated_mask(optical: Array, bands: tuple[str, ...]) -> Mask:
    """Return ``(H, W)`` bool: where the pixels look like cloud more than like ground."""
    scale = np.float32(1.0 / UNITS_PER_REFLECTANCE.get(optical.dtype.str[1:], 1.0))
    return np.asarray(cloud_likelihood(optical * scale, bands) > 0.5)


def _turned(sample: MapSample, rng: np.random.Generator) -> MapSample:
    """Turn and mirror all images of a sample alike."""
    quarter, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def turn(image: Array | None) -> Array | None:
        if image is None:
            return None
        turned = np.rot90(image, quarter, axes=(-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)

    images = {name: turn(value) for name, value in vars(sample).items()}
    return MapSample(**images)  # type: ignore[arg-type]
