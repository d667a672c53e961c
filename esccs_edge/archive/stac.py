"""A STAC ItemCollection as a work list: one item per scene, one asset per modality.

An item's optical raster is the asset with the key ``optical``, in letters of any case, else the
one with the role ``optical``; likewise ``sar``. Either may be missing. An href is a path relative
to the collection's file, an absolute path or a ``file:`` address, with or without ``%20`` for a
space; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..contracts.json_text import parsed_json
from ..errors import InputError
from ..system.regular_file import read_regular
from .paging import has_next, stated_count
from .scene import ArchiveScene

#: A million items and more.
MAX_LIST_BYTES = 1 << 30


def scenes_of_collection(file: Path) -> list[ArchiveScene]:
    """Return the scenes of an ItemCollection, in its order.

    Raises:
        InputError: Not a JSON FeatureCollection, one page of several, or an item has no id.
    """
    document = _json(file)
    found = document.get("type") if isinstance(document, dict) else type(document).__name__
    if found != "FeatureCollection" or not isinstance(document.get("features"), list):
        raise InputError(
            f"{file} is a JSON {found}, expected a STAC ItemCollection",
            hint="Its type is FeatureCollection and its features are the items",
        )
    _require_whole(document, file)
    items = enumerate(document["features"])
    return [scene_of_item(item, i, str(file), file.parent) for i, item in items]


def _require_whole(document: dict[str, Any], file: Path) -> None:
    """Refuse one page of a search whose other pages are elsewhere."""
    count, matched = len(document["features"]), stated_count(document)
    leads_on = has_next(document)
    if leads_on or (matched is not None and matched > count):
        raise InputError(
            f"{file} is one page of a search: {count}"
            + (f" of {matched}" if matched is not None and matched > count else "")
            + " items"
            + ", with a link to the next page" * leads_on,
            hint="Fetch all pages into one ItemCollection, for example with pystac-client; to use "
            "this page alone, take away its 'next' link and 'numberMatched'",
        )


def _json(file: Path) -> Any:
    try:
        return parsed_json(read_regular(file, MAX_LIST_BYTES))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error


def scene_of_item(item: Any, i: int, source: str, folder: Path | None) -> ArchiveScene:
    """Return the scene that an item describes, with its problem if no raster can be told.

    Args:
        item: As parsed.
        i: Which one of the list.
        source: The list's file or address.
        folder: What paths are relative to; None: they have to be absolute.

    Raises:
        InputError: It has no id.
    """
    name = item.get("id") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"{source}, feature {i} has id {name!r}, expected a text")
    try:
        optical, sar = (_path(item.get("assets"), key, folder) for key in ("optical", "sar"))
        if optical is None and sar is None:
            raise InputError("the item has neither an optical nor a sar asset")
    except InputError as error:
        return ArchiveScene(name, None, None, str(error))
    return ArchiveScene(name, optical, sar)


def _path(assets: Any, modality: str, folder: Path | None) -> Path | None:
    asset = _asset(assets, modality)
    if asset is None:
        return None
    href = asset.get("href")
    if not isinstance(href, str) or not href:
        raise InputError(f"the {modality} asset has href {href!r}, expected a path")
    if "://" not in href and not href.startswith("file:"):
        if folder is None and not Path(href).is_absolute():
            raise InputError(
                f"the {modality} asset is at {href!r}, expected an absolute path",
                hint="It is relative to an address, and nothing is fetched from there",
            )
        return _existing(Path(href) if folder is None else folder / href)
    try:
        address = urlsplit(href)
    except ValueError as error:  # half an IPv6 address, letters that stand for others, ...
        raise InputError(
            f"the {modality} asset is at {href!r}: {error}, expected a path"
        ) from error
    if address.scheme != "file" or address.netloc not in ("", "localhost"):
        raise InputError(
            f"the {modality} asset is at {href}, expected a file of this machine",
            hint="Fetch it first and give its path",
        )
    return Path(unquote(address.path))


def _existing(path: Path) -> Path:
    """Return a path as written, else as the address that it is by the standard."""
    decoded = Path(unquote(str(path)))
    return decoded if os.path.exists(decoded) and not os.path.exists(path) else path


def _asset(assets: Any, modality: str) -> dict[str, Any] | None:
    listed = assets.items() if isinstance(assets, dict) else ()
    known: dict[str, dict[str, Any]] = {k: asset for k, asset in listed if isinstance(asset, dict)}
    if modality in known:
        return known[modality]
    keys = [key for key in known if key.lower() == modality]
    keys = keys or [key for key, asset in known.items() if modality in _roles(asset)]
    if len(keys) > 1:
        raise InputError(
            f"the assets {keys} are all called {modality!r}, by key or role, expected one",
            hint=f"Give the one to use the key {modality!r}",
        )
    return known[keys[0]] if keys else None


def _roles(asset: dict[str, Any]) -> list[str]:
    roles = asset.get("roles")
    return [str(role).lower() for role in roles] if isinstance(roles, list) else []
