"""A model that is plain but would fill the memory is refused before anything large is allocated."""

from __future__ import annotations

import resource
import time

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support import tiny

from esccs_edge.backends.cpu.backend import CpuBackend
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.errors import ArtifactError

node = helper.make_node


def bomb(nodes, constants: dict[str, np.ndarray]) -> bytes:
    """The tiny model, whose logits also depend on the largest of a tensor named ``big``."""
    model = onnx.load_from_string(tiny.tiny_onnx(tiny.tiny_manifest()))
    graph = model.graph
    graph.node[-1].output[0] = "small"
    graph.node.extend(nodes)
    graph.node.append(node("ReduceMax", ["big"], ["most"], keepdims=0))
    graph.node.append(node("Add", ["small", "most"], ["logits"]))
    graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    return model.SerializeToString()


def chain(first: str, axis: int) -> list[onnx.NodeProto]:
    names = [first, *(f"twice{i}" for i in range(40)), "big"]
    return [node("Concat", [a, a], [b], axis=axis) for a, b in zip(names, names[1:], strict=False)]


ONE = np.ones((1, 1), np.float32)
LONG = np.ones((300_000, 1), np.float32)
MILLIONS, EDGES = np.array([10**6] * 2), np.array([0, 0, 10**6, 10**6])
BOMBS = {
    "expand": ([node("Expand", ["c", "shape"], ["big"])], {"c": ONE, "shape": MILLIONS}),
    "chain of constants": (chain("c", 0), {"c": np.ones(10, np.float32)}),
    "chain": (chain("optical", 2), {}),
    "broadcast": ([node("Mul", ["c", "d"], ["big"])], {"c": LONG, "d": LONG.T.copy()}),
    "product": ([node("MatMul", ["c", "d"], ["big"])], {"c": LONG, "d": LONG.T.copy()}),
    "resize": (
        [node("Resize", ["optical", "", "scales"], ["big"], mode="nearest")],
        {"scales": np.array([1, 1, 4000, 4000], np.float32)},
    ),
    "pad": ([node("Pad", ["c", "pads"], ["big"])], {"c": ONE, "pads": EDGES}),
    "tile": ([node("Tile", ["c", "times"], ["big"])], {"c": ONE, "times": MILLIONS}),
    "constant": ([node("ConstantOfShape", ["shape"], ["big"])], {"shape": MILLIONS}),
    "einsum": (
        [node("Einsum", ["c", "d"], ["big"], equation="ik,kj->ij")],
        {"c": LONG, "d": LONG.T.copy()},
    ),
    "gather": (
        [node("Gather", ["c", "places"], ["big"])],
        {"c": np.ones((1, 10**5), np.float32), "places": np.zeros(10**5, np.int64)},
    ),
    "strides": (
        [node("ConvTranspose", ["optical", "w"], ["big"], strides=[100_000, 100_000])],
        {"w": np.ones((13, 1, 1, 1), np.float32)},
    ),
    "shape": (
        [node("Shape", ["optical"], ["s"]), node("Mul", ["s", "k"], ["m"]),
         node("Expand", ["c", "m"], ["big"])],
        {"c": np.ones((1, 1, 1, 1), np.float32), "k": np.array([1, 1000, 1000, 1000])},
    ),
}  # fmt: skip


@pytest.mark.fault(55)
@pytest.mark.parametrize("kind", BOMBS)
def test_a_tensor_that_would_fill_the_memory_is_refused_at_once(tmp_path, kind):
    manifest = tiny.tiny_manifest()
    bundle = Bundle.create(tmp_path / "b", manifest, {"student.onnx": bomb(*BOMBS[kind])})
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s = time.monotonic()
    with pytest.raises(ArtifactError, match="expected a known shape of at most"):
        CpuBackend(bundle, manifest, max_batch=2, cache=False)
    assert time.monotonic() - started_s < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 500_000


def test_a_tensor_of_a_reasonable_size_is_computed(tmp_path):
    manifest = tiny.tiny_manifest()
    pads = {"c": ONE, "pads": np.array([0, 0, 1000, 1000])}
    content = bomb([node("Pad", ["c", "pads"], ["big"])], pads)
    bundle = Bundle.create(tmp_path / "b", manifest, {"student.onnx": content})
    CpuBackend(bundle, manifest, max_batch=2, cache=False).close()
