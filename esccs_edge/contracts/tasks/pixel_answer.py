"""What every answer with a class per pixel holds, whatever the network looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ManifestError
from ..task import Contract
from ..tensor import NOT_FINITE
from ..types import Bytes
from ..values import NODATA, Flag, flag_names

#: Classes that the short form of an answer names.
NAMED_CLASSES = 3


def require_classes_of_a_byte(contract: Contract) -> None:
    """Refuse a model of more classes than the images of bytes can tell apart.

    Raises:
        ManifestError: It has more.
    """
    if len(contract.classes) > NOT_FINITE:
        raise ManifestError(
            f"manifest field 'classes' has {len(contract.classes)} names, expected at most "
            f"{NOT_FINITE}: a pixel's class is stored in one byte"
        )


@dataclass(frozen=True)
class PixelAnswer:
    """Label and confidence of each pixel, in arrays ``(H, W)`` uint8.

    Attributes:
        label: Position in ``classes``; `NODATA` (255) where nothing had a valid pixel.
        confidence: Temperature-scaled probability of the label in percent; 255 likewise.
        scores: ``(K, H, W)``: probability of each class in units of 1 / 255.
        classes: Class names.
        flags: What to know about the pixels; empty when nothing was unusual.
    """

    label: Bytes
    confidence: Bytes
    scores: Bytes
    classes: tuple[str, ...]
    flags: frozenset[Flag]

    def __repr__(self) -> str:
        shares = sorted(self.class_shares().items(), key=lambda item: -item[1])
        named = [f"{name} {share:.0%}" for name, share in shares[:NAMED_CLASSES] if share > 0]
        size = " x ".join(map(str, self.label.shape))
        parts = (f"{size} pixels", *(named or ["no data"]), *flag_names(self.flags))
        return f"<{type(self).__name__} {', '.join(parts)}>"

    def class_shares(self) -> dict[str, float]:
        """Return class name -> share of the answered pixels; all 0 if there are none."""
        counts = np.bincount(self.label.ravel(), minlength=NODATA + 1)[: len(self.classes)]
        shares = counts / max(int(counts.sum()), 1)
        return dict(zip(self.classes, shares.tolist(), strict=True))

    def mean_share(self, percent: Bytes) -> float | None:
        """Return the mean, from 0 to 1, of an image in percent over the answered pixels, if any."""
        answered = self.label != NODATA
        return float(percent[answered].mean()) / 100 if answered.any() else None

    def to_dict(self) -> dict[str, Any]:
        """Return a summary in JSON form; the arrays themselves are for maps."""
        return {
            "class_shares": self.class_shares(),
            "mean_confidence": self.mean_share(self.confidence),
            "nodata_share": 1 - float((self.label != NODATA).mean()),
            "flags": flag_names(self.flags),
        }
