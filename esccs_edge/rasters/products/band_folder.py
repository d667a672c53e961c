"""Rasters without a product around them: a folder or archive of single-band files, or one file.

What the numbers mean is told by tags and names, and where these are silent by the values; what was
taken for granted is noted, and what cannot be known is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from ...contracts.modality import ModalitySpec
from ...contracts.sensors import LOWEST_REFLECTANCE
from ...errors import RasterError
from ..absent import BEYOND_MEASUREMENT, alpha_bands, data_bands
from ..band_words import KNOWN, channels_named
from ..channels import channel_positions, hint_for_lacking
from .container import Container
from .metadata import time_of
from .product import Band, Product, Stating, finest_first
from .sources import open_file, read_errors

_RASTERS = (".tif", ".tiff", ".jp2", ".png")
_DATE = re.compile(r"(?<!\d)(20\d\d)([-_.]?)(\d\d)\2(\d\d)(?!\d)")
_HYP3 = re.compile(r"_RTC\d+_[A-Z]_[gs]([pad])[a-z]{4}_")
#: From this day on products carry an offset, unless they were harmonized.
_OFFSETS_SINCE = datetime(2022, 1, 25, tzinfo=timezone.utc)
#: Pixels looked at to tell a unit, at reduced size.
_LOOK = 512
#: Unit -> where the median of a scene's backscatter lies, be it calm water or a city.
_PLAUSIBLE = {"dB": (-45.0, -0.7), "linear": (10**-4.5, 3.0)}
#: Share of a scene that is clipped to 0 dB, at most; more of it is fill.
_CLIPPED_SHARE = 0.02
#: Half of a scene is never brighter.
_BRIGHTEST_REFLECTANCE = 2.0
_STATE_UNIT = "Say it with --sar-unit dB or --sar-unit linear"


def read_band_folder(container: Container, spec: ModalitySpec, stating: Stating) -> Product:
    """Take a folder or archive of single-band files for a product.

    Args:
        container: The files; others than rasters are left alone.
        spec: Contract of the modality: how numbers without any tag are stored.
        stating: What the user says of them; else the offset of recent products is not guessed.

    Raises:
        RasterError: No file names a band, two name the same, or the numbers are not known.
    """
    found, notes, dates = [], [], []
    others: list[str | None] = [None]
    for name in container.names:
        stem, _, suffix = name.rpartition("/")[2].rpartition(".")
        band = _channel_of_name(stem, spec)
        if f".{suffix.lower()}" not in _RASTERS or band is None or band not in spec.channels:
            others += [band] * (band in KNOWN)
            continue
        file, driver = container.gdal_name(name), container.driver(name)
        with open_file(file, driver) as dataset:
            if dataset.count != 1:
                raise RasterError(
                    f"{file} has {dataset.count} bands, expected one band of {band}",
                    hint="Give that file itself if it holds all bands",
                )
            made, note = _band(dataset, band, (file, driver, 1), spec, stating)
            notes.append(note)
            found.append((band, _pixel(dataset), made))
        dates.append(_date(stem))
    name = container.path.name
    acquired = next((date for date in dates if date is not None), None) or _date(name)
    if not found:
        raise RasterError(
            f"{container.path} is no Sentinel product and holds no raster of one of "
            f"{', '.join(spec.channels)}",
            hint=hint_for_lacking(spec.channels, others, spec)
            or "Names of single-band files must hold the band, such as scene_B02.tif",
        )
    bands = finest_first(found, name)
    if len(days := {f"{date:%Y-%m-%d}" for date in dates if date is not None}) > 1:
        raise RasterError(
            f"{name} holds bands of {' and '.join(sorted(days))}, expected one date",
            hint="Give a folder with the files of one date",
        )
    _require_known_offset(bands, spec, acquired, name, stating)
    level = "L2A" if "MSIL2A" in name.upper() else "L1C" if "MSIL1C" in name.upper() else None
    return Product(
        name,
        bands,
        level=level,
        acquired=acquired,
        notes=tuple(dict.fromkeys(note for note in notes if note)),
    )


def read_one_file(file: str, driver: str, spec: ModalitySpec, stating: Stating) -> Product:
    """Take one raster with all bands for a product.

    Raises:
        RasterError: Its bands do not fit the model, or their numbers are not known.
    """
    name = file.rpartition("/")[2]
    with open_file(file, driver) as dataset:
        numbers = data_bands(dataset, Path(file))
        descriptions = [dataset.descriptions[number - 1] for number in numbers]
        if len(numbers) == 1 and channels_named([*descriptions, None], spec.channels)[0] is None:
            descriptions = [_channel_of_name(name.rpartition(".")[0], spec)]
        bands, notes = [], []
        if descriptions[0] is not None and len(numbers) == 1:
            alone = channels_named([*descriptions, None], spec.channels)[0]
            order = {alone or "": numbers[0]}
        else:
            positions = channel_positions(descriptions, spec, name)
            order = {c: numbers[i] for c, i in zip(spec.channels, positions, strict=True)}
            if not any(channels_named(descriptions, spec.channels)):
                notes.append("bands are not named, the model's order is taken")
        for band, number in order.items():
            made, note = _band(dataset, band, (file, driver, number), spec, stating)
            bands.append(made)
            notes.append(note)
    acquired = _date(name)
    _require_known_offset(bands, spec, acquired, name, stating)
    return Product(
        name,
        tuple(bands),
        acquired=acquired,
        notes=tuple(dict.fromkeys(note for note in notes if note)),
    )


def _channel_of_name(stem: str, spec: ModalitySpec) -> str | None:
    """Return the channel that a file name means; a lone name never counts bands."""
    return channels_named([stem, None], spec.channels)[0]


def _band(
    dataset: Any,
    name: str,
    place: tuple[str, str, int],
    spec: ModalitySpec,
    stating: Stating,
) -> tuple[Band, str]:
    """Return a band with the meaning of its numbers, and a note on what was taken for granted."""
    file, driver, number = place
    nodata, alpha = _marks(dataset, number, spec), next(iter(alpha_bands(dataset)), None)
    scale, offset = dataset.scales[number - 1], dataset.offsets[number - 1]
    if spec.unit == "dB":
        unit, note = _sar_unit(dataset, number, file, spec, stating.sar_unit)
        if unit == "dB" and dataset.nodatavals[number - 1] != 0:
            nodata = _without_measured_zero(nodata, dataset, number, file)
        return Band(name, file, driver, number, unit, scale, offset, nodata, alpha), note
    is_float = np.dtype(dataset.dtypes[number - 1]).kind == "f"
    if is_float or (scale, offset) != (1.0, 0.0):
        _require_told_once(is_float, offset, spec, stating, file)
    if is_float or scale != 1:
        _require_reflectance(dataset, number, file)
    if is_float:
        return Band(name, file, driver, number, "reflectance", scale, offset, nodata, alpha), ""
    if spec.dn_scale is None:
        raise RasterError(f"{file} holds integers, and the model reads none")
    note = ""
    if scale == 1:  # digital numbers still, with or without an offset by tag
        added = offset or spec.dn_offset if stating.dn_offset is None else stating.dn_offset
        scale, offset = spec.dn_scale, added * spec.dn_scale
        if not added and stating.dn_offset is None:
            note = "no metadata: digital numbers with an offset of 0 are assumed"
    elif stating.dn_offset is not None:  # the tag gives the scale alone
        offset = stating.dn_offset * scale
    return Band(name, file, driver, number, "reflectance", scale, offset, nodata, alpha), note


def _without_measured_zero(
    marks: tuple[float, ...], dataset: Any, number: int, file: str
) -> tuple[float, ...]:
    """Leave 0 dB a measurement where it is rare: values clipped to 0, of bright walls, are."""
    shape = min(dataset.height, _LOOK), min(dataset.width, _LOOK)
    with read_errors(file):
        share = (dataset.read(number, out_shape=shape) == 0).mean()
    return marks if share > _CLIPPED_SHARE else tuple(mark for mark in marks if mark != 0)


def _require_told_once(
    is_float: bool, offset: float, spec: ModalitySpec, stating: Stating, file: str
) -> None:
    """Refuse an offset by option of numbers that are no digital numbers or have it by a tag."""
    if stating.dn_offset in (None, spec.dn_offset) and not (offset and stating.dn_offset):
        return
    if is_float:
        raise RasterError(
            f"{file} holds floats, and an offset of {stating.dn_offset:g} was given, which belongs "
            "to digital numbers",
            hint="Leave --baseline out; it changes integers only",
        )
    if offset:
        raise RasterError(
            f"{file} has offset tag {offset:g}, and an offset of {stating.dn_offset:g} was given",
            hint="Leave --baseline out; the tag tells it",
        )


def _marks(dataset: Any, number: int, spec: ModalitySpec) -> tuple[float, ...]:
    """Return stored values of absent pixels: of the tag, and of the model whatever the tag says."""
    found = {dataset.nodatavals[number - 1], spec.nodata} - {None}
    return tuple(sorted(value for value in found if np.isfinite(value)))


def _require_reflectance(dataset: Any, number: int, file: str) -> None:
    """Refuse values that are no reflectance, or would be none after tags that lag behind."""
    values = _look(dataset, number, file)
    after = float(np.median(values)) if values.size else 0.0
    scale, offset = dataset.scales[number - 1], dataset.offsets[number - 1]
    tags = "" if (scale, offset) == (1, 0) else f" by scale {scale:g} and offset {offset:g}"
    if after > _BRIGHTEST_REFLECTANCE or after < LOWEST_REFLECTANCE:
        raise RasterError(
            f"{file} holds values of about {after:.4g}{tags}, expected reflectance around 0..1",
            hint="Store digital numbers as uint16, or set the scale and offset tags right",
        )
    is_float = np.dtype(dataset.dtypes[number - 1]).kind == "f"
    if is_float and scale < 0.1 and (after - offset) / scale < _BRIGHTEST_REFLECTANCE:
        raise RasterError(
            f"{file} has scale tag {scale:g}, but its floats, about {(after - offset) / scale:.3g},"
            " are reflectance already",
            hint="Take the tags away (scale 1, offset 0): they belong to the encoded numbers",
        )


def _sar_unit(
    dataset: Any, number: int, file: str, spec: ModalitySpec, stated: str | None
) -> tuple[str, str]:
    values = _look(dataset, number, file)
    unit, note = stated or _tagged_unit(dataset, number, file), ""
    integers = np.dtype(dataset.dtypes[number - 1]).kind in "iu"
    if unit is None and integers and (values >= 0).all():
        raise RasterError(
            f"{file} holds SAR digital numbers without a calibration",
            hint="Give the whole .SAFE product, whose annotation calibrates it, or an RTC product",
        )
    if unit is None and values.size:
        unit = "dB" if np.median(values) < 0 else "linear"
        note = f"no tag says the unit of the SAR values: by their range they are {unit}"
    unit = unit or spec.stored_unit or spec.unit
    middle = float(np.median(values)) if values.size else None
    low, high = _PLAUSIBLE[unit]
    if middle is not None and not low < middle < high:
        raise RasterError(
            f"{file} has SAR values around {middle:.4g}, which cannot be {unit}", hint=_STATE_UNIT
        )
    return unit, note


def _tagged_unit(dataset: Any, number: int, file: str) -> str | None:
    """Return what tags, band description and file name say, in this order.

    Raises:
        RasterError: They say amplitude.
    """
    tags = {**dataset.tags(), **dataset.tags(number)}
    named = [v for k, v in tags.items() if k.lower() in ("unit", "units", "scale", "unittype")]
    hyp3 = _HYP3.search(file)
    letter = {"p": "power", "d": "db", "a": "amplitude"}[hyp3[1]] if hyp3 else ""
    for text in (
        dataset.units[number - 1],
        *named,
        dataset.descriptions[number - 1],
        letter,
        file.rpartition("/")[2],
    ):
        words = set(re.split(r"[^a-z]+", (text or "").lower()))
        if words & {"db", "decibel", "decibels"}:
            return "dB"
        if words & {"linear", "power", "natural", "intensity"}:
            return "linear"
        if "amplitude" in words:
            raise RasterError(
                f"{file} holds SAR amplitude, expected power or dB",
                hint="Ask for the product as power (gamma0 or sigma0), or square it",
            )
    return None


def _look(dataset: Any, number: int, file: str) -> Any:
    """Return present values at reduced size, with scale and offset applied."""
    shape = min(dataset.height, _LOOK), min(dataset.width, _LOOK)
    with read_errors(file):
        stored = dataset.read(number, out_shape=shape).astype(np.float64)
        present = dataset.read_masks(number, out_shape=shape) > 0
    present &= np.isfinite(stored) & (stored != 0) & (np.abs(stored) < BEYOND_MEASUREMENT)
    values = stored[present] * dataset.scales[number - 1] + dataset.offsets[number - 1]
    return values[values > -1000]


def _require_known_offset(
    bands: Sequence[Band],
    spec: ModalitySpec,
    acquired: datetime | None,
    name: str,
    stating: Stating,
) -> None:
    """Refuse recent digital numbers whose offset nobody told: both answers are plausible."""
    if (
        spec.unit != "reflectance"
        or stating.dn_offset is not None
        or acquired is None
        or acquired < _OFFSETS_SINCE
    ):
        return
    if any(band.scale == spec.dn_scale and band.offset == 0 for band in bands):
        raise RasterError(
            f"{name} is of {acquired:%Y-%m-%d} and has no metadata, so that the offset of its "
            "digital numbers is not known",
            hint="Give --baseline as in the product's name (N0510 is 05.10), or 00.00 if the "
            "numbers were harmonized",
        )


def _date(text: str) -> datetime | None:
    for found in _DATE.finditer(text):
        if (date := time_of(found[1] + found[3] + found[4])) is not None:
            return date
    return None


def _pixel(dataset: Any) -> float:
    return float(abs(dataset.transform.a))
