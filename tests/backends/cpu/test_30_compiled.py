"""The compiled model is kept for the next start, and never trusted further than its seal."""

from __future__ import annotations

import numpy as np
import pytest
from support import tiny

from esccs_edge.backends.cpu import compiled as openvino_model
from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.values import PatchPair
from esccs_edge.errors import ManifestError


@pytest.fixture
def compiled(monkeypatch):
    """Counts how often OpenVINO had to compile."""
    calls = []
    compile_ = openvino_model._compile

    def counted(*args):
        calls.append(args)
        return compile_(*args)

    monkeypatch.setattr(openvino_model, "_compile", counted)
    return calls


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ESCCS_CACHE_DIR", str(folder))
    return folder


def logits_of(bundle, **options) -> np.ndarray:
    made = CpuBackend(bundle, bundle.manifest, max_batch=1, precision="fp32", **options)
    output = made.open_lane().answer([PatchPair(*tiny.raw_pair(bundle.manifest))])
    return output.outputs["logits"]


def test_a_second_start_loads_what_the_first_compiled(bundle, compiled, folder):
    first = logits_of(bundle)
    assert len(compiled) == 1 and folder.stat().st_mode & 0o777 == 0o700
    assert (logits_of(bundle) == first).all() and len(compiled) == 1
    logits_of(bundle, threads=1)  # other options, another entry
    assert len(compiled) == 2


def test_a_size_of_part_is_compiled_when_it_is_first_met(bundle, compiled, folder):
    pairs = [PatchPair(*tiny.raw_pair(bundle.manifest, seed)) for seed in range(7)]
    lane = CpuBackend(bundle, bundle.manifest, max_batch=7, threads=1).open_lane()
    assert len(compiled) == 1  # for a single pair
    lane.answer(pairs)
    lane.answer(pairs)
    assert len(compiled) == 2  # and for four: four pairs, then three


def test_a_kept_model_is_not_taken_for_another_manifest(bundle, compiled, folder):
    logits_of(bundle)
    other = bundle.manifest.evolve(classes=("A", "B"))
    with pytest.raises(ManifestError, match="expected"):
        CpuBackend(bundle, other, max_batch=1)


def test_without_the_cache_nothing_is_kept(bundle, compiled, folder):
    logits_of(bundle, cache=False)
    logits_of(bundle, cache=False)
    assert len(compiled) == 2 and not folder.exists()


@pytest.mark.fault(59)
def test_a_damaged_entry_is_compiled_again(bundle, compiled, folder):
    first = logits_of(bundle)
    (entry,) = (path for path in folder.iterdir() if path.stat().st_size > 1000)
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    assert (logits_of(bundle) == first).all() and len(compiled) == 2
    assert (logits_of(bundle) == first).all() and len(compiled) == 2


@pytest.mark.fault(67)
def test_a_cache_that_others_can_write_is_not_used(bundle, compiled, folder, caplog):
    folder.mkdir()
    folder.chmod(0o777)
    logits_of(bundle)
    assert len(compiled) == 1 and "0777" in caplog.text and not list(folder.iterdir())


def test_an_entry_that_openvino_refuses_is_compiled_again(bundle, compiled, folder, monkeypatch):
    first = logits_of(bundle)

    def refuse(*args):
        raise RuntimeError("made by another version")

    with monkeypatch.context() as patch:
        patch.setattr(openvino_model.ov.Core, "import_model", refuse)
        assert (logits_of(bundle) == first).all() and len(compiled) == 2
    assert (logits_of(bundle) == first).all() and len(compiled) == 2
