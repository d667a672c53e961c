"""Sentinel-2 and Sentinel-1 products around simulated images: real trees, names and metadata.

The metadata keep the elements of real products that matter here, in the real schema (Level-1C of
baseline 02.04 and 05.09, Level-2A of 02.08, GRD of IPF 2.51); the images are simulated.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from rasterio.warp import transform

from esccs_edge.contracts.sensors import SENTINEL2_L1C_BANDS

UTM = "EPSG:32634"
LEFT, TOP = 399_960.0, 5_800_020.0
PIXEL_M = dict.fromkeys(("B02", "B03", "B04", "B08"), 10) | dict.fromkeys(
    ("B05", "B06", "B07", "B8A", "B11", "B12"), 20
) | dict.fromkeys(("B01", "B09", "B10"), 60)  # fmt: skip
#: What the radiometric offsets and the quantification are called, by level.
_NAMES = {
    "L1C": ("QUANTIFICATION_VALUE", "RADIO_ADD_OFFSET"),
    "L2A": ("BOA_QUANTIFICATION_VALUE", "BOA_ADD_OFFSET"),
}


def ground_reflectance(east, north, band: str):
    """A smooth ground that differs from band to band, by coordinates in meters."""
    i = SENTINEL2_L1C_BANDS.index(band)
    level = 0.002 if band == "B10" else 0.05 + 0.02 * i
    return level * (1.5 + np.sin(east / 400 + i) * np.cos(north / 500))


def safe_name(level: str, baseline: str, date: str = "20230823T095559") -> str:
    number = baseline.replace(".", "")
    return f"S2B_MSI{level}_{date}_N{number}_R122_T34UCF_20230823T120234.SAFE"


def write_sentinel2(
    folder: Path,
    *,
    level: str = "L1C",
    baseline: str = "05.09",
    offset: float | None = -1000,
    side_m: int = 1920,
    date: str = "2023-08-23T09:55:59.024Z",
    absent_columns: int = 0,
    lossless: bool = True,
) -> Path:
    """Write a ``.SAFE`` folder whose images hold `ground_reflectance`, and return it."""
    stamp = date.partition(".")[0].replace("-", "").replace(":", "")
    safe = folder / safe_name(level, baseline, stamp)
    granule = f"GRANULE/{level}_T34UCF_A033753_20230823T095553"
    names = []
    for band in SENTINEL2_L1C_BANDS:
        if level == "L2A" and band == "B10":
            continue
        for pixel in (20, 60) if level == "L2A" and PIXEL_M[band] == 20 else (PIXEL_M[band],):
            inside = f"R{pixel}m/" if level == "L2A" else ""
            ending = f"_{pixel}m" if level == "L2A" else ""
            names.append(f"{granule}/IMG_DATA/{inside}T34UCF_{stamp}_{band}{ending}")
            reflectance = ground_reflectance(*centers(side_m // pixel, pixel), band)
            dn = np.rint(reflectance * 10_000 - (offset or 0)).astype(np.uint16)
            dn[:, : absent_columns * 60 // pixel] = 0
            write_jp2(safe / f"{names[-1]}.jp2", dn, pixel, lossless=lossless)
    write_jp2(safe / f"{granule}/IMG_DATA/T34UCF_{stamp}_TCI.jp2", np.ones((32, 32), np.uint16), 60)
    metadata = _sentinel2_metadata(level, baseline, offset, date, names, safe.name)
    (safe / f"MTD_MSI{level}.xml").write_text(metadata, encoding="utf-8")
    (safe / granule / "MTD_TL.xml").write_text("<n1:Level-1C_Tile_ID xmlns:n1='x'/>")
    (safe / "manifest.safe").write_text("<XFDU><familyName>SENTINEL-2</familyName></XFDU>")
    return safe


def centers(side: int, pixel: float):
    """Coordinates of the pixel centers of an image at the tile's corner, as grids."""
    steps = (np.arange(side) + 0.5) * pixel
    east, north = np.meshgrid(LEFT + steps, TOP - steps)
    return east, north


