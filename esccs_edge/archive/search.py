"""A search of a live STAC API as a work list: its pages are fetched one after the other.

What is fetched are items alone. Their rasters have to lie on this machine, at absolute paths or
``file:`` addresses, since a run knows finished scenes by the content of their files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from ..errors import InputError, MissingDependencyError
from .paging import stated_count
from .scene import ArchiveScene
from .stac import scene_of_item

try:
    from pystac_client.exceptions import APIError
    from pystac_client.item_search import ItemSearch
    from pystac_client.stac_api_io import StacApiIO
except ImportError as error:
    raise MissingDependencyError.for_extra(
        "pystac-client", "stac", "Searching a STAC API", error
    ) from error

#: What may stand after the question mark, as STAC API names it.
ASKED = ("collections", "ids", "bbox", "datetime", "limit")
#: Seconds until an API must answer.
TIMEOUT_S = 30
#: As many items as a list may hold.
MOST_ITEMS = 1_000_000


def scenes_of_search(address: str) -> list[ArchiveScene]:
    """Return the scenes of a search, in the order of its pages.

    Args:
        address: Of the API's ``search``, with what is asked for:
            ``https://stac.example/search?collections=pairs&bbox=1,41,2,42``.

    Raises:
        InputError: The API does not answer, or not with items; its pages repeat, or hold fewer
            items than it says there are.
    """
    found: list[ArchiveScene] = []
    seen: set[str] = set()
    stated: int | None = None
    for page in _pages(address):
        stated = stated_count(page) or stated
        for item in page["features"]:
            scene = scene_of_item(item, len(found), address, folder=None)
            if scene.id in seen:
                raise InputError(
                    f"{address} gave the item {scene.id!r} twice, expected pages that differ",
                    hint="Its pages repeat, or the catalog changed meanwhile: search again",
                )
            seen.add(scene.id)
            found.append(scene)
        if len(found) > MOST_ITEMS:
            raise InputError(
                f"{address} gave more than {MOST_ITEMS} items", hint="Ask for less at once"
            )
    if stated is not None and stated > len(found):
        raise InputError(
            f"{address} gave {len(found)} items, expected the {stated} that it says there are",
            hint="A page is missing: search again",
        )
    return found


def _pages(address: str) -> Iterator[dict[str, Any]]:
    parts = urlsplit(address)
    asked = parse_qs(parts.query, keep_blank_values=True)
    unknown = [name for name in asked if name not in ASKED]
    if unknown or any(len(values) > 1 for values in asked.values()):
        raise InputError(
            f"{address} asks for {', '.join(unknown or asked)}, expected each of "
            f"{', '.join(ASKED)} at most once"
        )
    given: dict[str, Any] = {name: values[0] for name, values in asked.items()}
    try:
        if "limit" in given:
            given["limit"] = int(given["limit"])
        search = ItemSearch(
            urlunsplit(parts._replace(query="", fragment="")),
            method="GET",
            stac_io=StacApiIO(timeout=TIMEOUT_S, max_retries=2),
            **given,
        )
        for page in search.pages_as_dicts():
            if not isinstance(page.get("features"), list):
                raise ValueError("a page without a list of features")
            yield page
    except (APIError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{address} cannot be searched: {error}",
            hint="Expected is the address of a STAC API's search that answers with items",
        ) from error
