"""Whether a FeatureCollection is all of a search or one of its pages, as catalogs say it.

STAC and OGC API Features write ``numberMatched`` and a ``next`` link; earlier STAC a ``context``,
``search:metadata`` or ``meta``; OpenSearch catalogs ``properties`` with their own count and links;
OData its ``@`` names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_PARTS = ("context", "search:metadata", "meta", "metadata", "properties", "paging", "pagination")
_IN_ALL = (
    "numberMatched", "matched", "found", "totalResults", "totalFeatures", "total", "@odata.count",
)  # fmt: skip
_HERE = ("numberReturned", "returned")
_NEXT = ("next", "@odata.nextLink")


def stated_count(page: dict[str, Any]) -> int | None:
    """Return how many items a search found, or gave here, as far as its page says; else None."""
    return max(
        (
            count
            for part in _parts(page)
            for name in (*_IN_ALL, *_HERE)
            if (count := _whole(part.get(name))) is not None
        ),
        default=None,
    )


def has_next(page: dict[str, Any]) -> bool:
    """Return whether a page leads to another."""
    return any(
        any(part.get(name) not in (None, "", False) for name in _NEXT)
        or any("next" in relations for relations in _relations(part.get("links")))
        for part in _parts(page)
    )


def _parts(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield page
    yield from (part for name in _PARTS if isinstance(part := page.get(name), dict))


def _relations(links: Any) -> Iterator[set[str]]:
    """Return the words by which each link says what it leads to."""
    if isinstance(links, dict):
        yield {str(name).lower() for name, target in links.items() if target}
    for link in links if isinstance(links, list) else ():
        relation = link.get("rel") if isinstance(link, dict) else None
        words = relation if isinstance(relation, list) else str(relation).split()
        yield {str(word).lower() for word in words}


def _whole(number: Any) -> int | None:
    if isinstance(number, bool) or not isinstance(number, (int, float, str)):
        return None
    try:
        return int(float(number))
    except (ValueError, OverflowError):
        return None
