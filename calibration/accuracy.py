"""What a quantized model answers, how often it is right, and where its error comes from.

Answers and labels are class numbers, ``(N,)`` or ``(N, H, W)``; a label of -1 is not known and not
counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from esccs_edge.contracts.task import Measure
from esccs_edge.contracts.types import Array, Labels

from .batches import Batch
from .collect import session_with_tensors
from .recipe import Recipe, channel_axes, per_channel
from .sampler import ChosenPair

Classes = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Answers:
    """What a model answers; the logits of some hundred maps would not fit into memory.

    Attributes:
        classes: ``(N, ...)`` class of largest logit.
        logit_mse: Mean squared error of the logits, against those of the float model.
    """

    classes: Classes
    logit_mse: float


@dataclass(frozen=True)
class Accuracy:
    """Shares in [0, 1] over ``n`` labels.

    Balanced accuracy is the mean recall of the classes that the labels hold, mIoU the mean of their
    intersections over unions.
    """

    oa: float
    balanced_accuracy: float
    miou: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """Return the JSON form."""
        return asdict(self)


def run_models(
    models: Mapping[str, bytes], batches: Iterable[Batch], output: str
) -> tuple[dict[str, Answers], Labels]:
    """Return what models answer over the same batches, and the labels.

    Args:
        models: Name -> graph; the first is the one that errors of logits count from.
        batches: Inputs and labels.
        output: Name of the logits.
    """
    sessions = {
        name: ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        for name, content in models.items()
    }
    classes: dict[str, list[Classes]] = {name: [] for name in models}
    errors, count, labels = dict.fromkeys(models, 0.0), 0, []
    for batch in batches:
        labels.append(batch.labels)
        found = {n: session.run([output], batch.inputs)[0] for n, session in sessions.items()}
        first = next(iter(found.values()))
        count += first.size
        for name, logits in found.items():
            classes[name].append(logits.argmax(axis=1).astype(np.uint16))
            errors[name] += float(np.sum(np.square(logits - first, dtype=np.float64)))
    answers = {n: Answers(np.concatenate(classes[n]), errors[n] / count) for n in models}
    return answers, np.concatenate(labels)


def accuracy(classes: Classes, labels: Labels) -> Accuracy:
    """Score answers against labels."""
    known, labels_of_all = labels >= 0, labels
    right, labels = (classes == labels)[known], labels[known]
    recalls = [right[labels == label].mean() for label in np.unique(labels)]
    miou = float(_miou(_confusions(classes[None], labels_of_all[None])[0]))
    return Accuracy(float(right.mean()), float(np.mean(recalls)), miou, len(labels))


def accuracy_by_cloud(
    classes: Classes, labels: Labels, pairs: Sequence[ChosenPair]
) -> dict[str, Accuracy]:
    """Score each cloud bin that has pairs, in the order of their names."""
    bins = np.array([pair.cloud_bin for pair in pairs])
    return {
        str(name): accuracy(classes[bins == name], labels[bins == name]) for name in np.unique(bins)
    }


def label_agreement(first: Classes, second: Classes, labels: Labels) -> tuple[float, float]:
    """Return the share of known labels that two models agree on, and its standard error."""
    known, differing = labels >= 0, first != second
    return 1 - float(differing[known].mean()), _standard_error(differing, known)


def loss_in_points(
    before: Classes, after: Classes, labels: Labels, measure: Measure = "balanced_accuracy"
) -> tuple[float, float]:
    """Return the loss by a measure in points, and its standard error.

    The error is that of the paired difference: only samples that change from right to wrong or
    back count, so that one flipped answer in a small set is not mistaken for a loss. That of mIoU
    comes from leaving out each sample in turn (jackknife: Efron, 1982).
    """
    loss = getattr(accuracy(before, labels), measure) - getattr(accuracy(after, labels), measure)
    if measure == "miou":
        first, second = _confusions(before, labels), _confusions(after, labels)
        left = _miou(first.sum(axis=0) - first) - _miou(second.sum(axis=0) - second)
        spread = np.square(left - left.mean()).sum() * (len(left) - 1) / len(left)
        return 100 * loss, 100 * float(np.sqrt(spread))
    lost = np.subtract(before == labels, after == labels, dtype=np.float64)
    return 100 * loss, 100 * _standard_error(lost, labels >= 0)


def _confusions(classes: Classes, labels: Labels) -> Array:
    """Return ``(N, K, K)``: known pixels of each sample by true class and answer."""
    samples, count = len(labels), int(max(classes.max(), labels.max())) + 1
    answers, true = classes.reshape(samples, -1), labels.reshape(samples, -1)
    cells = (np.arange(samples)[:, None] * count + true) * count + answers
    found = np.bincount(cells[true >= 0], minlength=samples * count * count)
    return found.reshape(samples, count, count)


def _miou(confusions: Array) -> Array:
    """Return the mean over the classes that the labels hold, of ``(..., K, K)`` counts."""
    hits = confusions.diagonal(axis1=-2, axis2=-1)
    true = confusions.sum(axis=-1)
    unions = true + confusions.sum(axis=-2) - hits
    return np.asarray((hits / np.maximum(unions, 1)).sum(axis=-1) / (true > 0).sum(axis=-1))


def _standard_error(changes: Array, known: Array) -> float:
    """Standard error of the mean over all known values, of changes that are 0 on average.

    The pixels of a sample resemble each other, so that what changes in one counts as one change.
    """
    sums = np.reshape(changes * known, (len(changes), -1)).sum(axis=1)
    return float(np.sqrt(np.sum(np.square(sums, dtype=np.float64))) / known.sum())


def tensor_errors(
    model: onnx.ModelProto, quantized: onnx.ModelProto, recipe: Recipe, batches: Iterable[Batch]
) -> list[dict[str, str | float]]:
    """Return scale and signal-to-quantization-noise ratio (dB) of each quantized tensor.

    An activation's error is the one that arrives there in the running INT8 model, so it includes
    what earlier tensors lost; a weight's is its own. Both count from the float student, so what
    fine-tuning changed on purpose counts as well.
    """
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in quantized.graph.initializer}
    axes = channel_axes(quantized)
    rows: list[dict[str, str | float]] = []
    for name, ratio in _activation_ratios(model, quantized, recipe, batches).items():
        scale = float(constants[f"{name}_scale"])
        rows.append({"tensor": name, "kind": "activation", "scale": scale, "sqnr_db": ratio})
    for tensor in model.graph.initializer:
        if (key := f"{tensor.name}_quantized") in constants:
            exact = onnx.numpy_helper.to_array(tensor)
            scales = constants[f"{tensor.name}_scale"]
            error = exact - constants[key] * scales.reshape(per_channel(exact.ndim, axes[key]))
            ratio = _decibel(float(np.sum(exact**2)), float(np.sum(error**2)))
            largest = float(scales.max())
            rows.append(
                {"tensor": tensor.name, "kind": "weight", "scale": largest, "sqnr_db": ratio}
            )
    return rows


def _activation_ratios(
    model: onnx.ModelProto, quantized: onnx.ModelProto, recipe: Recipe, batches: Iterable[Batch]
) -> dict[str, float]:
    inner = [n for n in recipe.activations if n not in {v.name for v in model.graph.input}]
    dequantized = [f"{name}_DequantizeLinear_Output" for name in recipe.activations]
    exact_session = session_with_tensors(model, inner)
    quantized_session = session_with_tensors(quantized, dequantized)
    signal = dict.fromkeys(recipe.activations, 0.0)
    noise = dict.fromkeys(recipe.activations, 0.0)
    for batch in batches:
        # No names would mean all outputs.
        inner_values = exact_session.run(inner, batch.inputs) if inner else []
        exact = dict(zip(inner, inner_values, strict=True))
        found = quantized_session.run(dequantized, batch.inputs)
        for name, value in zip(recipe.activations, found, strict=True):
            truth = exact[name] if name in exact else batch.inputs[name]
            signal[name] += float(np.sum(truth.astype(np.float64) ** 2))
            noise[name] += float(np.sum((truth - value).astype(np.float64) ** 2))
    return {name: _decibel(signal[name], noise[name]) for name in recipe.activations}


def _decibel(signal: float, noise: float) -> float:
    """Return the ratio in dB, at most 99.9 (no error) and at least -99.9 (no signal)."""
    if signal <= 0 or noise <= 0:
        return 99.9 if noise <= 0 else -99.9
    return round(float(np.clip(10 * np.log10(signal / noise), -99.9, 99.9)), 2)
