"""How often is the flag UNFAMILIAR raised: on familiar patches, on noise, on real pairs?

Asks a finished bundle through the public runtime, its float and its INT8 graph. Patches of the data
set are those of a split that the model never saw; their clouds, and SAR where the set has none, are
simulated. What is no scene is drawn from a fixed seed, shown alone, without the other modality.

    python docs/familiarity.py BUNDLE DATA [--split test] [--triplets FILE.npz] [--sar FILE.npz]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from esccs_edge import Bundle, Classifier
from esccs_edge.contracts.bundle_files import INT8_ONNX
from esccs_edge.contracts.modality import ModalitySpec
from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS
from esccs_edge.contracts.values import Flag
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.samples.degraded import Degradation, DegradedPairs

Patch = np.ndarray[Any, Any]
Pair = tuple[Patch | None, Patch | None]
SIDE = 64
COUNT = 200
SEED = 20250107
CHUNK = 64
#: Simulated sky over the patches of the data set.
SKIES = {
    "clear": Degradation(cover=0.0),
    "clouded": Degradation(cover="stratified"),
    "overcast": Degradation(cover=(0.95, 1.0)),
}


def main() -> None:
    """Print one table per group of inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--triplets", help="real pairs: id, s1, cloudy, clear (dB x 100, DN)")
    parser.add_argument("--sar", help="real SAR chips: an array (N, 2, H, W) of dB x 100")
    given = parser.parse_args()
    bundle = Bundle.open(given.bundle)
    precisions = ["fp32", *["int8"] * (INT8_ONNX in bundle.manifest.files)]
    asked = {name: Classifier(given.bundle, backend="cpu", precision=name) for name in precisions}
    optical, sar = bundle.manifest.modalities.values()
    familiar = dict(familiar_pairs(given.data, given.split, optical, sar))
    _print("alarms, %, familiar", familiar, asked)
    known = familiar["clear"]
    _print("found, %, optical alone", optical_oddities([o for o, _ in known], optical), asked)
    if patches := [s for _, s in known if s is not None]:
        _print("found, %, SAR alone", sar_oddities(patches, sar), asked)
    if given.triplets:
        _print("alarms, %, real", dict(real_pairs(given.triplets, optical)), asked)
    if given.sar:
        _print("alarms, %, real SAR alone", dict(real_chips(given.sar)), asked)


def familiar_pairs(
    data: str, split: str, optical: ModalitySpec, sar: ModalitySpec
) -> Iterator[tuple[str, list[Pair]]]:
    """Yield a name and the pairs of the split under one kind of sky."""
    dataset = open_dataset(data, 0)
    bands = [dataset.optical_channels.index(name) for name in optical.channels]
    for name, degradation in SKIES.items():
        pairs = list(DegradedPairs(dataset, split, degradation, SEED).labeled())
        yield name, [(pair.optical[bands], pair.sar) for pair in pairs if pair.optical is not None]


def optical_oddities(patches: Sequence[Patch], spec: ModalitySpec) -> dict[str, list[Pair]]:
    """Return what is no optical scene, by name, as digital numbers."""
    rng = np.random.default_rng(SEED)
    scale = 1 / (spec.dn_scale or 1)
    count = len(spec.channels)
    shape = count, SIDE, SIDE
    mean, std = (np.reshape(v, (-1, 1, 1)) * scale for v in (spec.mean, spec.std))
    level = lambda: rng.uniform(0.001, 1.0) * scale  # noqa: E731
    some = lambda: patches[rng.integers(len(patches))]  # noqa: E731
    drawn: dict[str, Callable[[], Patch]] = {
        "uniform noise": lambda: rng.uniform(1, scale, shape),
        "Gaussian noise around the means": lambda: mean + std * rng.normal(size=shape),
        "gray Gaussian noise": lambda: level() * (1 + 0.2 * rng.normal(size=shape[1:])),
        "half salt and pepper": lambda: _peppered(some(), 0.5, (1, scale), rng),
        "tenth salt and pepper": lambda: _peppered(some(), 0.1, (1, scale), rng),
        "constant, gray": lambda: np.full(shape, level()),
        "constant, nearly zero": lambda: np.full(shape, rng.integers(1, 20)),
        "constant, the means": lambda: mean * rng.uniform(0.3, 3.0),
        "constant, the mean of a patch": lambda: some().mean(axis=(1, 2), keepdims=True),
        "gray square on gray": lambda: _square(level(), level()),
        "gray ramp": lambda: np.linspace(level(), level(), SIDE),
        **{f"checkerboard of {side}": _boards(side, level) for side in (1, 4, 8, 16)},
        "shuffled bands": lambda: some()[rng.permutation(count)],
        "bands in reverse": lambda: some()[::-1],
        "shuffled pixels, each band": lambda: rng.permuted(_flat(some()), axis=1).reshape(shape),
        "shuffled pixels": lambda: _flat(some())[:, rng.permutation(SIDE**2)].reshape(shape),
    }

    def dn(values: Patch) -> Patch:
        whole = np.rint(np.clip(np.broadcast_to(values, shape), 1, 65535))
        return np.ascontiguousarray(whole.astype(np.uint16))

    return {name: [(dn(draw()), None) for _ in range(COUNT)] for name, draw in drawn.items()}


