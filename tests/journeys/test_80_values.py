"""No silent wrong answer from values: everything that can change one between file and network.

Each cell of `TABLE` stores one real pair in another way. What the network gets is compared with
what the pixels are, so that "right" is measured and not claimed; anything else has to be refused,
with what to do, or flagged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.value_files import SAR, Stored, truth, write

from esccs_edge import Bundle
from esccs_edge.contracts.stored_units import as_stored
from esccs_edge.contracts.values import Flag
from esccs_edge.errors import EsccsError
from esccs_edge.pixels.checks import checked_sample
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.pixels.radiometry import judged_without_model
from esccs_edge.rasters.reader import read_sample

MANIFEST = Bundle.open("default").manifest
OPTICAL = Stored()
REFLECTANCE = Stored(dtype="float32", factor=1.0)
LINEAR = replace(SAR, linear=True)
NEW = {"shift": 1000.0}  # as from processing baseline 04.00 on
GAP = {"mark": 0.0, "nodata": 0.0}
LOWEST = -3.4028234663852886e38

RIGHT, REFUSED, FLAGGED = "right", "refused", "flagged"
#: (what differs, how it is stored, what comes of it).
TABLE = [
    # dtype
    ("uint16 DN", OPTICAL, RIGHT),
    ("int16 DN", replace(OPTICAL, dtype="int16"), RIGHT),
    ("uint32 DN", replace(OPTICAL, dtype="uint32"), RIGHT),
    ("int32 DN", replace(OPTICAL, dtype="int32"), RIGHT),
    ("float32 DN", replace(OPTICAL, dtype="float32"), REFUSED),
    ("float32 reflectance", REFLECTANCE, RIGHT),
    ("float64 reflectance", replace(REFLECTANCE, dtype="float64"), RIGHT),
    ("8-bit picture", replace(OPTICAL, dtype="uint8", factor=400), FLAGGED),
    ("float32 dB", SAR, RIGHT),
    ("float64 dB", replace(SAR, dtype="float64"), RIGHT),
    ("int16 dB * 100", replace(SAR, dtype="int16", factor=100), REFUSED),
    ("float32 dB * 100", replace(SAR, factor=100), REFUSED),
    ("GRD numbers, uint16", replace(LINEAR, dtype="uint16", factor=3e4), REFUSED),
    ("GRD numbers, float32", replace(LINEAR, factor=3e4), REFUSED),
    # scale and offset tags
    ("DN, scale tag", replace(OPTICAL, scale=1e-4), RIGHT),
    ("DN + 1000, both tags", replace(OPTICAL, **NEW, scale=1e-4, offset=-0.1), RIGHT),
    ("DN + 1000, offset tag in DN", replace(OPTICAL, **NEW, offset=-1000), RIGHT),
    ("DN + 1000, scale tag alone", replace(OPTICAL, **NEW, scale=1e-4), FLAGGED),
    ("DN + 1000, mixed tags", replace(OPTICAL, **NEW, scale=1e-4, offset=-1000), REFUSED),
    ("float32 DN, scale tag", replace(OPTICAL, dtype="float32", scale=1e-4), RIGHT),
    ("scale tag of 0", replace(OPTICAL, scale=0.0), REFUSED),
    ("dB * 100, scale tag", replace(SAR, dtype="int16", factor=100, scale=0.01), RIGHT),
    # already scaled
    ("reflectance, stale scale tag", replace(REFLECTANCE, scale=1e-4), REFUSED),
    ("dB, stale scale tag", replace(SAR, scale=0.01), REFUSED),
    ("reflectance / 1e4", replace(REFLECTANCE, factor=1e-4), FLAGGED),
    ("DN / 40", replace(OPTICAL, factor=250), FLAGGED),
    ("reflectance * 10", replace(REFLECTANCE, factor=10), REFUSED),
    ("percent", replace(REFLECTANCE, factor=100), REFUSED),
    ("dB / 100", replace(SAR, factor=0.01), FLAGGED),
    # changed otherwise than by a factor
    ("stretched 0..0.3", replace(REFLECTANCE, stretch=(0.0, 0.3)), FLAGGED),
    ("stretched 0..0.3, DN", replace(OPTICAL, stretch=(0.0, 0.3)), FLAGGED),
    ("stretched 0.05..0.5, 8 bits",
     replace(OPTICAL, dtype="uint8", stretch=(0.05, 0.5), factor=255, scale=1 / 255), FLAGGED),
    ("root", replace(REFLECTANCE, power=0.5), FLAGGED),
    ("root, DN", replace(OPTICAL, power=0.5), FLAGGED),
    ("power of 1 / 2.2", replace(REFLECTANCE, power=1 / 2.2), FLAGGED),
    ("natural logarithms", replace(SAR, factor=np.log(10) / 10), FLAGGED),
    ("dB of the amplitude", replace(SAR, factor=0.5), FLAGGED),
    ("amplitude told to be linear", replace(LINEAR, power=0.5, sar_unit="linear"), FLAGGED),
    ("amplitude untold", replace(LINEAR, power=0.5), REFUSED),
    # --baseline
    ("DN + 1000 as told", replace(OPTICAL, **NEW, dn_offset=-1000), RIGHT),
    ("DN + 1000 untold", replace(OPTICAL, **NEW), FLAGGED),
    ("offset told, but none", replace(OPTICAL, dn_offset=-1000), FLAGGED),
    ("no offset told", replace(OPTICAL, dn_offset=0), RIGHT),
    ("offset told of reflectance", replace(REFLECTANCE, dn_offset=-1000), REFUSED),
    ("offset told and tagged",
     replace(OPTICAL, **NEW, scale=1e-4, offset=-0.1, dn_offset=-1000), REFUSED),
    # --sar-unit
    ("dB as told", replace(SAR, sar_unit="dB"), RIGHT),
    ("linear as told", replace(LINEAR, sar_unit="linear"), RIGHT),
    ("linear untold", LINEAR, REFUSED),
    ("dB told to be linear", replace(SAR, sar_unit="linear"), REFUSED),
    ("GRD numbers told to be linear", replace(LINEAR, factor=3e4, sar_unit="linear"), REFUSED),
    # nodata
    ("tag 0", replace(OPTICAL, **GAP), RIGHT),
    ("untagged 0", replace(OPTICAL, mark=0.0), RIGHT),
    ("tag 65535", replace(OPTICAL, mark=65535.0, nodata=65535.0), RIGHT),
    ("tag -9999, int16", replace(OPTICAL, dtype="int16", mark=-9999.0, nodata=-9999.0), RIGHT),
    ("untagged -9999, int16", replace(OPTICAL, dtype="int16", mark=-9999.0), FLAGGED),
    ("NaN", replace(REFLECTANCE, mark=np.nan), RIGHT),
    ("tag NaN", replace(REFLECTANCE, mark=np.nan, nodata=np.nan), RIGHT),
    ("untagged -9999, reflectance", replace(REFLECTANCE, mark=-9999.0), FLAGGED),
    ("lowest float, exact tag", replace(REFLECTANCE, mark=LOWEST, nodata=LOWEST), RIGHT),
    ("lowest float, rounded tag", replace(REFLECTANCE, mark=LOWEST, nodata=-3.4e38), RIGHT),
    ("lowest float, untagged", replace(REFLECTANCE, mark=LOWEST), RIGHT),
    ("dB, lowest float, rounded tag", replace(SAR, mark=LOWEST, nodata=-3.40282e38), RIGHT),
    ("dB, tag -9999", replace(SAR, mark=-9999.0, nodata=-9999.0), RIGHT),
    ("dB, untagged -9999", replace(SAR, mark=-9999.0), REFUSED),
    ("dB, untagged 0", replace(SAR, mark=0.0), RIGHT),
    ("dB, minus infinity", replace(SAR, mark=-np.inf), RIGHT),
    ("dB * 100, both tags",
     replace(SAR, dtype="int16", factor=100, scale=0.01, mark=-32768.0, nodata=-32768.0), RIGHT),
    # masks
    *((f"{mask}, {what}", replace(stored, mask=mask), RIGHT)
      for mask in ("internal", ".msk", "alpha first", "alpha middle", "alpha last")
      for what, stored in (("DN", OPTICAL), ("reflectance", REFLECTANCE), ("dB", SAR))),
    # descriptions and order
    *((f"{words}, reversed, {stored.modality}",
       replace(stored, words=words, order="reversed"), REFUSED if words == "unknown" else RIGHT)
      for words in ("B01", "Band 8A", "common", "842 nm", "unknown")
      for stored in (OPTICAL, SAR)),
    *((f"{words}, in order, {stored.modality}", replace(stored, words=words), RIGHT)
      for words in ("counted", "none") for stored in (OPTICAL, SAR)),
    ("described in EuroSAT's order", replace(OPTICAL, words="B01", order="EuroSAT"), RIGHT),
    ("in EuroSAT's order", replace(OPTICAL, order="EuroSAT"), FLAGGED),
    ("reversed", replace(OPTICAL, order="reversed"), FLAGGED),
    ("VH, VV", replace(SAR, order="reversed"), FLAGGED),
    # pixel size
    ("degrees of 10 m", replace(OPTICAL, grid="degrees"), RIGHT),
    ("a picture", replace(OPTICAL, grid="none"), RIGHT),
    *((grid, replace(stored, grid=grid), REFUSED)
      for grid in ("20 m", "60 m", "10 x 20 m", "0.01 degrees", "web mercator")
      for stored in (OPTICAL, SAR)),
]  # fmt: skip


def outcome(path, stored: Stored) -> tuple[str, str]:
    """Return what comes of a file, and the hint or the flags."""
    manifest = as_stored(
        MANIFEST,
        dn_offset=stored.dn_offset if stored.modality == "optical" else None,
        sar_unit=stored.sar_unit if stored.modality == "sar" else None,
    )
    try:
        pixels = read_sample({stored.modality: path}, manifest.modalities,
                             manifest.sample.pixel_size_m)  # fmt: skip
        sample = checked_sample(pixels, manifest)
        flags = judged_without_model(sample, manifest.modalities)
    except EsccsError as error:
        return REFUSED, error.hint
    if Flag.RADIOMETRY_SUSPECT in flags:
        return FLAGGED, str(flags)
    found = network_input(sample.pixels[stored.modality], manifest, stored.modality)
    wanted = network_input(truth(stored), MANIFEST, stored.modality)
    is_right = np.abs(found - wanted).max() < 0.02  # standard deviations: the rounding of DN
    gap_told = not stored.has_gap or Flag.PARTIAL_NODATA in flags
    return (RIGHT if is_right and gap_told else "WRONG IN SILENCE"), str(flags)


def network_input(pixels, manifest, modality):
    out = np.empty((1, *pixels.shape), np.float32)
    preprocess([pixels], manifest.modalities[modality], out)
    return out[0]


@pytest.mark.fault(8, 15, 16, 17, 18, 20, 40, 43)
@pytest.mark.parametrize(("stored", "expected"), [row[1:] for row in TABLE],
                         ids=[row[0] for row in TABLE])  # fmt: skip
def test_each_cell_of_the_table(tmp_path, stored, expected):
    found, told = outcome(write(tmp_path / "a.tif", stored), stored)
    assert found == expected, told
    assert found != REFUSED or told  # what to do


def combinations(base: Stored, **axes) -> st.SearchStrategy[Stored]:
    """Draw one way of each axis; a way may change several fields at once."""
    return st.builds(
        lambda **ways: replace(base, **{k: v for way in ways.values() for k, v in way.items()}),
        **{name: st.sampled_from([{}, *ways]) for name, ways in axes.items()},
    )


SHARED = {
    "gap": [GAP, {"mark": 0.0}, {"mark": -9999.0, "nodata": -9999.0}, {"mark": -9999.0},
            {"mark": LOWEST, "nodata": -3.4e38}, {"mark": np.nan}],
    "mask": [{"mask": m} for m in ("internal", ".msk", "alpha first", "alpha last")],
    "names": [{"words": w, "order": o} for w in ("B01", "Band 8A", "common", "unknown", "none")
              for o in ("as the model", "reversed")],
    "place": [{"grid": g} for g in ("degrees", "60 m", "none")],
}  # fmt: skip
MIXED_OPTICAL = combinations(
    OPTICAL, **SHARED,
    numbers=[{"dtype": "int16"}, {"dtype": "float32"}, {"dtype": "uint8", "factor": 400},
             {"dtype": "float32", "factor": 1.0}, {"dtype": "float64", "factor": 1.0},
             {"dtype": "float32", "factor": 1e-4}, {"power": 0.5}, {"stretch": (0.0, 0.3)},
             {"dtype": "float32", "factor": 1.0, "power": 0.5}],
    shift=[NEW],
    tags=[{"scale": 1e-4}, {"scale": 1e-4, "offset": -0.1}, {"offset": -1000.0}],
    told=[{"dn_offset": -1000}, {"dn_offset": 0}],
)  # fmt: skip
MIXED_SAR = combinations(
    SAR, **SHARED,
    numbers=[{"dtype": "float64"}, {"factor": 100}, {"dtype": "int16", "factor": 100},
             {"linear": True}, {"linear": True, "factor": 3e4}, {"factor": 0.01},
             {"factor": 0.5}, {"factor": 0.23}, {"linear": True, "power": 0.5}],
    tags=[{"scale": 0.01}],
    told=[{"sar_unit": "dB"}, {"sar_unit": "linear"}],
)  # fmt: skip


@pytest.mark.fault(40, 43)
@settings(max_examples=150, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(stored=st.one_of(MIXED_OPTICAL, MIXED_SAR))
def test_no_combination_is_wrong_in_silence(tmp_path, stored):
    for old in tmp_path.iterdir():
        old.unlink()
    try:
        path = write(tmp_path / "a.tif", stored)
    except (ValueError, OverflowError):  # a file that cannot exist: a tag beyond its type
        return
    found, told = outcome(path, stored)
    assert found in (RIGHT, REFUSED, FLAGGED), told
    assert found != REFUSED or told
