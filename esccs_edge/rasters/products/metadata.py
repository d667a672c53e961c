"""Reads the XML metadata of a product; namespaces differ between versions and are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from xml.etree import ElementTree

from ...errors import RasterError

_HINT = "The file is damaged or not the metadata of a product; download it again"


class Metadata:
    """An XML document, searched by the local names of its elements.

    Args:
        content: The document.
        name: What to call it in errors.

    Raises:
        RasterError: Not well-formed, or it declares entities, which no product does.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise RasterError(f"{name} declares a document type, expected plain XML", hint=_HINT)
        try:
            self._root = ElementTree.fromstring(content)
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise RasterError(f"{name} is not valid XML: {error}", hint=_HINT) from error

    @property
    def root(self) -> str:
        """Local name of the outermost element."""
        return _local(self._root.tag)

    def elements(self, tag: str) -> Iterator[ElementTree.Element]:
        """Return all elements of a local name, in document order."""
        return (found for found in self._root.iter() if _local(found.tag) == tag)

    def texts(self, tag: str) -> list[str]:
        """Return the stripped text of each element of a local name."""
        return [(found.text or "").strip() for found in self.elements(tag)]

    def text(self, *tags: str) -> str | None:
        """Return the text of the first element that has one of the names, or None."""
        for tag in tags:
            for found in self.texts(tag):
                return found
        return None

    def number(self, *tags: str) -> float | None:
        """Return the first such text as a number.

        Raises:
            RasterError: It is none.
        """
        found = self.text(*tags)
        return None if found is None else self.as_number(found, tags[0])

    def as_number(self, text: str, tag: str) -> float:
        """Return a text of this document as a number.

        Raises:
            RasterError: It is none.
        """
        try:
            return float(text)
        except ValueError:
            raise RasterError(
                f"{self.name} has {tag} {text!r}, expected a number", hint=_HINT
            ) from None

    def numbers(self, vector: ElementTree.Element, tag: str) -> list[float]:
        """Return the numbers of a child that lists them.

        Raises:
            RasterError: There is no such child, or its text is no list of numbers.
        """
        for child in vector:
            if _local(child.tag) == tag:
                return [self.as_number(word, tag) for word in (child.text or "").split()]
        raise RasterError(f"{self.name} has a vector without {tag}", hint=_HINT)


def time_of(text: str | None) -> datetime | None:
    """Return a time as products write it, in UTC; None where it is not one."""
    for form in ("%Y-%m-%dT%H:%M:%S", "%Y%m%dT%H%M%S", "%Y-%m-%d", "%Y%m%d"):
        try:
            found = datetime.strptime((text or "").rstrip("Z").partition(".")[0], form)
        except ValueError:
            continue
        return found.replace(tzinfo=timezone.utc)
    return None


def _local(tag: str) -> str:
    return str(tag).rpartition("}")[2]
