"""Which pairs calibrate: stratified, seeded, disjoint, written down; and no random data."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.pairs import pair_row
from support.small_student import small_index
from support.tiny import CLASSES, tiny_manifest

from esccs_edge.calibration.batches import BATCH_SIZE, load_batches
from esccs_edge.calibration.sampler import MIN_PAIRS, draw_pairs, list_as_csv
from esccs_edge.calibration.sanity import (
    MAX_AGREEMENT_P_VALUE,
    DataCheck,
    agreement_p_value,
)
from esccs_edge.contracts.cloud_bins import cloud_bin_name
from esccs_edge.errors import InputError
from esccs_edge.rasters.pair_index import PairIndex, SampleRow, read_index

HERE = Path(__file__)
MANIFEST = tiny_manifest(16)


def made_index(labels, covers=None, split="train") -> PairIndex:
    covers = covers or [None] * len(labels)
    rows = [
        pair_row(HERE, HERE, label, str(i), split, cover)
        for i, (label, cover) in enumerate(zip(labels, covers, strict=True))
    ]
    return PairIndex(HERE.parent, tuple(sorted({x for x in labels if x})), tuple(rows))


@pytest.fixture(scope="module")
def real_looking(tmp_path_factory) -> PairIndex:
    folder = tmp_path_factory.mktemp("pairs")
    return read_index(small_index(folder, MANIFEST, count=96))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=MIN_PAIRS, max_size=120),
    st.integers(8, 60),
    st.integers(8, 60),
    st.integers(0, 5),
)
def test_parts_are_disjoint_and_full_and_every_stratum_is_served_evenly(rows, first, second, seed):
    labels = ["a", "b", *(label for label, _ in rows)]
    covers = [0.0, 0.0, *(cover for _, cover in rows)]
    index = made_index(labels, covers)
    pairs = draw_pairs(index, MANIFEST, seed=seed, calibration_pairs=first, held_out_pairs=second)
    chosen = [pair.row for part in (pairs.calibration, pairs.held_out) for pair in part]
    assert len(set(chosen)) == len(chosen) == min(len(labels), first + second)
    available = Counter(zip(labels, map(cloud_bin_name, covers), strict=True))
    drawn = Counter((labels[row], cloud_bin_name(covers[row])) for row in chosen)
    most = max(drawn.values())
    # Turn by turn: a stratum has fewer than the fullest, by more than one, only when it ran out.
    assert all(drawn[s] >= min(available[s], most - 1) for s in available)


def test_no_group_stands_in_both_parts():
    rows = [
        pair_row(HERE, HERE, "ab"[i % 2], f"place-{i // 10}", "val", i % 5 / 5) for i in range(200)
    ]
    index = PairIndex(HERE.parent, ("a", "b"), tuple(rows))
    pairs = draw_pairs(index, MANIFEST, calibration_pairs=60, held_out_pairs=100)
    first, second = (
        {rows[pair.row].group for pair in part} for part in (pairs.calibration, pairs.held_out)
    )
    assert first and second and not first & second
    assert len(pairs.calibration) >= 30 and len(pairs.held_out) >= 50


def test_a_single_group_is_torn_apart_and_a_note_says_so():
    rows = [pair_row(HERE, HERE, "ab"[i % 2], "one place", "val") for i in range(40)]
    pairs = draw_pairs(PairIndex(HERE.parent, ("a", "b"), tuple(rows)), MANIFEST)
    assert len(pairs.calibration) + len(pairs.held_out) == 40
    assert any("group" in note for note in pairs.notes)


def test_the_seed_alone_decides_the_list():
    index = made_index(list("abcd") * 30, [i % 10 / 10 for i in range(120)])
    first, again, other = (
        draw_pairs(index, MANIFEST, seed=s, calibration_pairs=20, held_out_pairs=20)
        for s in (3, 3, 4)
    )
    assert first == again
    assert first.calibration != other.calibration


def test_a_share_of_both_parts_is_shown_with_one_modality_alone():
    pairs = draw_pairs(
        made_index(list("ab") * 100), MANIFEST, calibration_pairs=100, held_out_pairs=100
    )
    for part in (pairs.calibration, pairs.held_out):
        shown = Counter(pair.modalities for pair in part)
        assert shown == {("optical", "sar"): 80, ("optical",): 10, ("sar",): 10}


def test_an_absent_file_stays_absent():
    rows = made_index(list("ab") * 20).rows
    lacking = [pair_row(r.paths["optical"], None, r.label, r.group, r.split) for r in rows]
    pairs = draw_pairs(PairIndex(HERE.parent, ("a", "b"), tuple(lacking)), MANIFEST)
    assert all(p.modalities == ("optical",) for p in (*pairs.calibration, *pairs.held_out))


def test_test_rows_are_left_alone_where_others_suffice():
    train, test = made_index(list("ab") * 20).rows, made_index(list("ab") * 20, split="test").rows
    index = PairIndex(HERE.parent, ("a", "b"), (*train, *test))
    pairs = draw_pairs(index, MANIFEST)
    assert {index.rows[p.row].split for p in (*pairs.calibration, *pairs.held_out)} == {"train"}
    only_test = draw_pairs(PairIndex(HERE.parent, ("a", "b"), test), MANIFEST)
    assert any("'test'" in note for note in only_test.notes)


def test_without_cover_all_pairs_share_one_bin_and_a_note_says_so():
    pairs = draw_pairs(made_index(list("ab") * 20), MANIFEST)
    assert {p.cloud_bin for p in pairs.calibration} == {"unknown"}
    assert any("cover" in note for note in pairs.notes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 40, "one|class 'a'"),
        (list("ab") * 3, "6 labeled pairs"),
        ([None] * 40, "0 labeled pairs"),
    ],
)
def test_too_few_pairs_or_classes_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        draw_pairs(made_index(labels), MANIFEST)


def test_cloud_bins_cover_the_range():
    assert [cloud_bin_name(c) for c in (0, 0.2, 0.39, 0.6, 0.8, 1)] == [
        "0-20", "20-40", "20-40", "60-80", "80-100", "80-100",
    ]  # fmt: skip


def test_the_saved_list_names_every_file_by_its_digest(real_looking):
    pairs = draw_pairs(real_looking, MANIFEST, calibration_pairs=16, held_out_pairs=16)
    rows = list(csv.DictReader(io.StringIO(list_as_csv(real_looking, MANIFEST, pairs))))
    assert Counter(row["purpose"] for row in rows) == {"calibration": 16, "held-out": 16}
    for row in rows:
        for name in ("optical", "sar"):
            assert bool(row[name]) == (name in row["modalities"])
            if row[name]:
                content = (real_looking.folder / row[name]).read_bytes()
                assert row[f"{name}_sha256"] == hashlib.sha256(content).hexdigest()


def judged(index: PairIndex, count: int = 64, agreement=None) -> dict[str, float]:
    check = DataCheck()
    pairs = draw_pairs(index, MANIFEST, calibration_pairs=count, held_out_pairs=8).calibration
    for batch in load_batches(index, MANIFEST, pairs):
        assert len(batch.labels) <= BATCH_SIZE
        check.add(batch)
    return check.require_real(seed=0, agreement=agreement)


def test_labels_that_the_model_answers_count_where_patches_are_few():
    labels = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    near = np.array([0, 1, 2, 3, 0, 1, 2, 0])
    assert agreement_p_value(near, labels, seed=0) <= MAX_AGREEMENT_P_VALUE
    assert agreement_p_value(np.roll(labels, 1), labels, seed=0) > 0.5
    assert agreement_p_value(np.zeros(8, int), labels, seed=0) > 0.5  # always the same answer
    maps = np.arange(8)[:, None, None] % 4 * np.ones((1, 4, 4), int)
    assert agreement_p_value(maps, maps, seed=0) <= MAX_AGREEMENT_P_VALUE
    unknown = np.full(8, -1)
    assert agreement_p_value(labels, unknown, seed=0) == 1.0


def with_pixels(folder: Path, make_optical, make_sar, labels=CLASSES) -> PairIndex:
    """An index of 80 pairs whose pixels come from two functions of the class number."""
    rows = []
    for i in range(80):
        files = folder / f"{i}-o.npy", folder / f"{i}-s.npy"
        for file, make in zip(files, (make_optical, make_sar), strict=True):
            np.save(file, make(i % len(labels)))
        rows.append(pair_row(*files, labels[i % len(labels)], str(i), "train", 0.0))
    return PairIndex(folder, tuple(labels), tuple(rows))


RNG = np.random.default_rng(11)


def noise_dn(_):
    return RNG.integers(1, 10000, (13, 16, 16), np.uint16)


def noise_db(_):
    return RNG.normal(-14, 4, (2, 16, 16)).astype(np.float32)


def flat_dn(label):
    return np.full((13, 16, 16), 1000 + 500 * label, np.uint16)


def speckled_fields_db(label):
    """Uniform ground under independent speckle: no neighbor resembles another."""
    level = -8 - 3 * label + RNG.normal(0, 1)
    return (level + 10 * np.log10(RNG.gamma(4.4, 1 / 4.4, (2, 16, 16)))).astype(np.float32)


def test_scenes_with_clouds_are_accepted(real_looking):
    found = judged(real_looking)
    assert found["optical_neighbour_correlation"] > 0.5  # codespell:ignore neighbour
    assert found["optical_patch_f_ratio"] > 10
    assert found["sar_class_p_value"] <= 0.05


def test_speckle_over_uniform_ground_is_not_mistaken_for_noise(tmp_path, real_looking):
    scenes = {}

    def scene(label):
        queue = scenes.setdefault(
            label, [r for r in real_looking.rows if r.label == CLASSES[label]]
        )
        return np.load(queue[len(scenes) % len(queue)].paths["optical"])

    found = judged(with_pixels(tmp_path, scene, speckled_fields_db))
    correlation = found["sar_neighbour_correlation"]  # codespell:ignore neighbour
    assert abs(correlation) < 0.1 < 10 < found["sar_patch_f_ratio"]


@pytest.mark.parametrize(
    ("optical", "sar", "message"),
    [
        (noise_dn, noise_db, "noise"),
        (noise_dn, speckled_fields_db, "optical pixels are noise"),
        (flat_dn, noise_db, "optical patches are constant"),
    ],
)
def test_random_and_constant_pixels_are_refused(tmp_path, optical, sar, message):
    with pytest.raises(InputError, match=message):
        judged(with_pixels(tmp_path, optical, sar))


def mixed_labels(index: PairIndex) -> PairIndex:
    labels = np.random.default_rng(2).permutation([row.label for row in index.rows])
    rows = [
        SampleRow(r.paths, str(label), r.group, "train", r.cover)
        for r, label in zip(index.rows, labels, strict=True)
    ]
    return PairIndex(index.folder, index.classes, tuple(rows))


def test_labels_that_say_nothing_about_the_pixels_are_refused(real_looking):
    with pytest.raises(InputError, match="no better than chance"):
        judged(mixed_labels(real_looking))


def test_pairs_are_taken_whose_labels_the_model_answers(real_looking):
    mixed = mixed_labels(real_looking)
    with pytest.raises(InputError, match="float model") as caught:
        judged(mixed, agreement=0.4)
    assert "pairs are too few" in caught.value.hint
    assert judged(mixed, agreement=0.005)["agreement_p_value"] == 0.005
