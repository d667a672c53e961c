"""Scene labels of SEN12MS: public text files -> the ten simplified IGBP classes.

The toolbox publishes the same numbers as ``.pkl`` too. Nothing is unpickled here: even a reader
that admits number types only can be made to write where the file wants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esccs_edge.errors import InputError
from esccs_edge.system.regular_file import read_regular

IGBP_SIMPLE = (
    "Forest", "Shrubland", "Savanna", "Grassland", "Wetlands", "Croplands", "Urban", "Snow/Ice",
    "Barren", "Water",
)  # fmt: skip
#: IGBP classes 1 to 17 (in order) -> place in `IGBP_SIMPLE` (Schmitt & Wu, 2021).
SIMPLE_OF_IGBP = (0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9)
#: Looked for in this order; fractions decide ties that single labels hide.
LABEL_FILES = (
    "IGBP_probability_labels.txt",
    "single_label_IGBPsimple_ClsNum.txt",
    "single-label_IGBPsimple_ClsNum.txt",
)
MAX_LABEL_BYTES = 256 << 20
_FOLDERS = (".", "labels")
_LINE = re.compile(r"(ROIs\d+_[a-z]+)_s[12]_(\d+)_p(\d+)(?:\.tif)?['\"]?[\s:,;]+(.*)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_labels(root: Path, purity: float = 0.0) -> dict[str, int]:
    """Return ``season/scene/patch`` -> class place, from the first label file that exists.

    Patches whose most frequent class covers less than ``purity`` of them are left out; that needs
    a file of fractions.

    Text files hold one patch a line, ``ROIs1158_spring_s2_1_p30.tif: 10``: one number is a
    simplified class counted from 1, 10 numbers are simplified fractions, 17 are IGBP fractions.

    Raises:
        InputError: No label file, an unsafe or malformed one, a label out of range, or a purity
            asked of single labels.
    """
    for path in (root / folder / name for name in LABEL_FILES for folder in _FOLDERS):
        if path.is_file():
            return {
                key: simple_class(values, key)
                for key, values in _parsed(path).items()
                if not purity or purity_of(values, key) >= purity
            }
    pickles = [path for folder in _FOLDERS for path in (root / folder).glob("*.pkl")]
    raise InputError(
        f"{root} has no label file, expected one of {', '.join(LABEL_FILES)}",
        hint="Copy it from the labels folder of the SEN12MS toolbox"
        + (f"; {pickles[0].name} is not read, since a pickle can run code" if pickles else ""),
    )


def simple_class(numbers: Sequence[float], where: str) -> int:
    """Return the place in `IGBP_SIMPLE` of one class number, or of the largest fraction.

    Raises:
        InputError: Not 1, 10 or 17 finite numbers, or a class number outside 1 to 10.
    """
    values = np.asarray(numbers, np.float64).ravel()
    if values.size not in (1, 10, 17) or not np.isfinite(values).all():
        raise InputError(f"label of {where} is {list(numbers)}, expected 1, 10 or 17 numbers")
    if values.size == 1:
        if values[0] not in range(1, len(IGBP_SIMPLE) + 1):
            raise InputError(f"label of {where} is {values[0]:g}, expected 1 to 10")
        return int(values[0]) - 1
    if values.size == 17:
        joined = np.bincount(SIMPLE_OF_IGBP, weights=values, minlength=len(IGBP_SIMPLE))
        return int(joined.argmax())
    return int(values.argmax())


def purity_of(numbers: Sequence[float], where: str) -> float:
    """Return the share of a patch that its most frequent simplified class covers.

    Raises:
        InputError: Not 10 or 17 fractions with a positive sum.
    """
    values = np.asarray(numbers, np.float64).ravel()
    if values.size not in (10, 17) or not values.sum() > 0:
        raise InputError(
            f"label of {where} is {list(numbers)}, expected 10 or 17 fractions to tell its purity",
            hint=f"Use {LABEL_FILES[0]}, or ask for no purity",
        )
    if values.size == 17:
        joined = np.bincount(SIMPLE_OF_IGBP, weights=values, minlength=len(IGBP_SIMPLE))
        return float(joined.max() / joined.sum())
    return float(values.max() / values.sum())


def _parsed(path: Path) -> dict[str, list[float]]:
    try:
        text = read_regular(path, MAX_LABEL_BYTES).decode()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from None
    found = {}
    for line in text.splitlines():
        if match := _LINE.search(line):
            season, scene, patch, rest = match.groups()
            found[f"{season}/{scene}/{patch}"] = [float(text) for text in _NUMBER.findall(rest)]
    if not found:
        raise InputError(f"{path} names no patch, expected lines like 'ROIs..._p30.tif: 10'")
    return found
