"""Engines of a segmentation student, by the real TensorRT for RTX compiler: bytes come out."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from support.small_segmenter import calibrated_segmenter

from esccs_edge.cuda.probe import driver_present
from esccs_edge.export.to_engine import build_engine

pytestmark = [
    pytest.mark.skipif(
        find_spec("tensorrt_rtx_bindings") is None,
        reason="TensorRT for RTX is not installed (x86-64 only): pip install esccs-edge[rtx]",
    ),
    pytest.mark.skipif(driver_present(), reason="this host has a GPU; the test is about none"),
]

#: What convolutions read: two streams of three, the gate and the head.
READS = {
    "fp32": {"fp32": 8},
    "fp16": {"fp16": 6, "fp32": 2},
    "int8": {"int8": 6, "fp32": 2},
}


@pytest.mark.parametrize("precision", list(READS))
def test_one_engine_computes_labels_where_the_logits_are(tmp_path, precision):
    bundle = calibrated_segmenter(tmp_path / "bundle")
    report = build_engine(bundle, precision=precision, out=tmp_path / "engines")
    assert report.path.stat().st_size == report.bytes > 100_000
    written = {
        name: kind
        for layer in report.layers
        for name, kind in zip(layer["outputs"], layer["writes"], strict=False)
        if name in bundle.manifest.outputs | bundle.manifest.returned
    }
    assert written == dict.fromkeys(bundle.manifest.returned, "uint8")  # no logits, no gate
    convolutions = [layer for layer in report.layers if layer["kind"] == "correlation"]
    reads = [layer["reads"][0] for layer in convolutions]
    assert {kind: reads.count(kind) for kind in set(reads)} == READS[precision]
