"""The front door: answers equal the hand-checked model, whichever way a pair comes in."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
from support import oracle, tiny

from esccs_edge import Classifier
from esccs_edge.contracts.sensors import sentinel2_dn_offset
from esccs_edge.contracts.values import NODATA_LABEL, Flag, Gate
from esccs_edge.errors import (
    DeadlineExceeded,
    EsccsError,
    InputError,
    Overloaded,
)

#: OpenVINO may run the one linear layer in bfloat16, whose step is 2**-8 of a value.
DEFAULT_PRECISION_ATOL = 0.03


@pytest.fixture
def classifier(bundle):
    with Classifier(bundle, backend="cpu", max_batch=8) as made:
        yield made


def expected_probabilities(manifest, optical, sar) -> tuple[np.ndarray, np.ndarray]:
    """The slow road: oracle preprocessing, NumPy network, float64 softmax."""
    size = manifest.sample.height
    planes, availability = [], []
    for pixels, spec in (
        (optical, manifest.modalities["optical"]),
        (sar, manifest.modalities["sar"]),
    ):
        if pixels is None:
            planes.append(np.zeros((len(spec.channels), size, size)))
            availability.append(0.0)
            continue
        plane, stats = oracle.preprocess(pixels, spec)
        planes.append(plane)
        availability.append(stats["valid"] / stats["pixels"])
    logits, gate = tiny.expected(
        manifest, planes[0][None], planes[1][None], np.array([availability])
    )
    return oracle.softmax(logits, manifest.temperature)[0], gate[0]


def assert_matches(answer, manifest, optical, sar) -> None:
    probabilities, gate = expected_probabilities(manifest, optical, sar)
    found = np.array([answer.probabilities[name] for name in manifest.classes])
    np.testing.assert_allclose(found, probabilities, rtol=0, atol=DEFAULT_PRECISION_ATOL)
    np.testing.assert_allclose((answer.gate.optical, answer.gate.sar), gate, atol=1e-2)
    assert answer.confidence == answer.probabilities[answer.label] == max(found)
    assert found.sum() == pytest.approx(1)


def absent_some(pair, kind: str):
    optical, sar = pair
    return None if kind == "sar" else optical, None if kind == "optical" else sar


# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["both", "optical", "sar"])
@pytest.mark.parametrize("seed", range(3))
def test_classify_equals_the_hand_checked_model(classifier, kind, seed):
    pair = absent_some(tiny.raw_pair(classifier.manifest, seed), kind)
    answer = classifier.classify(*pair)
    assert_matches(answer, classifier.manifest, *pair)
    assert (Flag.MODALITY_MISSING in answer.flags) == (kind != "both")
    if kind != "both":
        assert answer.gate == Gate(1.0, 0.0) if kind == "optical" else Gate(0.0, 1.0)


def test_a_partly_absent_modality_counts_less(classifier):
    optical, sar = tiny.raw_pair(classifier.manifest)
    optical[:, :8] = 0
    answer = classifier.classify(optical, sar)
    assert_matches(answer, classifier.manifest, optical, sar)
    assert answer.gate.optical < 0.4 and answer.flags == {Flag.PARTIAL_NODATA}


@pytest.mark.fault(4)
def test_pixels_of_an_absent_modality_cannot_reach_the_answer(classifier):
    optical, sar = tiny.raw_pair(classifier.manifest)
    alone = classifier.classify(optical, None)
    nothing = np.full_like(sar, np.nan)
    masked = classifier.classify(optical, nothing)
    assert masked.probabilities == alone.probabilities and masked.gate == alone.gate
    assert masked.flags == {Flag.MODALITY_MISSING, Flag.NONFINITE_MASKED}


@pytest.mark.fault(5)
def test_nothing_at_all_is_nodata_and_no_class(classifier):
    answer = classifier.classify(None, None)
    assert answer.label == NODATA_LABEL and answer.confidence == 0
    assert set(answer.probabilities.values()) == {0.0} and answer.gate == Gate(0, 0)
    assert answer.flags == {Flag.ALL_NODATA, Flag.MODALITY_MISSING}


@pytest.mark.fault(3)
def test_only_nodata_pixels_are_nodata(classifier):
    optical, sar = tiny.raw_pair(classifier.manifest)
    answer = classifier.classify(np.zeros_like(optical), np.full_like(sar, np.nan))
    assert answer.label == NODATA_LABEL
    assert answer.flags == {Flag.ALL_NODATA, Flag.NONFINITE_MASKED}


@pytest.mark.fault(6)
def test_a_constant_patch_gets_an_answer(classifier):
    optical, sar = tiny.raw_pair(classifier.manifest)
    pair = np.full_like(optical, 1500), np.full_like(sar, -12)
    assert_matches(classifier.classify(*pair), classifier.manifest, *pair)


def test_temperature_softens_confidence_and_keeps_the_label(tmp_path):
    answers = []
    for temperature in (1.0, 4.0):
        bundle = tiny.tiny_bundle(tmp_path / str(temperature), temperature=temperature)
        with Classifier(bundle, "cpu") as made:
            pair = tiny.raw_pair(bundle.manifest)
            answers.append(made.classify(*pair))
            assert_matches(answers[-1], bundle.manifest, *pair)
    assert answers[1].label == answers[0].label and answers[1].confidence < answers[0].confidence


def test_dn_offset_replaces_that_of_the_manifest(bundle):
    optical, sar = tiny.raw_pair(bundle.manifest)
    offset = sentinel2_dn_offset("05.10")
    with Classifier(bundle, "cpu", dn_offset=offset) as made:
        shifted = made.classify(optical + np.uint16(-offset), sar)
        assert made.manifest.modalities["optical"].dn_offset == offset
        assert made.bundle.manifest.modalities["optical"].dn_offset == 0
    with Classifier(bundle, "cpu") as made:
        assert made.classify(optical, sar) == shifted


def test_linear_sar_is_converted_when_asked_for(bundle):
    optical, sar_db = tiny.raw_pair(bundle.manifest)
    sigma0 = np.power(10, sar_db / 10, dtype=np.float32)
    with Classifier(bundle, "cpu", sar_unit="linear") as linear, Classifier(bundle, "cpu") as db:
        first, second = linear.classify(optical, sigma0), db.classify(optical, sar_db)
        assert first.label == second.label
        assert first.confidence == pytest.approx(second.confidence, abs=DEFAULT_PRECISION_ATOL)
        with pytest.raises(InputError, match="dB"):
            db.classify(optical, sigma0)
        with pytest.raises(InputError, match="about -50"):
            linear.classify(optical, sar_db)
        assert linear.health().ok


def test_the_manifest_gives_the_unit_of_sar_unless_an_argument_does(tmp_path):
    bundle = tiny.tiny_bundle(tmp_path / "db")
    optical, sar_db = tiny.raw_pair(bundle.manifest)
    sigma0 = np.power(10, sar_db / 10, dtype=np.float32)
    spec = bundle.manifest.modalities["sar"].stored_as("linear")
    specs = {**bundle.manifest.modalities, "sar": spec}
    stores_linear = tiny.tiny_bundle(tmp_path / "linear", modalities=specs)
    with Classifier(stores_linear, "cpu") as made:
        by_manifest = made.classify(optical, sigma0)
    with Classifier(stores_linear, "cpu", sar_unit="dB") as made:
        by_argument = made.classify(optical, sar_db)
    assert by_argument.label == by_manifest.label
    assert by_argument.confidence == pytest.approx(
        by_manifest.confidence, abs=DEFAULT_PRECISION_ATOL
    )


# ---- every way in -------------------------------------------------------------------------------


@pytest.fixture
def mixed(classifier):
    """Twenty pairs, every third without optical, every fifth without SAR, and their answers."""
    pairs = []
    for seed in range(20):
        optical, sar = tiny.raw_pair(classifier.manifest, seed)
        pairs.append((None if seed % 3 == 1 else optical, None if seed % 5 == 2 else sar))
    return pairs, [classifier.classify(*pair).label for pair in pairs]


def test_all_ways_in_give_the_same_labels(classifier, mixed):
    pairs, labels = mixed

    async def together():
        return await asyncio.gather(*(classifier.aclassify(*pair) for pair in pairs))

    ways = {
        "batch": classifier.classify_batch(*zip(*pairs, strict=True)),
        "submit": [future.result(20) for future in [classifier.submit(*p) for p in pairs]],
        "stream": list(classifier.stream(iter(pairs))),
        "aclassify": asyncio.run(together()),
    }
    for way, answers in ways.items():
        assert [answer.label for answer in answers] == labels, way


@pytest.mark.fault(84)
def test_threads_share_one_classifier_with_serial_answers(classifier, mixed):
    pairs, labels = mixed
    found = {}

    def work(name: int) -> None:
        if name % 2:
            found[name] = [classifier.classify(*pair).label for pair in pairs]
        else:
            found[name] = [f.result(20).label for f in [classifier.submit(*p) for p in pairs]]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), labels)


def test_classify_batch_takes_stacked_arrays_and_a_missing_list(classifier):
    opticals, sars = zip(*(tiny.raw_pair(classifier.manifest, s) for s in range(10)), strict=True)
    stacked = classifier.classify_batch(np.stack(opticals), np.stack(sars))
    assert stacked == classifier.classify_batch(opticals, sars)
    alone = classifier.classify_batch(None, sars)
    assert all(answer.gate == Gate(0.0, 1.0) for answer in alone)
    assert classifier.classify_batch([], []) == []


@pytest.mark.fault(13)
def test_classify_batch_refuses_lists_of_different_length(classifier):
    optical, sar = tiny.raw_pair(classifier.manifest)
    with pytest.raises(InputError, match="2 optical and 1 SAR"):
        classifier.classify_batch([optical] * 2, [sar])
    with pytest.raises(InputError, match="both lists are None"):
        classifier.classify_batch(None, None)


@pytest.mark.parametrize("way", ["batch", "stream"])
def test_a_bad_pair_fails_alone(classifier, way):
    optical, sar = tiny.raw_pair(classifier.manifest)
    linear = np.power(10, sar / 10, dtype=np.float32)
    pairs = [(optical, sar), (optical[:12], sar), (optical, linear), (None, None), (optical, sar)]
    if way == "batch":
        answers = classifier.classify_batch(*zip(*pairs, strict=True))
    else:
        answers = list(classifier.stream(pairs))
    good = classifier.classify(optical, sar).label
    kinds = [a.code if isinstance(a, EsccsError) else a.label for a in answers]
    assert kinds == [good, "input", "input", NODATA_LABEL, good]


@pytest.mark.fault(76)
def test_a_cancelled_coroutine_cancels_its_request(bundle, hold, gate):
    async def run(made) -> None:
        task = asyncio.create_task(made.aclassify(*tiny.raw_pair(made.manifest)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Classifier(bundle, "cpu", lanes=1) as made:
        hold(made, tiny.raw_pair(made.manifest))
        asyncio.run(run(made))
        gate.opened.set()
    stats = made.stats()
    assert stats.cancelled == 1 and stats.queued == 0


def test_the_deadline_of_a_coroutine_is_that_of_submit(bundle, hold, gate):
    async def late(made) -> None:
        with pytest.raises(DeadlineExceeded):
            await made.aclassify(*tiny.raw_pair(made.manifest), deadline_ms=20)

    with Classifier(bundle, "cpu", lanes=1) as made:
        hold(made, tiny.raw_pair(made.manifest))
        asyncio.run(late(made))
        gate.opened.set()


@pytest.mark.fault(76)
@pytest.mark.filterwarnings("error")
def test_event_loops_come_and_go_and_leave_no_request(bundle, hold, gate, caplog):
    async def give_up(made) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(made.aclassify(*tiny.raw_pair(made.manifest)), 0.02)

    async def ask(made) -> str:
        return (await made.aclassify(*tiny.raw_pair(made.manifest))).label

    with Classifier(bundle, "cpu", lanes=1) as made:
        hold(made, tiny.raw_pair(made.manifest))
        asyncio.run(give_up(made))  # its loop is closed when the batch of the other one is answered
        gate.opened.set()
        found: list[str] = []
        loops = [
            threading.Thread(target=lambda: found.append(asyncio.run(ask(made)))) for _ in "ab"
        ]
        for loop in loops:
            loop.start()
        for loop in loops:
            loop.join(20)
    assert len(found) == 2 and len(set(found)) == 1 and found[0] in tiny.CLASSES
    assert not caplog.records
    assert made.stats().queued == 0


def test_submit_refuses_bad_shapes_at_once_and_full_queues(bundle, hold, gate):
    with Classifier(bundle, "cpu", lanes=1, queue_size=2) as made:
        optical, sar = tiny.raw_pair(made.manifest)
        hold(made, (optical, sar))
        with pytest.raises(InputError):
            made.submit(optical[:3], sar)
        futures = [made.submit(optical, sar) for _ in range(2)]
        for pixels in (optical, "not even looked at"):
            with pytest.raises(Overloaded):
                made.submit(pixels, sar)
        gate.opened.set()
    assert futures[0].result(0) == futures[1].result(0)


@pytest.mark.fault(24)
def test_the_caller_may_overwrite_its_arrays_after_submit(bundle, hold, gate):
    with Classifier(bundle, "cpu", lanes=1) as made:
        pairs = [tiny.raw_pair(made.manifest, seed) for seed in range(5)]
        alone = [made.classify(*pair) for pair in pairs]
        optical, sar = (np.empty_like(pixels) for pixels in pairs[0])
        hold(made, pairs[0])
        futures = []
        for pair in pairs:
            optical[:], sar[:] = pair
            futures.append(made.submit(optical, sar))
        gate.opened.set()
        assert [future.result(20).label for future in futures] == [one.label for one in alone]
        found = [future.result().confidence for future in futures]
    assert found == pytest.approx(
        [one.confidence for one in alone], abs=DEFAULT_PRECISION_ATOL / 10
    )


def test_stream_survives_a_source_that_reuses_its_buffer(classifier):
    pairs = [tiny.raw_pair(classifier.manifest, seed) for seed in range(40)]
    buffer = [np.empty_like(pixels) for pixels in pairs[0]]

    def source():
        for pair in pairs:
            buffer[0][:], buffer[1][:] = pair
            yield buffer

    found = [answer.confidence for answer in classifier.stream(source())]
    alone = [classifier.classify(*pair).confidence for pair in pairs]
    assert found == pytest.approx(alone, abs=3e-3)


@pytest.mark.fault(23)
def test_inputs_are_never_written_to(classifier):
    optical, sar = tiny.raw_pair(classifier.manifest)
    sar[0, 0, 0] = np.nan
    before = optical.tobytes(), sar.tobytes()
    optical.flags.writeable = sar.flags.writeable = False
    classifier.classify(optical, sar)
    classifier.submit(optical, sar).result(20)
    assert before == (optical.tobytes(), sar.tobytes())
