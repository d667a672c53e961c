"""How a user's pixels are stored, said by an argument in place of the manifest."""

from __future__ import annotations

import pytest
from support import tiny
from support.toy_task import toy_manifest

from esccs_edge.contracts.stored_units import as_stored
from esccs_edge.errors import InputError

MANIFEST = tiny.tiny_manifest()


def test_nothing_said_leaves_the_manifest_as_it_is():
    linear = as_stored(MANIFEST, sar_unit="linear")
    assert as_stored(MANIFEST) == MANIFEST and as_stored(linear) == linear


def test_each_argument_changes_the_modalities_of_its_unit_only():
    found = as_stored(MANIFEST, dn_offset=-1000, sar_unit="linear")
    optical, sar = found.modalities["optical"], found.modalities["sar"]
    assert (optical.dn_offset, optical.stored_unit) == (-1000.0, "dn")
    assert (sar.dn_offset, sar.stored_unit) == (0.0, "linear")


def test_decibels_are_restored_by_name():
    assert as_stored(as_stored(MANIFEST, sar_unit="linear"), sar_unit="dB") == MANIFEST


def test_a_modality_is_found_by_its_unit_whatever_its_name():
    assert as_stored(toy_manifest(), sar_unit="linear").modalities["radar"].is_linear


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sar_unit": "power"}, "sar_unit is 'power', expected 'dB' or 'linear'"),
        ({"dn_offset": -1000}, "dn_offset is -1000, but .* no modality in reflectance: radar in"),
    ],
)
def test_what_the_bundle_cannot_follow_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        as_stored(toy_manifest(), **arguments)
