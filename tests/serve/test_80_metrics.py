"""Counts of the service as Prometheus reads them."""

from __future__ import annotations

import re

from esccs_edge.runtime.counters import Stats
from esccs_edge.serve.metrics import BUCKETS_MS, OTHER, REASONS, REJECTED, Metrics

AT_REST = Stats(9, 7, 1, 1, 0, 3, 2.3, 5, None)


def samples(text: str) -> dict[tuple[str, str], float]:
    """Name and labels -> value; every line must have the form that Prometheus reads."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP \w+ .+|TYPE \w+ (counter|gauge|histogram))", line)
            continue
        name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
        found[name, labels] = float(value)
    return found


def test_the_histogram_counts_upwards_and_ends_with_all():
    metrics = Metrics()
    for seconds in (0.0004, 0.001, 0.004, 0.004, 9.0):
        metrics.succeeded(seconds)
    found = samples(metrics.text("m", AT_REST, {}))
    name = "nv_inference_first_response_histogram_ms"
    label = 'model="m",version="1"'
    counts = [found[f"{name}_bucket", f'{label},le="{upper}"'] for upper in BUCKETS_MS]
    assert counts[:4] == [2, 2, 4, 4] and counts == sorted(counts) and counts[-1] == 4
    assert found[f"{name}_bucket", f'{label},le="+Inf"'] == found[f"{name}_count", label] == 5
    assert found[f"{name}_sum", label] == found["nv_inference_request_duration_us", label] / 1e3


def test_failures_have_their_reasons_from_the_start():
    metrics = Metrics()
    metrics.failed(REJECTED)
    metrics.failed(REJECTED)
    metrics.failed(OTHER)
    found = samples(metrics.text("m", AT_REST, {"waiting": 2, "done": 0}))
    label = 'model="m",version="1"'
    failed = [found["nv_inference_request_failure", f'{label},reason="{r}"'] for r in REASONS]
    assert failed == [2, 0, 0, 1]
    assert found["nv_inference_count", label] == 7 and found["nv_inference_exec_count", label] == 3
    assert found["nv_inference_pending_request_count", label] == 5
    assert found["esccs_scene_jobs", f'{label},state="waiting"'] == 2


def test_a_name_cannot_break_a_line():
    text = Metrics().text('a"b\\c\nd', AT_REST, {})
    assert 'model="a\\"b\\\\c\\nd"' in text and samples(text)
