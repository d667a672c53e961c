"""Values are judged fast, and exactly as by looking at each sample alone and in every detail."""

from __future__ import annotations

import time

import numpy as np
import pytest

from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.values import Flag, Sample
from esccs_edge.errors import InputError
from esccs_edge.example import example_scene
from esccs_edge.pixels.band_values import BandValues
from esccs_edge.pixels.preprocess import preprocess
from esccs_edge.pixels.radiometry import flags_of, judged, radiometry_problem

#: A model with B10, VV and VH, taught on real bands: all checks apply.
SPECS = Bundle.open().manifest.modalities
#: The slow twin takes three times as long and more; a machine that others use leaves this.
SLACK = 1.3


def slow_ranks(pixels, spec) -> BandValues | None:
    """One sample, one band, one rank at a time."""
    side = 8 if len(spec.channels) > 4 else 16
    rows, columns = -(-pixels.shape[1] // side), -(-pixels.shape[2] // side)
    few = pixels[:, rows // 2 :: rows, columns // 2 :: columns]
    values = few[:, spec.valid_mask(few)]
    if not values.size:
        return None
    ranks = {}
    for share in (0.1, 0.16, 0.5, 0.84):
        ranked = np.sort(values, axis=1)[:, round(share * (values.shape[1] - 1))]
        ranked = ranked.astype(np.float64)
        if pixels.dtype.kind in "iu":
            ranked = (ranked + spec.dn_offset) * spec.dn_scale
        elif spec.is_linear:
            ranked = 10 * np.log10(np.maximum(ranked, 1e-5))
        ranks[share] = ranked
    spread = (ranks[0.84] - ranks[0.16]) / 2
    even = tuple(i for i, band in enumerate(values_of(pixels, spec)) if len(set(band)) == 1)
    return BandValues(
        ranks[0.5].tolist(), ranks[0.1].tolist(), spread.tolist(), slow_step(values, spec), even
    )


def values_of(pixels, spec):
    """All usable values of a patch without a gap, the few that are looked at of another."""
    return pixels[:, spec.valid_mask(pixels)].tolist() if spec.unit == "reflectance" else []


def slow_step(values, spec) -> float:
    """Each cirrus value beside each other one."""
    if "B10" not in spec.channels:
        return 0.0
    band = values[spec.channels.index("B10")]
    levels = sorted(set(band.tolist()))
    if len(levels) < 3:
        return 0.0
    step = min(np.float32(b) - np.float32(a) for a, b in zip(levels, levels[1:], strict=False))
    return float(step) * (spec.dn_scale if band.dtype.kind in "iu" else 1.0)


def slow_twin(images, seen, spec, name):
    found = []
    for pixels, stats in zip(images, seen, strict=True):
        bands = slow_ranks(pixels, spec)
        is_dn = pixels.dtype.kind in "iu"
        problem = radiometry_problem(stats, bands, spec, is_dn, name)
        flags = flags_of(stats, bands, spec)
        if is_dn and name == "optical":
            columns = pixels.reshape(len(pixels), -1).T
            measured = [column for column in columns if column.any()]
            if any(0 in np.delete(column, spec.channels.index("B10")) for column in measured):
                flags.add(Flag.PARTIAL_NODATA)
        found.append(problem or flags)
    return found


def seen_in(images, spec):
    return preprocess(images, spec, np.empty((len(images), *images[0].shape), np.float32))


def batch_of(images, name):
    return [Sample({name: pixels}) for pixels in images]


def patches(name: str) -> list[np.ndarray]:
    """Real patches of the example scene, under clouds where it is optical."""
    scene = getattr(example_scene(), name)
    return [
        np.ascontiguousarray(scene[:, row : row + 64, column : column + 64])
        for row in range(0, scene.shape[1] - 63, 64)
        for column in range(0, scene.shape[2] - 63, 64)
    ]


def odd_ones(pixels: np.ndarray) -> list[np.ndarray]:
    """One patch as it is, and with what can go wrong with it, near the limits too."""
    floats = pixels.astype(np.float32) * np.float32(1e-4 if pixels.dtype.kind in "iu" else 1)
    found = [pixels, floats, pixels[::-1], np.roll(pixels, 1, axis=0), np.zeros_like(pixels)]
    found += [floats * factor for factor in (1e-4, 0.01, 0.1, 0.3, 2, 5, 10, 100, 1e4)]
    found += [abs(floats) ** 0.5, floats * np.float32(1.4), floats * np.float32(1.6), pixels * 2]
    found += [((floats - floats.min()) / np.ptp(floats)), floats.clip(0, 1), floats / 2]
    found += [constant(pixels, 1), constant(floats, 0), constant(pixels, len(pixels) - 1)]
    found += [floats + added for added in (-40, -0.3, -0.1, 0.05, 0.1, 1, 20)]
    if pixels.dtype.kind in "iu":
        found += [pixels + np.uint16(1000), pixels.astype(np.int16) - np.int16(1000), pixels // 39]
        found += [ended(pixels, bands) for bands in ([11, 12], [1], [10], list(range(13)))]
    for extreme in (np.nan, np.inf, -9999.0, -0.26, 0.0, 1e20):
        few, many = floats.copy(), floats.copy()
        few[:, 4, 4] = extreme
        many[:, :, :40] = extreme
        found += [few, many]
    return [np.ascontiguousarray(one) for one in found]


def constant(pixels: np.ndarray, band: int) -> np.ndarray:
    """Make a band up."""
    found = pixels.copy()
    found[band] = found[band].flat[0]
    return found


def ended(pixels: np.ndarray, bands: list[int]) -> np.ndarray:
    """Let some bands end two columns before the others, as at the edge of a swath."""
    found = pixels.copy()
    found[bands, :, :2] = 0
    return found


@pytest.mark.parametrize("name", ["optical", "sar"])
@pytest.mark.parametrize("linear", [False, True])
def test_nothing_else_is_found_than_by_the_slow_twin(name, linear):
    spec = SPECS[name].stored_as("linear") if linear and name == "sar" else SPECS[name]
    images = [odd for pixels in patches(name)[::3] for odd in odd_ones(pixels)]
    seen = seen_in(images, spec)
    found = judged(batch_of(images, name), {name: seen}, {name: spec})
    expected = slow_twin(images, seen, spec, name)
    kinds = set()
    for fast, slow, stats in zip(found, expected, seen, strict=True):
        if isinstance(slow, InputError):
            assert str(fast) == str(slow)
        elif stats.valid:
            assert fast == slow
        kinds.add(str(slow))
    assert len(kinds) > 4


def test_a_batch_of_several_types_and_gaps_is_told_apart():
    pixels = patches("optical")[0]
    gap = pixels.copy()
    gap[:, :, :9] = 0
    images = [pixels, gap, pixels * np.float32(1e-4), pixels[::-1].copy(), pixels.astype(np.int16)]
    found = judged(
        batch_of(images, "optical"),
        {"optical": seen_in(images, SPECS["optical"])},
        {"optical": SPECS["optical"]},
    )
    assert [sorted(map(str, flags)) for flags in found] == [
        [], ["PARTIAL_NODATA"], [], ["RADIOMETRY_SUSPECT"], [],
    ]  # fmt: skip


def test_bands_that_end_before_others_are_flagged():
    """Digital number 0 is no measurement, so a pixel with 0 in some bands has not all of them."""
    bands = {"20 and 60 m": [0, 4, 5, 6, 8, 9, 10, 11, 12], "SWIR": [11, 12], "blue": [1]}
    images = [ended(patches("optical")[0], chosen) for chosen in bands.values()]
    images.append(ended(patches("optical")[0], [10]))  # B10 may be as dark as that
    found = judged(
        batch_of(images, "optical"),
        {"optical": seen_in(images, SPECS["optical"])},
        {"optical": SPECS["optical"]},
    )
    assert [Flag.PARTIAL_NODATA in flags for flags in found] == [True, True, True, False]


@pytest.mark.parametrize("wrong", [0, 1])
def test_one_polarization_in_another_unit_is_flagged(wrong):
    """Decibels told to be linear are below the noise of any sensor, in one polarization too."""
    spec = SPECS["sar"].stored_as("linear")
    image = patches("sar")[0].copy()
    right = 10 ** (image / 10)
    mixed = right.copy()
    mixed[wrong] = image[wrong]
    images = [np.ascontiguousarray(mixed, np.float32), np.ascontiguousarray(right, np.float32)]
    found = judged(batch_of(images, "sar"), {"sar": seen_in(images, spec)}, {"sar": spec})
    assert [Flag.RADIOMETRY_SUSPECT in flags for flags in found] == [True, False]


@pytest.mark.parametrize("count", [1, 32])
def test_it_costs_less_than_the_slow_twin(count):
    """A ratio of the processor's time in one process, in turns, since a machine's speed drifts."""
    images = {name: (patches(name) * 32)[:count] for name in SPECS}
    images = {name: [pixels.copy() for pixels in found] for name, found in images.items()}
    seen = {name: seen_in(images[name], SPECS[name]) for name in SPECS}
    pairs = zip(*images.values(), strict=True)
    batch = [Sample(dict(zip(SPECS, pair, strict=True))) for pair in pairs]

    def fast():
        judged(batch, seen, SPECS)

    def slow():
        for name, spec in SPECS.items():
            slow_twin(images[name], seen[name], spec, name)

    taken = {fast: [], slow: []}
    for _ in range(7):
        for work, times in taken.items():
            begin = time.process_time()
            for _ in range(-(-64 // count)):
                work()
            times.append(time.process_time() - begin)
    print(f"batch of {count}: {min(taken[slow]) / min(taken[fast]):.1f} times as long")
    assert SLACK * min(taken[fast]) < min(taken[slow])
