"""Time series in training: the reader, masks, samples, networks and losses of Joint-FRP."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("pyarrow", reason="WorldCereal is Parquet")

from support.tiny_series import write_worldcereal  # noqa: E402

from esccs_edge.errors import InputError  # noqa: E402
from esccs_edge.training.datasets.worldcereal import open_worldcereal  # noqa: E402
from esccs_edge.training.judging.series_scores import (  # noqa: E402
    answered_series,
    collated,
    judge_series,
)
from esccs_edge.training.learning.series.filling import carried_forward, interpolated  # noqa: E402
from esccs_edge.training.learning.series.forest import SeriesForest  # noqa: E402
from esccs_edge.training.learning.series.pixel_series import PixelSeriesNet  # noqa: E402
from esccs_edge.training.learning.series.reconstruction import (  # noqa: E402
    reconstruction_loss,
    summary_loss,
)
from esccs_edge.training.samples.series_samples import (  # noqa: E402
    FixedGaps,
    SeriesSamples,
    moved,
    series_specs,
)
from esccs_edge.training.series_options import GapOptions, PixelSeriesOptions  # noqa: E402
from esccs_edge.training.simulate.missing_dates import (  # noqa: E402
    CLOUDINESS,
    LEAST_DATES,
    PATTERNS,
    keep_dates,
)
from esccs_edge.training.stages.series.classification_run import row_options  # noqa: E402
from esccs_edge.training.stages.series.shown import availability, kept  # noqa: E402

SMALL = PixelSeriesOptions(width=8, features=12, heads=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_worldcereal(tmp_path_factory.mktemp("worldcereal") / "tiny.geoparquet")


@pytest.fixture(scope="module")
def dataset(file):
    return open_worldcereal(file)


def test_worldcereal_series_come_in_slots_with_their_gaps_and_split_by_place(dataset, file):
    assert dataset.size == (12, 1, 1) and dataset.calendar.starts[0] == "09-01"
    assert dataset.classes == ("other land", "temporary crops")
    missing = (dataset.pixels["optical"] == 0).all(axis=1).mean()
    assert 0.1 < missing < 0.3 and np.isfinite(dataset.pixels["sar"]).all()
    assert -25 < dataset.pixels["sar"][:, 1].mean() < dataset.pixels["sar"][:, 0].mean() < -5
    sides = {}
    for group, split in zip(dataset.groups, dataset.splits, strict=True):
        sides.setdefault(group, set()).add(split)
    assert len(sides) == 20 and all(len(found) == 1 for found in sides.values())
    crops = open_worldcereal(file.parent, legend="crops")
    assert set(np.array(crops.classes)[crops.targets]) == {"maize", "grassland"}


def test_what_is_no_worldcereal_file_is_refused(tmp_path, file):
    import pyarrow
    import pyarrow.parquet

    with pytest.raises(InputError, match="holds no WorldCereal"):
        open_worldcereal(tmp_path)
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot read"):
        open_worldcereal(broken)
    pyarrow.parquet.write_table(pyarrow.table({"lat": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no column"):
        open_worldcereal(tmp_path / "other.parquet")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_masks_lose_the_asked_share_of_the_observed_dates_and_never_all(pattern):
    rng = np.random.default_rng(0)
    observed = rng.uniform(size=40) < 0.7
    months = np.resize(np.arange(1, 13), 40)
    for rate in (0.0, 0.1, 0.5, 0.8):
        keep = keep_dates(observed, rate, pattern, rng, months)
        assert not (keep & ~observed).any()
        assert keep.sum() == observed.sum() - round(rate * observed.sum())
    assert keep_dates(observed, 1.0, pattern, rng, months).sum() == LEAST_DATES
    few = np.arange(40) < 2
    assert (keep_dates(few, 1.0, pattern, rng, months) == few).all()


def test_a_gap_is_one_run_and_the_seasonal_mask_prefers_cloudy_months():
    rng = np.random.default_rng(1)
    observed, months = np.ones(24, bool), np.resize(np.arange(1, 13), 24)
    lost = np.flatnonzero(~keep_dates(observed, 0.5, "gap", rng, months))
    assert (np.diff(lost) == 1).all()
    drawn = np.mean([~keep_dates(observed, 0.3, "seasonal", rng, months) for _ in range(800)], 0)
    cloudy = np.array(CLOUDINESS)[months - 1]
    assert drawn[cloudy > 0.75].mean() > 1.4 * drawn[cloudy < 0.5].mean()


def test_samples_repeat_and_fixed_gaps_are_the_same_for_every_method(dataset):
    specs = series_specs(dataset, ("optical", "sar"))
    assert specs["optical"].level == "L2A" and specs["sar"].unit == "dB"
    drawn = SeriesSamples(dataset, "train", specs, GapOptions(), seed=3)
    again = SeriesSamples(dataset, "train", specs, GapOptions(), seed=3)
    keeps = [torch.stack([samples.draw(i, 4)["keep"] for i in range(12)])
             for samples in (drawn, again)]  # fmt: skip
    assert torch.equal(*keeps)
    assert not torch.equal(keeps[0], torch.stack([drawn.draw(i, 5)["keep"] for i in range(12)]))
    one, two = (SeriesSamples(dataset, "test", specs, FixedGaps(0.5), seed=3) for _ in range(2))
    assert torch.equal(one.draw(2, 0)["keep"], two.draw(2, 9)["keep"])
    assert one.draw(2, 0)["keep"][1].all()  # clouds do not hide SAR


def test_a_season_moves_as_a_whole_while_networks_learn(dataset):
    specs = series_specs(dataset, ("optical", "sar"))
    still = SeriesSamples(dataset, "train", specs, GapOptions(noise=0.0), seed=3)
    gaps = GapOptions(noise=0.0, shift=2)
    shifted = SeriesSamples(dataset, "train", specs, gaps, seed=3)
    offsets = set()
    for epoch in range(12):
        first, other = still.draw(0, epoch), shifted.draw(0, epoch)
        (slots,) = [
            k for k in range(-2, 3) if torch.equal(other["sar"], moved(first["sar"], k, 12))
        ]
        assert torch.equal(other["optical"], moved(first["optical"], slots, 12))
        assert not (other["keep"][0] & ~(other["optical"] != 0).any(dim=0)[:, 0]).any()
        offsets.add(slots)
    assert len(offsets) > 2
    days = torch.arange(1.0, 5.0)[None, :, None]
    assert moved(days, 1, 4).flatten().tolist() == [0, 1, 2, 3]
    assert moved(days, -2, 4).flatten().tolist() == [3, 4, 0, 0]
    with pytest.raises(InputError, match="shift"):
        SeriesSamples(dataset, "train", specs, GapOptions(shift=12))


def batch_of(dataset, count=6):
    specs = series_specs(dataset, ("optical", "sar"))
    samples = SeriesSamples(dataset, "train", specs, FixedGaps(0.5))
    return torch.utils.data.default_collate([samples[i] for i in range(count)])


def network(reconstruct=True, temporal="convolution"):
    torch.manual_seed(0)
    options = PixelSeriesOptions(temporal=temporal, width=8, features=12, heads=2)
    return PixelSeriesNet([9, 2], 12, 2, options, reconstruct=reconstruct).eval()


@pytest.mark.parametrize("temporal", ["convolution", "attention"])
def test_a_hidden_date_and_an_absent_sensor_cannot_reach_the_answer(dataset, temporal):
    batch, net = batch_of(dataset), network(temporal=temporal)
    series, shares = kept(batch, ("optical", "sar"))
    logits, gate, seen = net(*series, shares)
    assert torch.equal(seen[:, 0] > 0, batch["keep"][:, 0]) and seen.shape == (6, 2, 12)
    assert torch.allclose(gate.sum(dim=1), torch.ones(6))
    other = dict(batch)
    lost = ~batch["keep"][:, 0][:, None, :, None]
    other["optical"] = torch.where(lost, torch.randn_like(batch["optical"]), batch["optical"])
    again, _ = kept(other, ("optical", "sar"))
    assert torch.equal(net(*again, shares)[0], logits)
    absent = shares * torch.tensor([0.0, 1.0])
    noise = torch.randn_like(series[0])
    answers = [net(optical, series[1], absent) for optical in (noise, noise * 0)]
    assert torch.equal(answers[0][0], answers[1][0]) and not answers[0][1][:, 0].any()
    assert not answers[0][2][:, 0].any()


def test_reconstruction_fills_missing_dates_alone_and_learns_from_them_alone(dataset):
    batch, net = batch_of(dataset), network()
    series, shares = kept(batch, ("optical", "sar"))
    answer = net.answer(series, shares)
    there = batch["keep"][:, 0]
    assert torch.equal(answer.filled[0][there], answer.features[0][there])
    assert not torch.equal(answer.filled[0][~there], answer.features[0][~there])
    taught = torch.rand_like(answer.filled[0])
    loss = reconstruction_loss(answer.filled[0], taught, ~there)
    (change,) = torch.autograd.grad(loss, answer.filled[0])
    assert change[~there].abs().sum() > 0 and not change[there].any()
    assert float(reconstruction_loss(taught, 3 * taught + 0.0, ~there)) < 1e-3  # scale is free
    nowhere = there & ~there
    assert float(reconstruction_loss(answer.filled[0].detach(), taught, nowhere)) == 0
    assert float(summary_loss(taught[:, 0], 2 * taught[:, 0])) == pytest.approx(0, abs=1e-6)


def test_baselines_differ_from_the_student_in_what_they_learn_by():
    from esccs_edge.training.series_options import SeriesStudentOptions

    student = SeriesStudentOptions()
    masks, answers = row_options(student, "masks"), row_options(student, "answers")
    assert not masks.reconstruct and masks.answer_weight == 0 == masks.reconstruction_weight
    assert not answers.reconstruct and answers.answer_weight == student.answer_weight
    uncoupled = row_options(student, "reconstruction")
    assert uncoupled.reconstruct and not uncoupled.couple and uncoupled.answer_weight == 0
    assert uncoupled.reconstruction_weight == student.reconstruction_weight
    with pytest.raises(InputError, match="reconstruction_weight"):
        SeriesStudentOptions(reconstruct=False)


def test_filling_follows_lines_or_holds_the_last_value():
    series = torch.tensor([0.0, 2.0, 0.0, 0.0, 5.0, 0.0])[None, None, :, None]
    assert interpolated(series).flatten().tolist() == [2, 2, 3, 4, 5, 5]
    assert carried_forward(series).flatten().tolist() == [2, 2, 2, 2, 5, 5]
    nothing = torch.zeros(1, 1, 4, 1)
    assert not interpolated(nothing).any() and not carried_forward(nothing).any()
    assert availability([series])[0, 0] == pytest.approx(2 / 6)


def test_a_forest_learns_seasons_and_answers_without_a_sensor(dataset):
    pytest.importorskip("sklearn", reason="the forest among the baselines needs scikit-learn")
    specs = series_specs(dataset, ("optical", "sar"))
    parts = {
        split: collated(SeriesSamples(dataset, split, specs, FixedGaps(0.3)), ("optical", "sar"))
        for split in ("train", "test")
    }
    unknown = np.where(np.arange(len(parts["train"][1])) % 7 == 0, -1, parts["train"][1])
    forest = SeriesForest().fit(parts["train"][0], unknown)
    series, labels = parts["test"]
    said = forest.logits(series, 4)
    assert said.shape == (len(labels), 4) and (said.argmax(dim=1).numpy() == labels).mean() > 0.9
    assert torch.allclose(said.exp().sum(dim=1), torch.ones(len(labels)).double(), atol=1e-3)
    alone = forest.logits([series[0] * 0, series[1]], 4)
    assert torch.isfinite(alone).all() and not torch.equal(alone, said)


def test_all_are_asked_under_the_same_masks_and_scored_apart(dataset):
    specs = series_specs(dataset, ("optical", "sar"))
    test = SeriesSamples(dataset, "test", specs, FixedGaps())
    seen = {"one": [], "two": []}

    def asked(name):
        def answer(series, shares):
            seen[name].append([one.clone() for one in series])
            return torch.nn.functional.one_hot((shares[:, 0] > 0.5).long(), 2).float()

        return answer

    found = list(answered_series({name: asked(name) for name in seen}, test, ("optical", "sar")))
    assert len(found) == 2 * 3 * 3 * 5  # networks, sensors shown, patterns, rates
    for one, two in zip(*seen.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    scores = judge_series(found, 2)
    assert scores["one"]["optical"]["gap"].keys() == {"0", "0.1", "0.3", "0.5", "0.7"}
    assert scores["one"] == scores["two"]


def test_a_run_that_lacks_a_sensor_is_refused(dataset):
    import dataclasses

    alone = dataclasses.replace(dataset, channels={"sar": dataset.channels["sar"]})
    with pytest.raises(InputError, match="no optical series"):
        series_specs(alone, ("optical", "sar"))
