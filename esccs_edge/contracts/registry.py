"""Parts of the package that other packages can add to, by name.

A package adds a part by registering it, or by naming an instance in its metadata under an entry
point group, which is looked at when an unknown name is asked for.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from ..errors import EsccsError


class Named(Protocol):
    """A part with a name."""

    name: str


P = TypeVar("P", bound=Named)


class Registry(Generic[P]):
    """Parts of one kind.

    Args:
        group: Entry point group of other packages' parts.
        what: What a name is called in messages, such as ``"option 'task'"``.
        error: What is raised.
    """

    def __init__(self, group: str, what: str, error: type[EsccsError]) -> None:
        self._group, self._what, self._error = group, what, error
        self._parts: dict[str, P] = {}

    def register(self, part: P) -> None:
        """Make a part known under its name; raises if another one has it."""
        if (known := self._parts.setdefault(part.name, part)) is not part:
            raise self._error(
                f"two parts of {self._group} are called {part.name!r}: {type(known).__name__} and "
                f"{type(part).__name__}"
            )

    def named(self, name: str) -> P:
        """Return a part; raises if there is none of that name."""
        if name not in self._parts:
            from importlib.metadata import entry_points  # Loads the parsers of mail headers.

            for point in entry_points(group=self._group, name=name):
                self.register(point.load())
        if name not in self._parts:
            raise self._error(
                f"{self._what} is {name!r}, expected one of {', '.join(sorted(self._parts))}",
                hint="Install the package that adds it, or the version of esccs-edge that knows it",
            )
        return self._parts[name]
