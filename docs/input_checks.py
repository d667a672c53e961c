"""How often do the checks of values find what is wrong, and how often what is right?

Real patches of public sets, first as they are, then with one fault each that people report. The
pixels are real; the faults are simulated, but for those of TerraMesh, which come with an offset.

    python docs/input_checks.py ../shared/data
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.io import MemoryFile

from esccs_edge import Bundle
from esccs_edge.contracts.manifest import Manifest
from esccs_edge.contracts.sensors import (
    EUROSAT_BANDS,
    SENTINEL2_L1C_BANDS,
    SENTINEL2_L2A_BANDS,
)
from esccs_edge.contracts.stored_units import as_stored
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import EsccsError
from esccs_edge.pixels.band_values import band_values
from esccs_edge.pixels.checks import checked_sample
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.pixels.radiometry import judged_without_model
from esccs_edge.rasters.absent import BETWEEN_SHARE
from esccs_edge.rasters.channels import narrowed
from esccs_edge.rasters.grid import raster_grid
from esccs_edge.rasters.pixel_size import require_pixel_size
from esccs_edge.rasters.reader import read_patch
from esccs_edge.rasters.scaling import Scaling
from esccs_edge.training.datasets import open_dataset

Patches = np.ndarray[Any, Any]
SIDE = 64
#: What counts as flagged. Some SAR patches really lack pixels; none of the optical ones does.
ALARMS = {
    "optical": {Flag.RADIOMETRY_SUSPECT, Flag.PARTIAL_NODATA},
    "sar": {Flag.RADIOMETRY_SUSPECT},
}
MANIFEST = Bundle.open("default").manifest
SORTED_NAMES = ("B02", "B10", "B01", "B03", "B08", "B8A", "B09", "B04", "B05", "B06", "B07", "B11",
                "B12")  # fmt: skip
EXCHANGED = tuple({"B02": "B04", "B04": "B02"}.get(band, band) for band in SENTINEL2_L1C_BANDS)
#: Natural logarithm per dB.
NATURAL = np.float32(np.log(10) / 10)
#: Rows and columns of untagged marks: 64 pixels.
GAP = (slice(None), slice(8, 16), slice(8, 16))


@dataclass(frozen=True)
class Fault:
    """Something wrong: what is done to a patch, and what the user tells."""

    name: str
    change: Callable[[Patches], Patches]
    told: Mapping[str, Any]


def reordered(bands: Sequence[str]) -> Callable[[Patches], Patches]:
    """Return what stores the bands in another order."""
    places = [SENTINEL2_L1C_BANDS.index(band) for band in bands]
    return lambda dn: np.ascontiguousarray(dn[places])


def marked(values: Patches) -> Patches:
    """Put -9999 into 64 pixels."""
    found = values.astype(np.int16 if values.dtype.kind in "iu" else np.float32)
    found[GAP] = -9999
    return found


def ended(dn: Patches) -> Patches:
    """Let B11 and B12 end three columns before the others, as at the edge of a swath."""
    found = dn.copy()
    found[-2:, :, :3] = 0
    return found


def scrambled(dn: Patches) -> Patches:
    """Store the bands in an order drawn for each patch."""
    order = np.random.default_rng(int(dn[:, 0, 0].astype(np.int64).sum())).permutation(len(dn))
    return np.ascontiguousarray(dn[order])


def stretched(low: float, high: float, **axes: Any) -> Callable[[Patches], Patches]:
    """Return what draws the values between two percentiles out to 0..1, as a viewer does."""

    def change(dn: Patches) -> Patches:
        least, most = np.percentile(dn, [low, high], **axes)
        return ((dn - least) / np.maximum(most - least, 1)).clip(0, 1).astype(np.float32)

    return change


def power(exponent: float) -> Callable[[Patches], Patches]:
    """Return what brightens reflectance, as for a picture."""
    return lambda dn: ((dn * 1e-4) ** exponent).astype(np.float32)


def moved(values: Patches) -> Patches:
    """Resample by a part of a pixel: reflectance, or backscatter as linear numbers."""
    is_dn = values.dtype.kind in "iu"
    linear = values * 1e-4 if is_dn else np.power(10, values / 10)
    rows = 0.63 * linear + 0.37 * np.roll(linear, 1, axis=1)
    found = 0.71 * rows + 0.29 * np.roll(rows, 1, axis=2)
    return (found if is_dn else 10 * np.log10(found)).astype(np.float32)


def smoothed(db: Patches) -> Patches:
    """Average 5 x 5 pixels, which leaves a fifth of the speckle."""
    linear = np.power(10, db / 10)
    for axis in (1, 2):
        linear = sum(np.roll(linear, step, axis) for step in range(-2, 3)) / 5
    return (10 * np.log10(linear)).astype(np.float32)


def clipped(dn: Patches) -> Patches:
    """Return reflectance without what is brighter than a white surface."""
    return (dn * 1e-4).clip(0, 1).astype(np.float32)


#: Nothing is wrong: how else right values come.
FINE = {
    "optical": (Fault("as they are", lambda dn: dn, {}),
                Fault("as reflectance, clipped to 0..1", clipped, {}),
                Fault("as reflectance, moved by a part of a pixel", moved, {})),
    "sar": (Fault("as they are", lambda db: db, {}),
            Fault("moved by a part of a pixel", moved, {}),
            Fault("smoothed, 5 x 5 pixels", smoothed, {})),
}  # fmt: skip
OPTICAL_FAULTS = (
    Fault("reflectance scaled twice (/ 1e4)", lambda dn: (dn * 1e-8).astype(np.float32), {}),
    Fault("DN / 40", lambda dn: np.maximum(dn // 40, 1).astype(np.uint16), {}),
    Fault("8-bit picture (0..0.4) as DN",
          lambda dn: (dn / 4000 * 255).clip(1, 255).astype(np.uint8), {}),
    Fault("DN as floats", lambda dn: dn.astype(np.float32), {}),
    Fault("percent", lambda dn: (dn * 1e-2).astype(np.float32), {}),
    Fault("reflectance x 10", lambda dn: (dn * 1e-3).astype(np.float32), {}),
    Fault("stretched from its range to 0..1", stretched(0, 100), {}),
    Fault("stretched, 2 to 98 %", stretched(2, 98), {}),
    Fault("each band stretched, 2 to 98 %", stretched(2, 98, axis=(1, 2), keepdims=True), {}),
    Fault("stretched, 0..0.3 to 0..1", lambda dn: (dn / 3e3).clip(0, 1).astype(np.float32), {}),
    Fault("the same as DN",
          lambda dn: (dn / 0.3).clip(1, 1e4).round().astype(np.uint16), {}),
    Fault("stretched, 0..0.8 to 0..1", lambda dn: (dn / 8e3).clip(0, 1).astype(np.float32), {}),
    Fault("root", power(0.5), {}),
    Fault("power of 1 / 2.2", power(1 / 2.2), {}),
    Fault("power of 0.7", power(0.7), {}),
    Fault("root, after resampling", lambda dn: np.sqrt(moved(dn)), {}),
    Fault("1000 added, not told", lambda dn: (dn + np.uint16(1000)).astype(np.uint16), {}),
    Fault("offset told, none there", lambda dn: dn, {"dn_offset": -1000}),
    Fault("EuroSAT's band order", reordered(EUROSAT_BANDS), {}),
    Fault("reversed bands", reordered(SENTINEL2_L1C_BANDS[::-1]), {}),
    Fault("bands sorted by common name", reordered(SORTED_NAMES), {}),
    Fault("bands in an order drawn anew", scrambled, {}),
    Fault("red and blue exchanged", reordered(EXCHANGED), {}),
    Fault("untagged -9999 in 64 pixels", marked, {}),
    Fault("SWIR bands end 3 columns early", ended, {}),
)  # fmt: skip
SAR_FAULTS = (
    Fault("VH, VV", lambda db: np.ascontiguousarray(db[::-1]), {}),
    Fault("dB / 100", lambda db: db / np.float32(100), {}),
    Fault("dB x 100 as floats", lambda db: db * np.float32(100), {}),
    Fault("linear as dB", lambda db: np.power(10, db / 10, dtype=np.float32), {}),
    Fault("amplitude as dB", lambda db: np.power(10, db / 20, dtype=np.float32), {}),
    Fault("natural logarithms", lambda db: db * NATURAL, {}),
    Fault("dB of the amplitude", lambda db: db / np.float32(2), {}),
    Fault("natural logarithms, smoothed", lambda db: smoothed(db) * NATURAL, {}),
    Fault("dB of the amplitude, smoothed", lambda db: smoothed(db) / np.float32(2), {}),
    Fault("dB as linear", lambda db: db, {"sar_unit": "linear"}),
    Fault("GRD numbers as dB", lambda db: 600 * np.power(10, db / 20, dtype=np.float32), {}),
    Fault("GRD numbers as linear", lambda db: 600 * np.power(10, db / 20, dtype=np.float32),
          {"sar_unit": "linear"}),
    Fault("amplitude told to be linear", lambda db: np.power(10, db / 20, dtype=np.float32),
          {"sar_unit": "linear"}),
    Fault("untagged -9999 in 64 pixels", marked, {}),
)  # fmt: skip


def main(data: Path) -> None:
    """Print the tables."""
    optical, sar = dict(optical_sets(data)), dict(sar_sets(data))
    for name, sets, faults in (("optical", optical, OPTICAL_FAULTS), ("sar", sar, SAR_FAULTS)):
        right = {key: patches for key, patches in sets.items() if "offset" not in key}
        print(
            f"\n{name}: right\n\n| set | patches | how | refused | flagged |\n|---|---|---|---|---|"
        )
        for key, patches in sets.items():
            for fine in FINE[name]:
                refused, flagged = outcomes(name, patches, fine)
                print(f"| {key} | {len(patches)} | {fine.name} | {refused} | {flagged} |")
        print(f"\n{name}: with a fault\n\n| fault | " + " | ".join(right) + " |")
        print("|---" * (len(right) + 1) + "|")
        for fault in faults:
            cells = []
            for patches in right.values():
                refused, flagged = outcomes(name, patches, fault)
                cells.append(f"{100 * (refused + flagged) / len(patches):.1f}")
            print(f"| {fault.name} | " + " | ".join(cells) + " |")
        print(f"\n{name}: nearest patches\n")
        for line in nearest(name, np.concatenate(list(right.values()))):
            print(line)
    level_2a, manifest = surface_reflectance(data)
    found = outcomes("optical", level_2a, FINE["optical"][0], manifest)
    print(f"\nL2A, {len(level_2a)} patches: {found}")
    print("\nfiles\n")
    for line in file_checks(data, optical["EuroSAT"]):
        print(line)


def outcomes(
    modality: str, patches: Patches, fault: Fault, manifest: Manifest = MANIFEST
) -> tuple[int, int]:
    """Return how many patches are refused and how many flagged."""
    manifest = as_stored(manifest, **fault.told)
    refused = flagged = 0
    for patch in patches:
        try:
            sample = checked_sample({modality: fault.change(patch)}, manifest)
            flags = judged_without_model(sample, manifest.modalities)
        except EsccsError:
            refused += 1
        else:
            flagged += not flags.isdisjoint(ALARMS[modality])
    return refused, flagged


def nearest(modality: str, patches: Patches) -> Iterator[str]:
    """Yield how near right patches come to the limits."""
    spec = MANIFEST.modalities[modality]
    seen = preprocess(list(patches), spec, np.empty((len(patches), *patches[0].shape), np.float32))
    ranks = [values for values in band_values(list(patches), seen, spec) if values is not None]
    low, median, spread = (
        np.array([getattr(r, n) for r in ranks]) for n in ("low", "median", "spread")
    )
    if modality == "sar":
        yield f"VV above VH by {(median[:, 0] - median[:, 1]).min():.2f} dB or more"
        yield f"spread of the livelier band {spread.max(axis=1).min():.2f} dB or more"
        yield f"median of the brighter band {median.max(axis=1).max():.2f} dB or less"
        yield f"median of VH {median[:, 1].max():.2f} dB or less"
        return
    vapor, cirrus = (spec.channels.index(name) for name in ("B09", "B10"))
    brightest = median.max(axis=1)
    yield f"median of the brightest band {brightest.min():.4f} to {brightest.max():.4f}"
    yield f"B10 below B09 by {(median[:, vapor] - median[:, cirrus]).min():.4f} or more"
    others = np.delete(median, cirrus, axis=1).min(axis=1)
    yield f"B10 above the darkest other band by {(median[:, cirrus] - others).max():.5f} or less"
    yield f"lowest tenth of B10 {low[:, cirrus].max():.4f} or less"
    steps = np.array([r.step for r in ranks]) / spec.dn_scale
    yield f"step of B10 {steps.max():.4f} digital numbers or less"


def file_checks(data: Path, eurosat: Patches) -> Iterator[str]:
    """Yield what the checks of files find: pixel size, stale tags, an alpha band that is none."""
    grids = list(real_grids(data))
    found = sum(refuses(grid, 1) for grid in grids)
    yield f"pixel size: {found} of {len(grids)} real grids refused"
    for factor in (0.5, 2, 6):
        found = sum(refuses(grid, factor) for grid in grids)
        yield f"pixel size x {factor:g}: {found} of {len(grids)} refused"
    yield f"stale scale tag 1e-4: {sum(map(is_found_stale, eurosat))} of {len(eurosat)} refused"
    nir = (eurosat[:, SENTINEL2_L1C_BANDS.index("B08")] / 4000 * 255).clip(0, 255).astype(np.uint8)
    between = ((nir > 0) & (nir < nir.max(axis=(1, 2), keepdims=True))).mean(axis=(1, 2))
    found = int((between > BETWEEN_SHARE).sum())
    yield f"near infrared called alpha: {found} of {len(nir)} refused"


def refuses(grid: Any, factor: float) -> bool:
    """Return whether a grid of pixels so many times larger is refused."""
    t = grid.transform
    larger = type(grid)(grid.crs, t @ type(t).scale(factor), grid.height, grid.width)
    try:
        require_pixel_size(larger, MANIFEST.sample.pixel_size_m, "raster")
    except EsccsError:
        return True
    return False


def is_found_stale(dn: Patches) -> bool:
    """Return whether a tag left on decoded reflectance is refused."""
    ones = np.ones((len(dn), 1, 1))
    try:
        Scaling(1e-4 * ones, 0 * ones, is_dn=False).applied(
            (dn * 1e-4).astype(np.float32),
            range(len(dn)),
            MANIFEST.modalities["optical"],
            Path("a"),
        )
    except EsccsError:
        return True
    return False


# ---- real patches -------------------------------------------------------------------------------


def chips(images: Patches) -> Patches:
    """Cut ``(N, C, H, W)`` into patches side by side."""
    _, _, height, width = images.shape
    corners = [(r, c) for r in range(0, height - SIDE + 1, SIDE)
               for c in range(0, width - SIDE + 1, SIDE)]  # fmt: skip
    parts = [images[:, :, r : r + SIDE, c : c + SIDE] for r, c in corners]
    return np.ascontiguousarray(np.concatenate(parts))


def optical_sets(data: Path) -> Iterator[tuple[str, Patches]]:
    """Yield Sentinel-2 L1C digital numbers, bands in the order of the sensor."""
    eurosat = open_dataset(f"eurosat:{data / 'eurosat-ms'}")
    yield "EuroSAT", np.stack([eurosat.pair(i)[0] for i in range(len(eurosat))])
    with np.load(data / "sen12ms-cr" / "triplets.npz") as stored:
        yield "SEN12MS-CR cloudy", chips(stored["cloudy"])
        yield "SEN12MS-CR clear", chips(stored["clear"])
    spec = MANIFEST.modalities["optical"]
    others = sorted((data / "sen12ms-cr" / "cloudy-clear").rglob("*.tif"))
    others += sorted((data / "sen12ms-cr" / "triplet").glob("s2*/*.tif"))
    others += sorted((data / "sen1floods11" / "S2").glob("*.tif"))
    read = [chips(read_patch(path, spec)[None]).astype(np.uint16) for path in others]
    with np.load(data / "terramesh" / "terramesh5.npz") as stored:
        terramesh = [chips(image[None]).astype(np.uint16) for image in stored["s2l1c"]]
    yield "other", np.concatenate([*read, terramesh[1], terramesh[4]])
    yield "TerraMesh, with its offset", np.concatenate([terramesh[i] for i in (0, 2, 3)])


def surface_reflectance(data: Path) -> tuple[Patches, Manifest]:
    """Return L2A patches, and the contract of a model that reads them."""
    with np.load(data / "terramesh" / "terramesh5.npz") as stored:
        patches = chips(stored["s2l2a"]).astype(np.uint16)
    spec = narrowed(MANIFEST.modalities["optical"], SENTINEL2_L2A_BANDS)
    return patches, MANIFEST.with_modality("optical", spec)


def sar_sets(data: Path) -> Iterator[tuple[str, Patches]]:
    """Yield Sentinel-1 backscatter in dB, VV and VH."""
    with np.load(data / "sen12ms-cr" / "triplets.npz") as stored:
        yield "SEN12MS-CR", chips(stored["s1"] / np.float32(100))
    with np.load(data / "sen1floods11" / "s1-chips.npz") as stored:
        decibel = stored["s1"].astype(np.float32) / 100
        decibel[stored["s1"] == -32000] = np.nan
        yield "Sen1Floods11", with_pixels(chips(decibel))
    spec = MANIFEST.modalities["sar"]
    paths = [*(data / "sen12ms-cr" / "triplet" / "s1").glob("*.tif"),
             *(data / "sen1floods11" / "S1").glob("*.tif"),
             *(data / "m3m-cr").rglob("S1*.tif")]  # fmt: skip
    read = [chips(read_patch(path, spec)[None]) for path in sorted(paths)]
    with np.load(data / "terramesh" / "terramesh5.npz") as stored:
        read.append(chips(stored["s1rtc"] / np.float32(100)))
    yield "other", with_pixels(np.concatenate([*read, chips(bigearthnet(data))]))


def with_pixels(patches: Patches) -> Patches:
    """Leave out patches of which nearly nothing is there."""
    return patches[np.isfinite(patches).mean(axis=(1, 2, 3)) > 0.05]


def bigearthnet(data: Path) -> Patches:
    """Read the pairs of polarizations of the sample archive."""
    found = {}
    with tarfile.open(data / "bigearthnet-mm" / "BigEarthNet-S1-Example.tar.bz2") as members:
        for member in members:
            if member.name.endswith(".tif") and (stream := members.extractfile(member)):
                with MemoryFile(stream.read()) as memory, memory.open() as raster:
                    found[Path(member.name).stem] = raster.read(1)
    names = sorted(name for name in found if name.endswith("VV"))
    return np.stack([[found[name], found[name[:-2] + "VH"]] for name in names])


def real_grids(data: Path) -> Iterator[Any]:
    """Yield the grids of georeferenced files of 10 m."""
    with tarfile.open(data / "eurosat-ms" / "patches.tar.xz") as members:
        for member in members:
            if member.name.endswith(".tif") and (stream := members.extractfile(member)):
                with MemoryFile(stream.read()) as memory, memory.open() as raster:
                    yield raster_grid(raster, member.name)
    for path in sorted([*(data / "sen12ms-cr").rglob("*.tif"),
                        *(data / "sen1floods11").rglob("*.tif")]):  # fmt: skip
        with MemoryFile(path.read_bytes()) as memory, memory.open() as raster:
            yield raster_grid(raster, path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
