"""Labels of real chips by an independent judge that saw the clear image of each.

A judge file (``.npz``) holds ``id``, ``row`` and ``col`` of N chips, ``probabilities`` ``(N, K)``
and ``classes``. Its labels judge; nothing may learn from them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from esccs_edge.contracts.npz_file import read_npz
from esccs_edge.errors import InputError

from .triplets import Chips

#: The judge counts as sure of a chip above this probability.
SURE = 0.5


def with_judge(chips: Chips, path: str | Path) -> Chips:
    """Return the chips with the classes that the judge is sure of; -1 for the others.

    Args:
        chips: Real chips; matched by id, row and column.
        path: The judge file.

    Raises:
        InputError: The file is not a judge's, or it is sure of none of these chips.
    """
    try:
        stored = read_npz(path, ("id", "row", "col", "probabilities", "classes"))
        columns = (stored[name].tolist() for name in ("id", "row", "col"))
        places = list(zip(*columns, strict=True))
        probabilities, classes = stored["probabilities"], stored["classes"].tolist()
    except ValueError as error:
        raise InputError(
            f"{path} is not a judge file: {error}",
            hint="Expected an .npz with id, row, col, probabilities and classes",
        ) from error
    answer = np.where(probabilities.max(axis=1) > SURE, probabilities.argmax(axis=1), -1)
    known = dict(zip(places, answer.tolist(), strict=True))
    ids = chips.triplets.ids
    labels = tuple(known.get((ids[c.triplet], c.row, c.column), -1) for c in chips.corners)
    if max(labels) < 0:
        raise InputError(
            f"the judge {path} is sure of none of the {len(chips)} chips of {chips.name}",
            hint="It must know their ids, rows and columns",
        )
    return replace(chips, classes=tuple(map(str, classes)), known_labels=labels)