def sar_oddities(patches: Sequence[Patch], spec: ModalitySpec) -> dict[str, list[Pair]]:
    """Return what is no SAR scene, by name, in dB."""
    rng = np.random.default_rng(SEED)
    count = len(spec.channels)
    shape = count, SIDE, SIDE
    mean, std = (np.reshape(v, (-1, 1, 1)) for v in (spec.mean, spec.std))
    level = lambda: rng.uniform(-30.0, -2.0)  # noqa: E731
    some = lambda: patches[rng.integers(len(patches))]  # noqa: E731
    drawn: dict[str, Callable[[], Patch]] = {
        "uniform noise": lambda: rng.uniform(-34.0, 0.0, shape),
        "Gaussian noise around the means": lambda: mean + std * rng.normal(size=shape),
        "half salt and pepper": lambda: _peppered(some(), 0.5, (-34.0, 0.0), rng),
        "tenth salt and pepper": lambda: _peppered(some(), 0.1, (-34.0, 0.0), rng),
        "constant": lambda: rng.uniform(-30.0, -2.0, (count, 1, 1)),
        "constant, the means": lambda: mean + rng.normal() * std,
        **{f"checkerboard of {side}": _boards(side, level) for side in (1, 4, 8, 16)},
        "channels in reverse": lambda: some()[::-1],
        "shuffled pixels, each channel": lambda: rng.permuted(_flat(some()), axis=1).reshape(shape),
        "shuffled pixels": lambda: _flat(some())[:, rng.permutation(SIDE**2)].reshape(shape),
    }

    def db(values: Patch) -> Patch:
        low, high = spec.clip
        inside = np.clip(np.broadcast_to(values, shape), low, min(high, -0.01))
        return np.ascontiguousarray(inside.astype(np.float32))

    return {name: [(None, db(draw())) for _ in range(COUNT)] for name, draw in drawn.items()}


def real_pairs(path: str, optical: ModalitySpec) -> Iterator[tuple[str, list[Pair]]]:
    """Yield the chips of each real scene: its clear and its cloudy image, and its SAR, alone."""
    bands = [SENTINEL2_L1C_BANDS.index(name) for name in optical.channels]
    with np.load(path) as arrays:
        scenes = {name: arrays[name] for name in ("id", "clear", "cloudy", "s1")}
    for i, name in enumerate(scenes["id"]):
        yield f"{name} clear", [(chip[bands], None) for chip in _chips(scenes["clear"][i])]
        yield f"{name} cloudy", [(chip[bands], None) for chip in _chips(scenes["cloudy"][i])]
        yield f"{name} SAR", [(None, _from_hundredths(chip)) for chip in _chips(scenes["s1"][i])]


def real_chips(path: str) -> Iterator[tuple[str, list[Pair]]]:
    """Yield the complete chips of each real SAR scene."""
    with np.load(path) as arrays:
        names = next((arrays[key] for key in arrays if arrays[key].dtype.kind == "U"), None)
        scenes = next(arrays[key] for key in arrays if arrays[key].ndim == 4)
    for i, scene in enumerate(scenes):
        chips = [_from_hundredths(chip) for chip in _chips(scene)]
        complete = [(None, chip) for chip in chips if np.isfinite(chip).all()]
        if complete:
            yield str(i if names is None else names[i]), complete


def unfamiliar_share(classifier: Classifier, pairs: Sequence[Pair]) -> float:
    """Return the share of pairs that raise the flag; a refused pair counts as found."""
    raised = 0
    for start in range(0, len(pairs), CHUNK):
        opticals, sars = zip(*pairs[start : start + CHUNK], strict=True)
        for answer in classifier.classify_batch(opticals, sars):
            raised += isinstance(answer, Exception) or Flag.UNFAMILIAR in answer.flags
    return raised / len(pairs)


def _print(title: str, groups: dict[str, list[Pair]], asked: dict[str, Classifier]) -> None:
    print(f"{title:<34}{'patches':>9}" + "".join(f"{name:>8}" for name in asked))
    totals = np.zeros(len(asked))
    for name, pairs in groups.items():
        shares = [100 * unfamiliar_share(classifier, pairs) for classifier in asked.values()]
        totals += np.array(shares) * len(pairs)
        print(f"{name:<34}{len(pairs):>9}" + "".join(f"{share:8.1f}" for share in shares))
    count = sum(map(len, groups.values()))
    print(f"{'all':<34}{count:>9}" + "".join(f"{total / count:8.1f}" for total in totals) + "\n")


def _peppered(
    patch: Patch, share: float, values: tuple[float, float], rng: np.random.Generator
) -> Patch:
    chance = rng.random(patch.shape[1:])
    dark, bright = chance < share / 2, chance > 1 - share / 2
    return np.where(dark, values[0], np.where(bright, values[1], patch))


def _square(outside: float, inside: float) -> Patch:
    patch = np.full((SIDE, SIDE), outside)
    patch[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = inside
    return patch


def _boards(side: int, level: Callable[[], float]) -> Callable[[], Patch]:
    place = np.arange(SIDE) // side
    fields = (place[:, None] + place) % 2
    return lambda: np.where(fields, level(), level())


def _flat(patch: Patch) -> Patch:
    return patch.reshape(len(patch), -1)


def _chips(scene: Patch) -> list[Patch]:
    rows, columns = (range(0, size - SIDE + 1, SIDE) for size in scene.shape[1:])
    return [scene[:, y : y + SIDE, x : x + SIDE] for y in rows for x in columns]


def _from_hundredths(chip: Patch) -> Patch:
    return np.where(chip > -31900, chip / np.float32(100), np.float32(np.nan)).astype(np.float32)


if __name__ == "__main__":
    main()
