"""Parts that other packages bring, named ``"package.module:factory"``: encoders and teachers.

A name in the options of a run is the user's own and is imported. A name in a manifest may come
from elsewhere: its code is imported only if it is one of this package or the user names it too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from esccs_edge.errors import InputError, ManifestError

#: Encoders of this package: those that a manifest may name without being asked for.
ENCODERS = (
    "esccs_edge.training.learning.networks:convolutional",
    "esccs_edge.training.learning.pyramid:convolutional",
    "esccs_edge.training.learning.mix_transformer:mix_transformer",
)
_trusted: set[str] = set(ENCODERS)


def imported(name: str, option: str) -> Callable[..., Any]:
    """Import a factory.

    Args:
        name: ``"package.module:factory"``.
        option: Where the name was given, for messages.

    Raises:
        InputError: There is no such factory.
    """
    package, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(package), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"option {option!r} is {name!r}, expected package.module:factory",
            hint=f"Importing it says: {error}",
        ) from None
    if not callable(factory):
        raise InputError(f"option {option!r} is {name!r}, which is no factory: {factory!r}")
    found: Callable[..., Any] = factory
    return found


def trust_encoder(name: str) -> None:
    """Let bundles of this process name a factory of another package.

    Rebuilding a network imports and calls the factory that its manifest names, so a manifest from
    elsewhere may only name one of `ENCODERS` or one that the user has named too.

    Args:
        name: ``"package.module:factory"``.
    """
    _trusted.add(name)


def require_trusted(names: Iterable[str]) -> None:
    """Refuse factories of other packages that the user has not named.

    Raises:
        ManifestError: Nobody has; nothing is imported then.
    """
    if unknown := [name for name in names if str(name) not in _trusted]:
        raise ManifestError(
            f"the manifest names the encoder {unknown[0]!r}, expected one of "
            f"{', '.join(ENCODERS)}: to rebuild the network its code would be imported",
            hint="If the bundle and that code are yours, name it: esccs-edge export BUNDLE "
            "--encoder PACKAGE.MODULE:FACTORY",
        )


def named_encoders(architecture: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an architecture names as ``encoder``, for the whole or for a branch of it."""
    for key, value in architecture.items():
        if key == "encoder":
            yield str(value)
        elif isinstance(value, Mapping):
            yield from named_encoders(value)
