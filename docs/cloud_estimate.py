"""Fit the cloud estimate to s2cloudless masks, and say how far it agrees on places not fitted.

s2cloudless made the masks of `triplets.npz`; it is the reference here, not the truth. Clear
partners of the triplets and EuroSAT patches are clear sky. Every place weighs the same.

    python docs/cloud_estimate.py ../shared/data
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS as BANDS
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.samples import cloud_cover as estimate

#: Last patch number of each place, by eye.
PLACES = {746: "316-746", 2266: "2266", 2729: "2729", 4438: "4065-4438", 5349: "5254-5349",
          7657: "7264-7657"}  # fmt: skip
#: (gain, haze in blue) that the fit sees each image under.
LIGHTS = ((1.0, 0.0), (0.8, 0.015), (1.2, -0.005))
KINDS = ("cloudy", "clear", "EuroSAT")
#: Weight of the kinds: as much clear ground as cloudy images.
KIND_WEIGHTS = (1.0, 0.5, 0.5)
EUROSAT_STEP = 4
RIDGE = 1e-3


@dataclass(frozen=True)
class Triplets:
    """Real cloudy and clear images: digital numbers ``(N, 13, 256, 256)`` and cloud masks."""

    cloudy: np.ndarray
    clear: np.ndarray
    mask: np.ndarray
    place: np.ndarray

    @classmethod
    def read(cls, data: Path) -> Triplets:
        """Read what the SAR is left out of."""
        with np.load(data / "sen12ms-cr" / "triplets.npz") as stored:
            cloudy, clear, mask = (stored[name] for name in ("cloudy", "clear", "mask"))
            numbers = [int(number) for number in stored["id"]]
        place = [PLACES[min(last for last in PLACES if last >= number)] for number in numbers]
        return cls(cloudy, clear, mask > 0, np.array(place))


@dataclass(frozen=True)
class Pixels:
    """Smoothed features ``(n, F)``, whether the mask says cloud, place and kind of each pixel."""

    features: np.ndarray
    cloudy: np.ndarray
    place: np.ndarray
    kind: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """Weights that give each kind its share and each place the same."""
        weights = np.zeros(len(self.cloudy))
        for kind, share in enumerate(KIND_WEIGHTS):
            places = np.unique(self.place[self.kind == kind])
            for place in places:
                chosen = (self.kind == kind) & (self.place == place)
                weights[chosen] = share / len(places) / chosen.sum()
        return weights / weights.mean()


def main(data: Path) -> None:
    """Print coefficients fitted on all places, and the agreement of the fits that left one out."""
    images = list(labeled_images(Triplets.read(data), data))
    for used in estimate.COEFFICIENTS:
        pixels = gather(images, used)
        rounded = tuple(round(float(value), 2) for value in fit(pixels))
        print(f"{'+'.join(used)}: {rounded}")
        for place, row in agreement(images, used, {"": LIGHTS[0]})[""].items():
            print(f"  {place:12s} " + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))


def labeled_images(
    triplets: Triplets, data: Path
) -> Iterator[tuple[np.ndarray, np.ndarray, str, int]]:
    """Yield digital numbers, mask, place and kind. EuroSAT cells are dealt out to the places."""
    for number, place in enumerate(triplets.place):
        mask = triplets.mask[number]
        yield triplets.cloudy[number], mask, place, 0
        yield triplets.clear[number], np.zeros_like(mask), place, 1
    eurosat = open_dataset(f"eurosat:{data / 'eurosat-ms'}")
    cells = {cell: number for number, cell in enumerate(sorted(set(eurosat.groups)))}
    names = list(PLACES.values())
    for index in range(0, len(eurosat), EUROSAT_STEP):
        place = names[cells[eurosat.groups[index]] % len(names)]
        yield eurosat.pair(index)[0], np.zeros((64, 64), bool), place, 2


def gather(images, used: tuple[str, ...], lights=LIGHTS, step: int = 3) -> Pixels:
    """Return every ``step``-th pixel of the rows and columns under each light."""
    parts = []
    for dn, mask, place, kind in images:
        for gain, haze in lights:
            light = relit(dn, gain, haze)
            channel = {band: light[BANDS.index(band)] for band in used}
            features = estimate.smoothed(estimate.pixel_features(channel), light)
            chosen = features[:, 1::step, 1::step].reshape(len(features), -1).T
            count = len(chosen)
            parts.append((chosen, mask[1::step, 1::step].ravel(), np.full(count, place),
                          np.full(count, kind)))  # fmt: skip
    return Pixels(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def relit(dn: np.ndarray, gain: float, haze: float) -> np.ndarray:
    """Return reflectance under another light; haze falls from blue to red, cirrus has none."""
    light = dn * np.float32(1e-4 * gain)
    for band, share in {"B02": 1.0, "B03": 0.7, "B04": 0.5, "B08": 0.25}.items():
        light[BANDS.index(band)] += np.float32(haze * share)
    return light


def fit(pixels: Pixels) -> np.ndarray:
    """Return logistic coefficients and the constant, by Newton steps on scaled features."""
    mean, std = pixels.features.mean(axis=0), pixels.features.std(axis=0)
    scaled = np.c_[(pixels.features - mean) / std, np.ones(len(pixels.cloudy))]
    weights, found = pixels.weights, np.zeros(scaled.shape[1])
    for _ in range(12):
        probability = 1 / (1 + np.exp(-np.clip(scaled @ found, -30, 30)))
        slope = scaled.T @ (weights * (pixels.cloudy - probability)) / len(weights) - RIDGE * found
        bend = (scaled.T * (weights * probability * (1 - probability))) @ scaled / len(weights)
        found += np.linalg.solve(bend + RIDGE * np.eye(len(found)), slope)
    slopes = found[:-1] / std
    return np.append(slopes, found[-1] - slopes @ mean)


def agreement(images, used: tuple[str, ...], lights: Mapping[str, tuple[float, float]]) -> dict:
    """Return by light and place what fits on the other places say at a likelihood of 0.5."""
    seen, found = gather(images, used), {}
    parts = (seen.features, seen.cloudy, seen.place, seen.kind)
    fits = {
        place: fit(Pixels(*(part[seen.place != place] for part in parts)))
        for place in PLACES.values()
    }
    for name, light in lights.items():
        judged = gather(images, used, (light,))
        said = np.zeros(len(judged.cloudy), bool)
        for place, (*slopes, constant) in fits.items():
            asked = judged.place == place
            said[asked] = judged.features[asked] @ slopes + constant > 0
        rows = {place: _counted(said, judged, judged.place == place) for place in fits}
        found[name] = {**rows, "all": _counted(said, judged, np.ones_like(said))}
    return found


def _counted(said: np.ndarray, judged: Pixels, chosen: np.ndarray) -> dict[str, float]:
    cloudy, clear, eurosat = (chosen & (judged.kind == kind) for kind in range(len(KINDS)))
    both = (said & judged.cloudy)[cloudy].sum()
    return {
        "cover": judged.cloudy[cloudy].mean(),
        "recall": both / max(1, judged.cloudy[cloudy].sum()),
        "precision": both / max(1, said[cloudy].sum()),
        "false alarms, clear": said[clear].mean(),
        "false alarms, EuroSAT": said[eurosat].mean(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
