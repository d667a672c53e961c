"""Which rows compete: those that are told the same, and how the reference stands among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..methods.told import require_alike
from .significance import Difference, holm


@dataclass(frozen=True)
class Contest:
    """A reference and its rivals, all told the same.

    Attributes:
        reference: The row that is asked about.
        rivals: The others.
    """

    reference: str
    rivals: tuple[str, ...]

    @classmethod
    def of(cls, reference: str, rows: Sequence[str], told: Mapping[str, Any]) -> Contest:
        """Let rows compete with a reference.

        Args:
            reference: One of the rows.
            rows: All of them.
            told: What each row is told.

        Raises:
            ValueError: A row is told more or less than the reference.
        """
        rivals = [name for name in rows if name != reference]
        require_alike({name: told[name] for name in (reference, *rivals)})
        return cls(reference, tuple(rivals))

    def result(self, lead: Callable[[str, str], Difference]) -> dict[str, Any]:
        """Return how the reference stands: against each rival, the best and their mean.

        Args:
            lead: Two rows -> the first minus the second.

        Returns:
            ``reference``, ``best`` (the rival that it leads least), ``mean_lead``
            and ``rivals``: name -> value, low, high, p and ``p_holm``, which holds for all rivals.
        """
        found = {name: lead(self.reference, name) for name in self.rivals}
        together = holm({name: part.p for name, part in found.items() if part.p is not None})
        best = min(found, key=lambda name: found[name].value)
        return {
            "reference": self.reference,
            "best": best,
            "mean_lead": float(np.mean([part.value for part in found.values()])),
            "rivals": {
                name: {**vars(part), "p_holm": together.get(name)} for name, part in found.items()
            },
        }
