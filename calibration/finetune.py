"""Quantization-aware fine-tuning: teach the INT8 graph to answer like the float student.

For students that no choice of ranges saves. The float student is the teacher and stays as it is;
what it answers, right or wrong, is what INT8 should keep, so the labels only judge the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from esccs_edge.contracts.tensor import Tensor
from esccs_edge.contracts.types import Floats, Progress
from esccs_edge.errors import ArtifactError, MissingDependencyError

from .batches import BATCH_SIZE, Batch
from .recipe import Recipe, insert_qdq
from .sampler import ChosenPair

try:
    import torch
except ImportError as error:
    raise MissingDependencyError.for_extra("torch", "train", "Fine-tuning") from error

from .torch_graph import FakeQuantGraph

#: First learning rates: of a weight and of a bias in units of their scale, of the logarithm of a
#: scale. They fall to 0 along half a cosine.
WEIGHT_RATE, BIAS_RATE, SCALE_RATE = 0.05, 0.02, 0.1
#: Longer gradients are shortened, so that one odd batch cannot undo the others.
LONGEST_GRADIENT = 1.0
#: The written graph may answer differently from the one that learned by this mean squared error of
#: the logits, as a share of their variance. Both round at the same places, but sums in another
#: order fall on another side of a half now and then: 1e-5 to 1e-3 was seen.
MAX_PARITY_ERROR = 0.01

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Finetuned:
    """An INT8 graph with learned weights and scales.

    Attributes:
        model: The Q/DQ graph.
        facts: JSON-ready: passes, pairs, seed, error of the first and the last pass, parity.
    """

    model: onnx.ModelProto
    facts: dict[str, Any]


def finetune(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    recipe: Recipe,
    pairs: Sequence[ChosenPair],
    load: Callable[[Sequence[ChosenPair]], Iterable[Batch]],
    *,
    outputs: Mapping[str, Tensor],
    epochs: int,
    seed: int,
    progress: Progress,
) -> Finetuned:
    """Teach a calibrated graph on the calibration pairs; the same arguments give the same graph.

    Args:
        model: The float student.
        quantized: The graph that calibration made from it by ``recipe``.
        recipe: What is INT8.
        pairs: To learn from.
        load: Reads pairs in the order given.
        outputs: What the graph answers, by name; all of it is learned.
        epochs: Passes over the pairs.
        seed: Of the order of the pairs in each pass.
        progress: Called with passes done and in all.

    Raises:
        ArtifactError: The graph has a node that cannot be learned through, or what was learned
            does not survive the writing.
    """
    teacher = _session(model)
    graph = FakeQuantGraph(model, quantized, outputs)
    parts = (
        (graph.weights, WEIGHT_RATE),
        (graph.biases, BIAS_RATE),
        (graph.log_scales, SCALE_RATE),
    )
    groups = [{"params": list(part.values()), "lr": rate} for part, rate in parts]
    learned = [tensor for part, _ in parts for tensor in part.values()]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, epochs * -(-len(pairs) // BATCH_SIZE)
    )
    rng = np.random.default_rng(seed)
    errors = []
    for epoch in range(epochs):
        sum_of_errors = 0.0
        for batch in load([pairs[i] for i in rng.permutation(len(pairs))]):
            wanted = _tensors(_answers(teacher, batch, list(outputs)))
            error = _distance(graph(_tensors(batch.inputs)), wanted, outputs)
            optimizer.zero_grad()
            error.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learned, LONGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            sum_of_errors += float(error.detach()) * len(batch.pairs)
        errors.append(sum_of_errors / len(pairs))
        progress(epoch + 1, epochs)
    written = insert_qdq(graph.learned_into(model), recipe, graph.amax())
    facts = {
        "epochs": epochs,
        "seed": seed,
        "pairs": len(pairs),
        "first_error": round(errors[0], 6),
        "last_error": round(errors[-1], 6),
        "parity_error": round(_parity_error(graph, written, load(pairs), outputs), 6),
    }
    return Finetuned(written, facts)


def _distance(found: Tensors, wanted: Tensors, outputs: Mapping[str, Tensor]) -> torch.Tensor:
    """Squared error of the logits as a share of their variance, plus that of all shares.

    Distances have no learned weights; rounding the pixels is all that INT8 changes in them.
    """
    errors = []
    for name, tensor in outputs.items():
        if tensor.role == "distance":
            continue
        error = (found[name] - wanted[name]).square().mean()
        errors.append(error / wanted[name].var() if tensor.role == "logits" else error)
    return torch.stack(errors).sum()


def _parity_error(
    graph: FakeQuantGraph,
    written: onnx.ModelProto,
    batches: Iterable[Batch],
    outputs: Mapping[str, Tensor],
) -> float:
    """Error of the logits as a share of their variance."""
    session = _session(written)
    logits = next(name for name, tensor in outputs.items() if tensor.role == "logits")
    taught, found = [], []
    with torch.no_grad():
        for batch in batches:
            taught.append(graph(_tensors(batch.inputs))[logits].numpy())
            found.append(_answers(session, batch, [logits])[logits])
    expected = np.concatenate(taught)
    error = float(np.mean((np.concatenate(found) - expected) ** 2) / np.var(expected))
    if not error <= MAX_PARITY_ERROR:
        raise ArtifactError(
            f"the written INT8 graph differs from the one that learned by {error:.2g} of the "
            f"logits' variance, expected at most {MAX_PARITY_ERROR:g}",
            hint="Learning diverged or this ONNX Runtime rounds differently; keep the float model",
        )
    return error


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _answers(
    session: ort.InferenceSession, batch: Batch, names: Sequence[str]
) -> dict[str, Floats]:
    return dict(zip(names, session.run(names, batch.inputs), strict=True))


def _tensors(arrays: Mapping[str, Floats]) -> Tensors:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
