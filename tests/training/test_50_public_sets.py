"""Readers of sets that a user can get, on tiny folders in their published layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS, SENTINEL2_L2A_BANDS
from esccs_edge.errors import InputError, RasterError
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.datasets.bigearthnet import CLASS_OF_CORINE, CLASSES
from esccs_edge.training.samples.degraded import Degradation, DegradedPairs


def write(path: Path, pixels: np.ndarray, east: float = 0.0, step: float = 10.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile: Any = dict(
        driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=len(pixels),
        dtype=pixels.dtype, crs="EPSG:32631",
        transform=rasterio.Affine(step, 0, east, 0, -step, 5_000_000),
    )  # fmt: skip
    with rasterio.open(path, "w", **profile) as raster:
        raster.write(pixels)


# --- EuroSAT + EuroSAT-SAR ----------------------------------------------------------------------


@pytest.fixture
def eurosat_sar(tmp_path: Path) -> Path:
    """Two classes, six patches each, every second one in another 100 km square."""
    for place, name in enumerate(("Forest", "River")):
        for number in range(1, 7):
            optical = np.arange(1, 14, dtype=np.uint16)[:, None, None] * np.ones(
                (13, 8, 8), np.uint16
            )
            sar = np.full((2, 8, 8), -10.5 - place, np.float32)
            east = 100_000.0 * (number % 3) + 5000 * number
            write(tmp_path / "EuroSAT_MS" / name / f"{name}_{number}.tif", optical, east)
            write(tmp_path / "EuroSAT-SAR" / name / f"{name}_{number}.tif", sar, east)
    return tmp_path


def test_eurosat_pairs_with_its_sar_companion_by_name(eurosat_sar):
    (eurosat_sar / "EuroSAT-SAR" / "River" / "River_6.tif").unlink()
    dataset = open_dataset(f"eurosat-sar:{eurosat_sar}")
    assert len(dataset) == 11 and dataset.classes == ("Forest", "River")
    assert dataset.optical_channels == SENTINEL2_L1C_BANDS and dataset.sar_channels == ("VV", "VH")
    optical, sar = dataset.pair(10)
    assert optical is not None and sar is not None
    # Stored with B8A last: the ninth band in sensor order is the thirteenth of the file.
    assert optical[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 13, 9, 10, 11, 12]
    assert sar.dtype == np.float32 and float(sar[0, 0, 0]) == -11.5


def test_eurosat_places_are_squares_of_100_km_and_stay_whole(eurosat_sar):
    dataset = open_dataset(f"eurosat-sar:{eurosat_sar}")
    assert len(set(dataset.groups)) == 3
    sides: dict[str, set[str]] = {}
    for place, split in zip(dataset.groups, dataset.splits, strict=True):
        sides.setdefault(place, set()).add(split)
    assert all(len(splits) == 1 for splits in sides.values())


def test_real_sar_of_the_companion_is_never_replaced_by_simulated_sar(eurosat_sar):
    dataset = open_dataset(f"eurosat-sar:{eurosat_sar}")
    split = dataset.splits[0]
    pair = DegradedPairs(dataset, split, Degradation(cover=0.5, sar="from class")).get(0)
    assert pair.sar is not None
    np.testing.assert_array_equal(pair.sar, dataset.pair(pair.index)[1])


def test_eurosat_without_its_companion_is_refused(tmp_path):
    with pytest.raises(InputError, match="none of the folders EuroSAT_MS"):
        open_dataset(f"eurosat-sar:{tmp_path}")
    for name in ("EuroSAT_MS", "EuroSAT-SAR"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="no patch in common"):
        open_dataset(f"eurosat-sar:{tmp_path}")


# --- BigEarthNet-MM -----------------------------------------------------------------------------

SIDES = {"B01": 2, "B09": 2, "B02": 12, "B03": 12, "B04": 12, "B08": 12}


def write_patch(root: Path, number: int, tile: str, corine: list[str]) -> None:
    """Write one pair as published; 60 m, 20 m and 10 m bands have 2, 6 and 12 pixels."""
    name = f"S2A_MSIL2A_20170613T101031_{number}_48"
    radar = f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_{number}_48"
    for i, band in enumerate(SENTINEL2_L2A_BANDS):
        side = SIDES.get(band, 6)
        pixels = np.full((1, side, side), 100 * (i + 1) + number, np.uint16)
        write(root / "BigEarthNet-S2" / name / f"{name}_{band}.tif", pixels, step=120 / side)
    for band, value in (("VV", -9.5), ("VH", -15.5)):
        pixels = np.full((1, 12, 12), value, np.float32)
        write(root / "BigEarthNet-S1" / radar / f"{radar}_{band}.tif", pixels)
    source = f"S2A_MSIL1C_20170613T101031_N0205_R022_T{tile}_20170613T101608.SAFE"
    about = {"S2": {"labels": corine, "tile_source": source},
             "S1": {"labels": corine, "corresponding_s2_patch": name}}  # fmt: skip
    for sensor, patch in (("S2", name), ("S1", radar)):
        path = root / f"BigEarthNet-{sensor}" / patch / f"{patch}_labels_metadata.json"
        path.write_text(json.dumps(about[sensor]))


@pytest.fixture
def bigearthnet_folder(tmp_path: Path) -> Path:
    write_patch(tmp_path, 1, "33UUP", ["Pastures"])
    write_patch(tmp_path, 2, "33UUP", ["Coniferous forest", "Mixed forest"])
    write_patch(tmp_path, 3, "35VPK", ["Pastures", "Mixed forest"])
    write_patch(tmp_path, 4, "29SND", ["Peatbogs"])
    return tmp_path


def test_bigearthnet_pairs_are_brought_to_one_grid(bigearthnet_folder):
    dataset = open_dataset(f"bigearthnet:{bigearthnet_folder}")
    assert dataset.optical_channels == SENTINEL2_L2A_BANDS and len(dataset) == 4
    optical, sar = dataset.pair(1)
    assert optical is not None and sar is not None
    assert optical.shape == (12, 12, 12) and optical.dtype == np.uint16
    assert optical[:, 5, 5].tolist() == [100 * (i + 1) + 2 for i in range(12)]
    assert sar.dtype == np.float32 and sar[:, 0, 0].tolist() == [-9.5, -15.5]


def test_bigearthnet_patches_get_a_class_where_all_labels_mean_it(bigearthnet_folder):
    dataset = open_dataset(f"bigearthnet:{bigearthnet_folder}")
    names = [dataset.classes[k] if k >= 0 else None for k in dataset.labels]
    assert names == ["Pasture", "Forest", None, None]
    assert dataset.groups == ("33UUP", "33UUP", "35VPK", "29SND")
    assert dataset.splits[0] == dataset.splits[1]
    assert set(CLASS_OF_CORINE.values()) == set(CLASSES)


def test_bigearthnet_takes_published_splits(bigearthnet_folder):
    for split, numbers in (("train", (1, 3)), ("val", (2,)), ("test", (4,))):
        lines = [f"S2A_MSIL2A_20170613T101031_{n}_48,S1A_x_{n}_48" for n in numbers]
        (bigearthnet_folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    dataset = open_dataset(f"bigearthnet:{bigearthnet_folder}")
    assert dataset.splits == ("train", "val", "train", "test")


def test_unfit_bigearthnet_folders_are_refused(bigearthnet_folder, tmp_path_factory):
    with pytest.raises(InputError, match="0 patches of BigEarthNet"):
        open_dataset(f"bigearthnet:{tmp_path_factory.mktemp('empty')}")
    next(bigearthnet_folder.rglob("*_1_48_B05.tif")).unlink()
    with pytest.raises(RasterError, match="no file for B05"):
        open_dataset(f"bigearthnet:{bigearthnet_folder}").pair(0)
    next(bigearthnet_folder.rglob("*_labels_metadata.json")).write_text("[]")
    with pytest.raises(InputError, match="no list of labels"):
        open_dataset(f"bigearthnet:{bigearthnet_folder}")


@pytest.mark.data
def test_the_public_bigearthnet_examples_open(bigearthnet):
    root = next(iter(bigearthnet.values()))["S2"]["B02"].parents[2]
    dataset = open_dataset(f"bigearthnet:{root}")
    assert len(dataset) == 6 and len(set(dataset.groups)) == 4
    assert [dataset.classes[k] for k in dataset.labels if k >= 0] == ["Pasture"]
    optical, sar = dataset.pair(0)
    assert optical is not None and sar is not None
    assert optical.shape == (12, 120, 120) and sar.shape == (2, 120, 120)


# --- So2Sat -------------------------------------------------------------------------------------


def write_so2sat(path: Path, count: int, marked: int | None = 0) -> None:
    """Patches whose pixels tell file channel and row; ``marked`` is the class of the first."""
    with h5py.File(path, "w") as file:
        radar = np.zeros((count, 32, 32, 8))
        radar[..., 4], radar[..., 5] = 0.01, 0.1
        file["sen1"] = radar
        file["sen2"] = np.arange(10) / 10 + np.zeros((count, 32, 32, 1))
        if marked is not None:
            file["label"] = np.eye(17)[(np.arange(count) + marked) % 17]


@pytest.fixture
def so2sat_folder(tmp_path: Path) -> Path:
    write_so2sat(tmp_path / "training.h5", 4)
    write_so2sat(tmp_path / "validation.h5", 2, marked=16)
    write_so2sat(tmp_path / "testing.h5", 2, marked=None)
    with h5py.File(tmp_path / "training_geo.h5", "w") as file:
        file["epsg"] = np.array([[32631], [32631], [32631], [32632]])
        file["coord"] = np.array([[x, 5e6, 0, 0, 0, 0] for x in (5e5, 5.001e5, 7e5, 5e5)])
    return tmp_path


def test_so2sat_has_reflectance_and_filtered_backscatter_in_db(so2sat_folder):
    dataset = open_dataset(f"so2sat:{so2sat_folder}")
    optical, sar = dataset.pair(0)
    assert optical is not None and sar is not None
    assert optical.shape == (10, 32, 32) and sar.shape == (2, 32, 32)
    np.testing.assert_allclose(optical[:, 0, 0], np.arange(10) / 10, atol=1e-7)
    np.testing.assert_allclose(sar[:, 0, 0], [-10, -20], atol=1e-5)  # VV, VH


def test_so2sat_keeps_its_split_and_knows_places_by_their_coordinates(so2sat_folder):
    dataset = open_dataset(f"so2sat:{so2sat_folder}")
    assert dataset.splits == ("train",) * 4 + ("val",) * 2 + ("test",) * 2
    assert dataset.labels.tolist() == [0, 1, 2, 3, 16, 0, -1, -1]
    assert dataset.groups[0] == dataset.groups[1] and len(set(dataset.groups[:4])) == 3
    assert dataset.groups[4:] == ("validation",) * 2 + ("testing",) * 2


def test_unfit_so2sat_folders_are_refused(so2sat_folder, tmp_path_factory):
    with pytest.raises(InputError, match="none of the files training.h5"):
        open_dataset(f"so2sat:{tmp_path_factory.mktemp('empty')}")
    with h5py.File(so2sat_folder / "training_geo.h5", "w") as file:
        file["epsg"], file["coord"] = np.zeros((3, 1)), np.zeros((3, 6))
    with pytest.raises(InputError, match="3 zones"):
        open_dataset(f"so2sat:{so2sat_folder}")
    with h5py.File(so2sat_folder / "training.h5", "w") as file:
        file["sen2"] = np.zeros((4, 32, 32, 3))
    with pytest.raises(InputError, match="has arrays of"):
        open_dataset(f"so2sat:{so2sat_folder}")
    (so2sat_folder / "training.h5").write_text("no HDF5")
    with pytest.raises(InputError, match="no HDF5 file"):
        open_dataset(f"so2sat:{so2sat_folder}")
