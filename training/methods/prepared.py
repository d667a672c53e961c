"""Networks that several rows of a seed need: trained once, before any of these rows.

Processes share the rows of a seed, and two of them must not train one network at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from .crosswise import with_crosswise
from .esccs_paper import with_paper_auxiliaries
from .shared import Shared

#: What a method may state in `Method.needs` -> how it is trained or loaded.
PREPARED: Mapping[str, Callable[[Shared], Shared]] = MappingProxyType(
    {
        "auxiliaries": Shared.with_auxiliaries,
        "paper auxiliaries": with_paper_auxiliaries,
        "crosswise": with_crosswise,
    }
)
