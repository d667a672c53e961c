"""Instruments and values: names of bands, offsets of baselines, the JSON form of a prediction."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esccs_edge.contracts import sensors
from esccs_edge.contracts.values import ABSENT, Flag, Gate, PixelStats, Prediction
from esccs_edge.errors import InputError


def test_band_lists_agree_with_each_other():
    l1c, l2a = sensors.SENTINEL2_L1C_BANDS, sensors.SENTINEL2_L2A_BANDS
    assert len(l1c) == 13 and len(l2a) == 12 and set(l1c) - set(l2a) == {"B10"}
    assert sorted(sensors.EUROSAT_BANDS) == sorted(l1c) and sensors.EUROSAT_BANDS[-1] == "B8A"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("B8", "B08"), ("b08", "B08"), (" B12 ", "B12"), ("b8a", "B8A"), ("B08A", "B8A"),
     ("vv", "VV"), ("Vh", "VH"), ("NDVI", "NDVI"), ("B123", "B123")],
)  # fmt: skip
def test_band_names_have_one_spelling(written, canonical):
    assert sensors.band_name(written) == canonical


@given(st.sampled_from(sensors.SENTINEL2_L1C_BANDS + sensors.SENTINEL1_POLARIZATIONS))
def test_canonical_names_stay_as_they_are(name):
    assert sensors.band_name(name) == name


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [("02.14", 0), ("03.01", 0), ("04.00", -1000), ("N0510", -1000), ("n0301", 0), ("00.00", 0)],
)
def test_offset_depends_on_the_processing_baseline(baseline, offset):
    assert sensors.sentinel2_dn_offset(baseline) == offset


@pytest.mark.parametrize("baseline", ["", "4", "5.1", "N510", "04.000", "four"])
def test_an_unreadable_baseline_is_refused(baseline):
    with pytest.raises(InputError, match="baseline"):
        sensors.sentinel2_dn_offset(baseline)


def test_a_prediction_is_frozen_and_has_a_stable_json_form():
    answer = Prediction("A", 0.75, {"A": 0.75, "B": 0.25}, Gate(0.25, 0.75),
                        frozenset({Flag.RETRIED, Flag.CLIPPED}))  # fmt: skip
    assert json.loads(json.dumps(answer.to_dict())) == {
        "label": "A",
        "confidence": 0.75,
        "probabilities": {"A": 0.75, "B": 0.25},
        "gate": {"optical": 0.25, "sar": 0.75},
        "flags": ["CLIPPED", "RETRIED"],
    }
    with pytest.raises(FrozenInstanceError):
        answer.label = "B"


def test_availability_is_the_valid_share_as_the_network_reads_it():
    stats = PixelStats(256, 64, 0, 0, 0, 0.0, 1.0, 0.5)
    assert stats.availability == np.float32(0.25) and stats.availability.dtype == np.float32
    assert ABSENT.availability == 0
