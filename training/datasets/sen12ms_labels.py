"""Scene labels of SEN12MS: public text or probability files -> the ten simplified IGBP classes.

A public ``.pkl`` file could run any code when unpickled. The one that is needed here holds a
dictionary of number lists, so everything beyond plain containers and NumPy numbers is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge.errors import InputError

IGBP_SIMPLE = (
    "Forest", "Shrubland", "Savanna", "Grassland", "Wetlands", "Croplands", "Urban", "Snow/Ice",
    "Barren", "Water",
)  # fmt: skip
#: IGBP classes 1 to 17 (in order) -> place in `IGBP_SIMPLE` (Schmitt & Wu, 2021).
SIMPLE_OF_IGBP = (0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 5, 7, 8, 9)
#: Looked for in this order; fractions decide ties that single labels hide.
LABEL_FILES = (
    "IGBP_probability_labels.txt",
    "IGBP_probability_labels.pkl",
    "single_label_IGBPsimple_ClsNum.txt",
    "single-label_IGBPsimple_ClsNum.txt",
)
MAX_LABEL_BYTES = 256 << 20
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
    for name in LABEL_FILES:
        for path in (root / name, root / "labels" / name):
            if path.is_file():
                numbers = _unpickled(path) if path.suffix == ".pkl" else _parsed(path)
                return {
                    key: simple_class(values, key)
                    for key, values in numbers.items()
                    if not purity or purity_of(values, key) >= purity
                }
    raise InputError(
        f"{root} has no label file, expected one of {', '.join(LABEL_FILES)}",
        hint="Copy it from the labels folder of the SEN12MS toolbox",
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
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := _LINE.search(line):
            season, scene, patch, rest = match.groups()
            found[f"{season}/{scene}/{patch}"] = [float(text) for text in _NUMBER.findall(rest)]
    if not found:
        raise InputError(f"{path} names no patch, expected lines like 'ROIs..._p30.tif: 10'")
    return found


def _unpickled(path: Path) -> dict[str, list[float]]:
    content = path.read_bytes()
    if len(content) > MAX_LABEL_BYTES:
        raise InputError(f"{path} is {len(content)} bytes, expected at most {MAX_LABEL_BYTES}")
    try:
        table = _NumbersOnly(io.BytesIO(content)).load()
    except InputError:
        raise
    except Exception as error:  # unpickling damaged bytes raises almost anything
        raise InputError(f"{path} is not a readable pickle: {error}") from error
    if not isinstance(table, Mapping):
        raise InputError(f"{path} holds a {type(table).__name__}, expected a dictionary")
    found = {}
    for name, values in table.items():
        if match := _LINE.match(f"{name} 0"):
            found[f"{match[1]}/{match[2]}/{match[3]}"] = list(np.asarray(values, float).ravel())
    return found


class _NumbersOnly(pickle.Unpickler):
    """Loads containers, numbers and plain NumPy arrays; refuses every other name."""

    _ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed NumPy name."""
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 spells bytes
            return _latin1_bytes
        if (module, name) not in self._ALLOWED:
            raise InputError(
                f"label file asks for {module}.{name}, expected numbers only",
                hint="Do not trust this file; use the .txt form of the labels",
            )
        if name in ("ndarray", "dtype"):
            return getattr(np, name)
        is_first = np.lib.NumpyVersion(np.__version__) < "2.0.0"
        home = import_module("numpy.core.multiarray" if is_first else "numpy._core.multiarray")
        return getattr(home, name)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise InputError(f"label file asks for the codec {encoding!r}, expected latin1")
    return text.encode("latin-1")
