"""Timings of what a ground station calls most. Run: pytest tests/benchmarks --benchmark-enable.

The suite runs each body once. The relations at the end hold with much slack on any machine; no
absolute time is asserted, since hosts differ.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from support.tiny import raw_pair, tiny_bundle

from benchmarks.peers.numpy_preprocess import NumpyPreprocess
from benchmarks.peers.pixels import write_pixels
from esccs_edge import Bundle, Classifier
from esccs_edge.pixels.preprocess import preprocess

PATCH = 64
BATCH = 32
#: A batched call shares its fixed cost, so per pair it must not be slower than single calls; the
#: factor absorbs noise on a busy host.
SLACK = 2.0


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("bench") / "bundle"
    with Classifier(tiny_bundle(folder, PATCH), backend="cpu", max_batch=BATCH) as opened:
        opened.warmup()
        yield opened


@pytest.fixture(scope="module")
def pairs(classifier):
    return [raw_pair(classifier.manifest, seed) for seed in range(BATCH)]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory):
    """Optical and SAR of a batch for the shipped model."""
    folder = write_pixels(tmp_path_factory.mktemp("pixels"), Bundle.open().manifest, BATCH)
    return [np.load(folder / f"{name}.npy") for name in ("optical", "sar")]


def test_classify_one_pair(benchmark, classifier, pairs):
    assert benchmark(classifier.classify, *pairs[0]).label in classifier.manifest.classes


def test_classify_batch_of_32(benchmark, classifier, pairs):
    opticals, sars = map(list, zip(*pairs, strict=True))
    assert len(benchmark(classifier.classify_batch, opticals, sars)) == BATCH


def test_submit_and_wait(benchmark, classifier, pairs):
    answer = benchmark(lambda: classifier.submit(*pairs[0]).result(timeout=30))
    assert answer.label in classifier.manifest.classes


def test_preprocess_batch_of_32(benchmark, classifier, pairs):
    spec = classifier.manifest.modalities["optical"]
    out = np.empty((BATCH, len(spec.channels), PATCH, PATCH), np.float32)
    stats = benchmark(preprocess, [optical for optical, _ in pairs], spec, out)
    assert all(seen.valid == PATCH * PATCH for seen in stats)


def test_a_batch_costs_no_more_per_pair_than_single_calls(classifier, pairs):
    opticals, sars = map(list, zip(*pairs, strict=True))
    single = _best_of(5, lambda: [classifier.classify(*pair) for pair in pairs])
    batched = _best_of(5, lambda: classifier.classify_batch(opticals, sars))
    assert batched < SLACK * single


def test_native_preprocessing_is_no_slower_than_careful_numpy(pixels):
    manifest = Bundle.open().manifest
    specs = manifest.modalities["optical"], manifest.modalities["sar"]
    outs = [np.empty(stored.shape, np.float32) for stored in pixels]

    def native():
        for stored, spec, out in zip(pixels, specs, outs, strict=True):
            preprocess(list(stored), spec, out, threads=1)

    numpy = NumpyPreprocess(manifest)
    assert _best_of(7, native) < SLACK * _best_of(7, lambda: numpy(*pixels))


def _best_of(rounds: int, call) -> float:
    """Seconds of the fastest call: the one that noise disturbed least."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
