"""A STAC ItemCollection as a work list: one item per scene, one asset per modality.

An item's optical raster is the asset with the key ``optical``, else the one with the role
``optical``; likewise ``sar``. Either may be missing. An href is a path relative to the collection's
file, an absolute path or a ``file:`` address; nothing is fetched from elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import InputError
from .scene import ArchiveScene


def scenes_of_collection(file: Path) -> list[ArchiveScene]:
    """Return the scenes of an ItemCollection, in its order.

    Raises:
        InputError: Not a JSON FeatureCollection, or an item has no id.
    """
    document = _json(file)
    found = document.get("type") if isinstance(document, dict) else type(document).__name__
    if found != "FeatureCollection" or not isinstance(document.get("features"), list):
        raise InputError(
            f"{file} is a JSON {found}, expected a STAC ItemCollection",
            hint="Its type is FeatureCollection and its features are the items",
        )
    return [_scene(item, i, file) for i, item in enumerate(document["features"])]


def _json(file: Path) -> Any:
    try:
        document = json.loads(file.read_bytes())
        json.dumps(document, ensure_ascii=False).encode()  # refuses half of a surrogate pair
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is not valid JSON: {error}") from error
    return document


def _scene(item: Any, i: int, file: Path) -> ArchiveScene:
    name = item.get("id") if isinstance(item, dict) else None
    if not isinstance(name, str) or not name:
        raise InputError(f"{file}, feature {i} has id {name!r}, expected a text")
    try:
        optical, sar = (_path(item.get("assets"), key, file.parent) for key in ("optical", "sar"))
        if optical is None and sar is None:
            raise InputError("the item has neither an optical nor a sar asset")
    except InputError as error:
        return ArchiveScene(name, None, None, str(error))
    return ArchiveScene(name, optical, sar)


def _path(assets: Any, modality: str, folder: Path) -> Path | None:
    asset = _asset(assets, modality)
    if asset is None:
        return None
    href = asset.get("href")
    if not isinstance(href, str) or not href:
        raise InputError(f"the {modality} asset has href {href!r}, expected a path")
    if "://" not in href and not href.startswith("file:"):
        return folder / href
    address = urlsplit(href)
    if address.scheme != "file" or address.netloc not in ("", "localhost"):
        raise InputError(
            f"the {modality} asset is at {href}, expected a file of this machine",
            hint="Fetch it first and give its path",
        )
    return Path(unquote(address.path))


def _asset(assets: Any, modality: str) -> dict[str, Any] | None:
    listed = assets.items() if isinstance(assets, dict) else ()
    known: dict[str, dict[str, Any]] = {k: asset for k, asset in listed if isinstance(asset, dict)}
    if modality in known:
        return known[modality]
    keys = [key for key, asset in known.items() if modality in _roles(asset)]
    if len(keys) > 1:
        raise InputError(
            f"the assets {keys} all have the role {modality!r}, expected one",
            hint=f"Give the one to use the key {modality!r}",
        )
    return known[keys[0]] if keys else None


def _roles(asset: dict[str, Any]) -> list[Any]:
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else []