def write_jp2(path: Path, dn, pixel: float, *, lossless: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if lossless else {}
    with rasterio.open(
        path,
        "w",
        driver="JP2OpenJPEG",
        height=dn.shape[0],
        width=dn.shape[1],
        count=1,
        dtype="uint16",
        crs=UTM,
        transform=Affine(pixel, 0, LEFT, 0, -pixel, TOP),
        **options,
    ) as dataset:
        dataset.write(dn, 1)


def zipped(safe: Path) -> Path:
    """Pack a product as downloads are packed: its folder at the top of the archive."""
    path = safe.with_name(safe.name.replace(".SAFE", ".zip"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(safe.rglob("*")):
            archive.write(file, file.relative_to(safe.parent).as_posix())
    return path


def _sentinel2_metadata(level, baseline, offset, date, names, uri) -> str:
    quantification, tag = _NAMES[level]
    images = "\n".join(f"            <IMAGE_FILE>{name}</IMAGE_FILE>" for name in names)
    offsets = (
        "".join(f'<{tag} band_id="{i}">{offset:g}</{tag}>' for i in range(13)) if offset else ""
    )
    listing = f"<Radiometric_Offset_List>{offsets}</Radiometric_Offset_List>" if offset else ""
    number = level[1:]
    schema = f"https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{number}.xsd"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{number}_User_Product xmlns:n1="{schema}">
    <n1:General_Info>
        <Product_Info>
            <PRODUCT_START_TIME>{date}</PRODUCT_START_TIME>
            <PRODUCT_URI>{uri}</PRODUCT_URI>
            <PROCESSING_LEVEL>Level-{number}</PROCESSING_LEVEL>
            <PRODUCT_TYPE>S2MSI{number}</PRODUCT_TYPE>
            <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
            <Datatake datatakeIdentifier="GS2B_20230823T095559_033753_N05.09">
                <SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME>
                <DATATAKE_SENSING_START>{date}</DATATAKE_SENSING_START>
            </Datatake>
            <Granule_List><Granule imageFormat="JPEG2000">
{images}
            </Granule></Granule_List>
        </Product_Info>
        <Product_Image_Characteristics>
            <Special_Values>
                <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
                <SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
            </Special_Values>
            <{quantification} unit="none">10000</{quantification}>
            {listing}
            <Reflectance_Conversion><U>0.97659423426857</U></Reflectance_Conversion>
        </Product_Image_Characteristics>
    </n1:General_Info>
</n1:Level-{number}_User_Product>
"""


# Sentinel-1 ---------------------------------------------------------------------------------------

S1_NAME = "S1A_IW_GRDH_1SDV_20230824T163512_20230824T163537_050018_0604F3_24EE.SAFE"
_STAMP = "20230824t163512-20230824t163537-050018-0604f3"
#: The image is turned against the grid, as an orbit is.
_TURN = np.deg2rad(12.0)
S1_HEIGHT, S1_WIDTH = 300, 360


def backscatter_db(east, north, polarization: str):
    """A smooth ground in dB, by coordinates in meters."""
    level = {"VV": -11.0, "VH": -18.0}[polarization]
    return level + 3 * np.sin(east / 450) * np.cos(north / 380)


def image_to_ground(row, column):
    """Coordinates of a place in the Sentinel-1 image, which covers the optical one."""
    x, y = 10.0 * column, -10.0 * row
    east = LEFT - 300 + x * np.cos(_TURN) - y * np.sin(_TURN) - 200
    north = TOP + 150 + x * np.sin(_TURN) + y * np.cos(_TURN) - 50
    return east, north


def sigma_table(line, pixel):
    """The calibration table: rises along range and a little along azimuth."""
    return 400.0 + 0.5 * np.asarray(pixel) + 0.1 * np.asarray(line)


def write_sentinel1(
    folder: Path,
    *,
    polarizations=("VV", "VH"),
    kind: str = "GRD",
    absent_rows: int = 0,
    shift_m: float = 0.0,
) -> Path:
    """Write a GRD ``.SAFE`` folder whose amplitudes are `backscatter_db` times the table."""
    safe = folder / S1_NAME
    rows, columns = np.mgrid[:S1_HEIGHT, :S1_WIDTH] + 0.5
    east, north = image_to_ground(rows, columns)
    table = sigma_table(rows - 0.5, columns - 0.5)
    for number, polarization in enumerate(polarizations, start=1):
        sigma = 10 ** (backscatter_db(east, north, polarization) / 10)
        dn = np.rint(np.sqrt(sigma) * table).astype(np.uint16)
        dn[:absent_rows] = 0
        stem = f"s1a-iw-{kind.lower()}-{polarization.lower()}-{_STAMP}-{number:03d}"
        _write_measurement(safe / "measurement" / f"{stem}.tiff", dn, shift_m)
        calibration = safe / "annotation" / "calibration" / f"calibration-{stem}.xml"
        calibration.parent.mkdir(parents=True, exist_ok=True)
        calibration.write_text(_calibration())
    (safe / "manifest.safe").write_text(_sentinel1_manifest(kind))
    return safe


def _write_measurement(path: Path, dn, shift_m: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.meshgrid(np.linspace(0, S1_HEIGHT, 10), np.linspace(0, S1_WIDTH, 21))
    east, north = image_to_ground(rows.ravel(), columns.ravel())
    longitude, latitude = transform(UTM, "EPSG:4326", east + shift_m, north)
    points = [
        GroundControlPoint(float(r), float(c), x, y, 120.0)
        for r, c, x, y in zip(rows.ravel(), columns.ravel(), longitude, latitude, strict=True)
    ]
    with rasterio.open(
        path, "w", driver="GTiff", height=S1_HEIGHT, width=S1_WIDTH, count=1, dtype="uint16",
        gcps=points, crs="EPSG:4326",
    ) as dataset:  # fmt: skip
        dataset.write(dn, 1)


def _calibration() -> str:
    lines = (-20, 90, 200, 310)
    pixels = [*range(0, S1_WIDTH, 40), S1_WIDTH - 1]
    vectors = "".join(
        f"""
    <calibrationVector>
      <azimuthTime>2023-08-24T16:35:{12 + i}.493726</azimuthTime>
      <line>{line}</line>
      <pixel count="{len(pixels)}">{" ".join(map(str, pixels))}</pixel>
      <sigmaNought count="{len(pixels)}">{_listed(sigma_table(line, pixels))}</sigmaNought>
      <betaNought count="{len(pixels)}">{" ".join(["4.74e+02"] * len(pixels))}</betaNought>
      <gamma count="{len(pixels)}">{" ".join(["3.9e+02"] * len(pixels))}</gamma>
      <dn count="{len(pixels)}">{" ".join(["4.74e+02"] * len(pixels))}</dn>
    </calibrationVector>"""
        for i, line in enumerate(lines)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<calibration>
  <adsHeader>
    <missionId>S1A</missionId>
    <productType>GRD</productType>
    <mode>IW</mode>
    <swath>IW</swath>
  </adsHeader>
  <calibrationInformation>
    <absoluteCalibrationConstant>1.000000e+00</absoluteCalibrationConstant>
  </calibrationInformation>
  <calibrationVectorList count="{len(lines)}">{vectors}
  </calibrationVectorList>
</calibration>
"""


def _listed(values) -> str:
    return " ".join(f"{value:.6e}" for value in values)


def _sentinel1_manifest(kind: str) -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0"
    xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1">
  <metadataSection>
    <metadataObject ID="platform"><metadataWrap><xmlData>
      <safe:platform><safe:familyName>SENTINEL-1</safe:familyName><safe:number>A</safe:number></safe:platform>
    </xmlData></metadataWrap></metadataObject>
    <metadataObject ID="generalProductInformation"><metadataWrap><xmlData>
      <s1sarl1:standAloneProductInformation>
        <s1sarl1:productType>{kind}</s1sarl1:productType>
      </s1sarl1:standAloneProductInformation>
    </xmlData></metadataWrap></metadataObject>
    <metadataObject ID="acquisitionPeriod"><metadataWrap><xmlData>
      <safe:acquisitionPeriod>
        <safe:startTime>2023-08-24T16:35:12.504840</safe:startTime>
      </safe:acquisitionPeriod>
    </xmlData></metadataWrap></metadataObject>
  </metadataSection>
</xfdu:XFDU>
"""
