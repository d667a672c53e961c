"""What a model would say to the pixels of a data set, asked before any time is spent on them.

The same checks as in front of a model: what `classify` refuses, training and evaluation refuse too,
with the name of the pair. What would be flagged is counted and told.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from esccs_edge.contracts.modality import Modalities, ModalitySpec, SampleSpec, modality_title
from esccs_edge.contracts.types import Array
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import InputError
from esccs_edge.pixels.checks import checked_pixels
from esccs_edge.pixels.radiometry import judged_without_model

from ..datasets.dataset import PairDataset, RawPair

#: Labels that writers of tables put where there is none, in small letters.
_NO_LABEL = frozenset(("nan", "none", "null", "na", "n/a", "<na>", "nat", "?", "-"))


def require_trainable(dataset: PairDataset, modalities: Modalities, sample: SampleSpec) -> None:
    """Refuse a data set that cannot be learned from; tell what looks wrong on standard error.

    Args:
        dataset: Every pair is read.
        modalities: Contracts, as measured on the data set.
        sample: The grid of a pair.

    Raises:
        InputError: Values or shapes that a model refuses, or the same pixels in two splits.
        RasterError: A file cannot be read.
    """
    ideal = {name: as_the_instrument(spec) for name, spec in modalities.items()}
    suspect = []
    homes, repeats = ImageHomes(dataset), Repeats(dataset)
    for index in range(len(dataset)):
        pair = dataset.pair(index)
        homes.add(index, pair)
        repeats.add(index, pair)
        if Flag.RADIOMETRY_SUSPECT in judged_pair(dataset, index, pair, ideal, sample):
            suspect.append(index)
    notes = [*label_notes(dataset), *repeats.notes()]
    if suspect:
        notes.append(
            f"the values of {len(suspect)} of {len(dataset)} pairs look wrong (RADIOMETRY_SUSPECT),"
            f" the first in {pair_name(dataset, suspect[0])}; see docs/input-checks.md"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)


def require_judgeable(
    dataset: PairDataset,
    indices: Iterable[int],
    modalities: Modalities,
    sample: SampleSpec,
    only: str | None = None,
) -> None:
    """Refuse a data set of which a model would refuse a pair that it is to be judged by.

    Args:
        dataset: The data set.
        indices: Pairs that will be shown.
        modalities: Contracts of the model.
        sample: Its grid.
        only: The modality that is shown; None: both.

    Raises:
        InputError: Values, shapes or types that the model refuses.
        RasterError: A file cannot be read.
    """
    for index in indices:
        optical, sar = dataset.pair(index)
        shown = (None if only == "sar" else optical, None if only == "optical" else sar)
        judged_pair(dataset, index, shown, modalities, sample)


def pair_name(dataset: PairDataset, index: int) -> str:
    """Return what to call a pair in a message: its files, where it has some."""
    named = getattr(dataset, "pair_name", None)
    return f"pair {index} of {dataset.name}" if named is None else str(named(index))


def judged_pair(
    dataset: PairDataset, index: int, pair: RawPair, modalities: Modalities, sample: SampleSpec
) -> set[Flag]:
    """Return the flags that a model would raise on a pair.

    Raises:
        InputError: It would refuse the pair; the message names it.
    """
    channels = dataset.optical_channels, dataset.sar_channels
    pixels: dict[str, Array | None] = {}
    for (name, spec), image, found in zip(modalities.items(), pair, channels, strict=True):
        pixels[name] = image
        if image is not None and tuple(found) != spec.channels:
            pixels[name] = image[[list(found).index(channel) for channel in spec.channels]]
    try:
        return judged_without_model(checked_pixels(pixels, modalities, sample), modalities)
    except InputError as error:
        raise InputError(
            f"{pair_name(dataset, index)}: {error.message}", hint=error.hint
        ) from error


def as_the_instrument(spec: ModalitySpec) -> ModalitySpec:
    """Give cirrus and cross-polarization means below the others, whatever these data measure.

    Else a data set in which all bands are in another order would be taken for what is right.
    """
    return replace(spec, mean=tuple(-1.0 * (name in ("B10", "VH")) for name in spec.channels))


class ImageHomes:
    """Remembers in which split each image is; one that does not vary may stand in several."""

    def __init__(self, dataset: PairDataset) -> None:
        self._dataset = dataset
        self._seen: dict[bytes, int] = {}

    def add(self, index: int, pair: RawPair) -> None:
        """Remember the images of a pair.

        Raises:
            InputError: One of them stands in another split too.
        """
        splits = self._dataset.splits
        for name, pixels in zip(("optical", "sar"), pair, strict=True):
            if pixels is None or not splits[index] or (pixels == pixels.flat[0]).all():
                continue
            content = np.ascontiguousarray(pixels)
            digest = hashlib.blake2b(content.tobytes(), digest_size=16, salt=name.encode()).digest()
            other = self._seen.setdefault(digest, index)
            if splits[other] and splits[other] != splits[index]:
                raise InputError(
                    f"{pair_name(self._dataset, other)} in split {splits[other]!r} and "
                    f"{pair_name(self._dataset, index)} in {splits[index]!r} hold the same "
                    f"{modality_title(name)} pixels, expected each image in one split",
                    hint="Keep copies of an image in one group and one split, or judging is done "
                    "on what was learned",
                )


def label_notes(dataset: PairDataset, *, is_taught: bool = False) -> Iterable[str]:
    """Yield what looks wrong about the labels, in words.

    Args:
        dataset: The data set.
        is_taught: Whether a model that knows the classes already is to read it.
    """
    labels, splits = np.asarray(dataset.labels), np.asarray(dataset.splits)
    taught = {dataset.classes[k] for k in labels[(splits == "train") & (labels >= 0)]}
    untaught = [name for name in dataset.classes if name not in taught]
    if untaught and not is_taught:
        yield f"no training pair has the class {', '.join(untaught)}: it will never be answered"
    if unlike := [name for name in dataset.classes if name.casefold() in _NO_LABEL]:
        yield f"the class {', '.join(unlike)} looks like a missing label: leave its cells empty"
    alike: dict[object, list[str]] = defaultdict(list)
    for name in dataset.classes:
        alike[_read_aloud(name)].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield f"the classes {names} differ in letters alone: are they one?"


def _read_aloud(name: str) -> object:
    """Return what two spellings of one name have in common: no accents, spaces or hidden signs."""
    try:
        return float(name)
    except ValueError:
        letters = unicodedata.normalize("NFKD", name).casefold()
    left_out = ("Mn", "Cf", "Cc", "Zs", "Pd", "Pc")
    return "".join(c for c in letters if unicodedata.category(c) not in left_out).rstrip(".")


class Repeats:
    """Counts pairs of one split that hold the pixels of an earlier pair, and their labels."""

    def __init__(self, dataset: PairDataset) -> None:
        self._dataset = dataset
        self._seen: dict[bytes, int] = {}
        self.count = 0
        self.contradicting: list[tuple[int, int]] = []

    def add(self, index: int, pair: RawPair) -> None:
        """Remember a pair."""
        digest = hashlib.blake2b(digest_size=16)
        for image in pair:
            digest.update(b"none" if image is None else np.ascontiguousarray(image).tobytes())
        first = self._seen.setdefault(digest.digest(), index)
        self.count += first != index
        labels = self._dataset.labels
        if labels[first] != labels[index] and min(labels[first], labels[index]) >= 0:
            self.contradicting.append((first, index))

    def notes(self) -> Iterable[str]:
        """Yield what there is to say, in words."""
        if self.count:
            yield f"{self.count} pairs repeat the pixels of another"
        if self.contradicting:
            first, other = self.contradicting[0]
            labels, classes = self._dataset.labels, self._dataset.classes
            yield (
                f"{len(self.contradicting)} pairs repeat the pixels of another under another "
                f"label, such as {pair_name(self._dataset, other)}: {classes[labels[first]]} and "
                f"{classes[labels[other]]}"
            )
