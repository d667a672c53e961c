"""Class maps made of patches with one class each, where nobody labeled pixels.

Two sources. Labeled patches are laid side by side into mosaics of one class per patch. And a patch
classifier looks at the clear image of real triplets through a window that moves a few pixels at a
time: what it says of all windows over a spot, averaged, is the class of the spot. Both are coarse:
a border is where two patches meet, or where the answers of windows change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from esccs_edge.classifier import Classifier
from esccs_edge.contracts.types import Array
from esccs_edge.contracts.values import Prediction

from ..simulate.sar import simulate_sar, simulate_sar_scene
from .dataset import SPLITS, PairDataset, indices_of
from .map_dataset import IGNORED, LabelMap, repeated
from .stored_samples import StoredSample
from .triplets import Triplets

#: Patches on each side of a mosaic.
SIDE = 4
#: Mosaics that each patch stands in, with other neighbors.
REPEATS = 4
#: Pixels from one window of the patch classifier to the next.
STRIDE = 8
#: What the averaged answer must reach for a spot to teach.
CONFIDENCE = 0.5


def mosaics(patches: PairDataset, seed: int = 0) -> Iterator[StoredSample]:
    """Yield clear scenes of patches side by side, with simulated SAR.

    Patches of a split meet only each other; what does not fill a mosaic is left out. SAR of scenes
    that teach is simulated from pixels and classes, that of all others from pixels alone: what
    knows the classes must not judge.

    Args:
        patches: A data set without SAR whose classes are in `simulate.sar.PROFILES`.
        seed: Of neighbors, turns and SAR.
    """
    for split in sorted(set(patches.splits)):
        rng = np.random.default_rng([seed, SPLITS.index(split)])
        members = indices_of(patches, split)
        order = np.concatenate([rng.permutation(members) for _ in range(REPEATS)])
        count = SIDE * SIDE
        for number, start in enumerate(range(0, len(order) - count + 1, count)):
            chosen = order[start : start + count]
            optical = _side_by_side([_turned(patches.pair(int(i))[0], rng) for i in chosen])
            edge = optical.shape[-1] // SIDE
            labels = np.kron(patches.labels[chosen].reshape(SIDE, SIDE), np.ones((edge, edge), int))
            bands = patches.optical_channels
            if split == "train":
                sar = simulate_sar_scene(optical, bands, labels, patches.classes, rng)
            else:
                sar = simulate_sar(optical, bands, rng)
            name = f"mosaic-{split}-{number}"
            pixels: dict[str, Array | None] = {"optical": optical, "sar": sar}
            yield StoredSample(name, pixels, labels.astype(np.uint8), name, split, 0.0, ("sar",))


def labeled_triplets(classifier: Classifier, triplets: Triplets) -> Iterator[StoredSample]:
    """Yield the clear images of real triplets with their real SAR, labeled by `dense_labels`.

    All of them teach: a place that the classifier learned from judges nothing.
    """
    for number, name in enumerate(triplets.ids):
        one = triplets.triplet(number)
        labels = dense_labels(classifier, one.clear, one.sar)
        pixels = {"optical": one.clear, "sar": one.sar}
        target = repeated(labels, one.clear.shape[1:])
        yield StoredSample(f"triplet-{name}", pixels, target, triplets.groups[number], "train")


def dense_labels(
    classifier: Classifier,
    optical: Array,
    sar: Array,
    stride: int = STRIDE,
    least: float = CONFIDENCE,
) -> LabelMap:
    """Return what a patch classifier says of every spot of an image, under a clear sky.

    Args:
        classifier: Its patches are smaller than the image.
        optical: ``(C, H, W)``; sides are multiples of ``stride``, as is the patch.
        sar: ``(P, H, W)``.
        stride: Pixels from one window to the next, and height and width of a spot.
        least: What the averaged answer must reach for a spot to count.

    Returns:
        ``(H / stride, W / stride)``: the class with the highest mean probability over all windows
        that hold the spot, `IGNORED` where it is below ``least``.
    """
    size, classes = classifier.manifest.sample.height, classifier.manifest.classes
    starts = [range(0, side - size + 1, stride) for side in optical.shape[1:]]
    corners = [(row, column) for row in starts[0] for column in starts[1]]
    answers = classifier.classify_batch(
        *([image[:, r : r + size, c : c + size] for r, c in corners] for image in (optical, sar))
    )
    total = np.zeros((len(classes), *(side // stride for side in optical.shape[1:])))
    seen = np.zeros(total.shape[1:])
    reach = size // stride
    for (row, column), answer in zip(corners, answers, strict=True):
        if not isinstance(answer, Prediction):
            raise answer
        top, left = row // stride, column // stride
        place = slice(top, top + reach), slice(left, left + reach)
        found = np.array([answer.probabilities[name] for name in classes])
        total[(slice(None), *place)] += found[:, None, None]
        seen[place] += 1
    mean = total / seen
    return np.where(mean.max(axis=0) >= least, mean.argmax(axis=0), IGNORED).astype(np.uint8)


def _turned(patch: Array | None, rng: np.random.Generator) -> Array:
    assert patch is not None
    return np.rot90(patch, int(rng.integers(4)), axes=(1, 2))


def _side_by_side(patches: Sequence[Array]) -> Array:
    rows = [np.concatenate(patches[i : i + SIDE], axis=2) for i in range(0, len(patches), SIDE)]
    return np.ascontiguousarray(np.concatenate(rows, axis=1))
