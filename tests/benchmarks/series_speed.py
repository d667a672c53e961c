"""Series a second beside other runtimes: torch, ONNX Runtime, OpenVINO, fed by NumPy, in one run.

All run the network of one bundle in one process with one thread each, in turns, from raw pixels to
labels. Pixels are simulated; only time is measured. From the folder ``tests``:

    python -m benchmarks.series_speed RUN/bundle --batch 1 --batch 256
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from esccs_edge import SeriesClassifier, SeriesSegmenter
from esccs_edge.bench.timing import timed
from esccs_edge.contracts.bundle import Bundle
from esccs_edge.contracts.bundle_files import INT8_ONNX, STUDENT_ONNX, STUDENT_WEIGHTS
from esccs_edge.pixels.synthetic import smooth_samples
from esccs_edge.runtime.model import raised

from .bare_networks import Network, onnxruntime_network, openvino_network
from .peers.numpy_preprocess import Float, NumpyPreprocess

OURS = "esccs-edge"
BATCHES = (1, 32, 256)
ROUNDS = 5
#: Largest batch that a runtime takes at once.
TURN = 256

Pixels = dict[str, npt.NDArray[Any]]
#: Raw pixels of N series -> their labels ``(N, ...)``.
Peer = Callable[[Pixels], npt.NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """One peer at one batch size.

    Attributes:
        peer: Its name.
        batch: Series per call.
        per_second: Series a second, median of the rounds.
        times_ours: Its time as a multiple of ours, median of the rounds.
        same: Share of labels that are ours.
    """

    peer: str
    batch: int
    per_second: float
    times_ours: float
    same: float


def compare(bundle: Bundle, batches: Sequence[int], seconds: float, rounds: int) -> list[Row]:
    """Time all peers in turns; the rows of ours have the ratio 1.

    Args:
        bundle: With the weights of its student, if torch is to run these and not random ones.
        batches: Series per call.
        seconds: Per row, over all rounds.
        rounds: Turns.
    """
    samples = smooth_samples(bundle.manifest, max(batches))
    whole = {
        name: np.stack([sample.pixels[name] for sample in samples])
        for name in bundle.manifest.modalities
    }
    peers = opened(bundle)
    found = []
    for batch in batches:
        pixels = {name: array[:batch] for name, array in whole.items()}
        answers = {name: peer(pixels) for name, peer in peers.items()}
        spent: dict[str, list[float]] = {name: [] for name in peers}
        for turn in range(rounds):
            names = list(peers)[turn % len(peers) :] + list(peers)[: turn % len(peers)]
            for name in names:
                times = timed(partial(peers[name], pixels), seconds / rounds).times_s
                spent[name].append(float(np.median(times)))
        for name, times in spent.items():
            ratios = [own / ours for own, ours in zip(times, spent[OURS], strict=True)]
            found.append(
                Row(
                    name,
                    batch,
                    batch / float(np.median(times)),
                    float(np.median(ratios)),
                    float((answers[name] == answers[OURS]).mean()),
                )
            )
    return found


def opened(bundle: Bundle) -> dict[str, Peer]:
    """Return all peers, ours first."""
    peers: dict[str, Peer] = {OURS: _own(bundle)}
    for form, graph, hint in (("int8", INT8_ONNX, None), ("fp32", STUDENT_ONNX, "f32")):
        if graph in bundle.manifest.files:
            content = bundle.read(graph)
            openvino = openvino_network(content, threads=1, hint=hint)
            peers[f"openvino-{form}"] = _fed(bundle, openvino)
            peers[f"onnxruntime-{form}"] = _fed(bundle, onnxruntime_network(content, threads=1))
    peers["torch-eager"] = _fed(bundle, _torch(bundle))
    return peers


def _own(bundle: Bundle) -> Peer:
    classes = np.array(bundle.manifest.classes)
    if bundle.manifest.task == SeriesSegmenter.task:
        images = SeriesSegmenter(bundle, "cpu", TURN, threads=1)

        def segment(pixels: Pixels) -> npt.NDArray[Any]:
            lists = [pixels.get(name) for name in ("optical", "sar")]
            return np.stack([raised(one).label for one in images.segment_batch(*lists)])

        return segment
    model = SeriesClassifier(bundle, "cpu", TURN, threads=1)

    def classify(pixels: Pixels) -> npt.NDArray[Any]:
        optical, sar = (pixels.get(name) for name in ("optical", "sar"))
        if len(next(iter(pixels.values()))) == 1:
            pair = [None if one is None else one[0] for one in (optical, sar)]
            labels = [model.classify(*pair).label]
        else:
            labels = [raised(one).label for one in model.classify_batch(optical, sar)]
        return np.array([int(np.argmax(classes == label)) for label in labels])

    return classify


def _fed(bundle: Bundle, infer: Network) -> Peer:
    preprocess = NumpyPreprocess(bundle.manifest)

    def answer(pixels: Pixels) -> npt.NDArray[Any]:
        count, parts = len(next(iter(pixels.values()))), []
        for first in range(0, count, TURN):
            turn = {name: one[first : first + TURN] for name, one in pixels.items()}
            parts.append(infer(preprocess.of(turn)).argmax(axis=1))
        return np.concatenate(parts)

    return answer


def _torch(bundle: Bundle) -> Network:
    import torch
    from safetensors.torch import load

    from esccs_edge.training.learning.tasks import learning_task

    torch.set_num_threads(1)
    net = learning_task(bundle.manifest.task).network(bundle.manifest).eval()
    if STUDENT_WEIGHTS in bundle.manifest.files:
        net.load_state_dict(load(bundle.read(STUDENT_WEIGHTS)))

    @torch.inference_mode()
    def infer(inputs: dict[str, Float]) -> Float:
        logits: Float = net(*map(torch.from_numpy, inputs.values()))[0].numpy()
        return logits

    return infer


def markdown(rows: Sequence[Row]) -> str:
    """Return the table."""
    lines = [
        "| runtime | batch | series a second | time / ours | same label |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.peer} | {row.batch} | {row.per_second:,.0f} | {row.times_ours:.2f} | "
        f"{row.same:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


def best_peer(rows: Sequence[Row]) -> Mapping[int, float]:
    """Return batch -> the smallest ratio of another runtime to ours."""
    batches = dict.fromkeys(row.batch for row in rows)
    return {b: min(r.times_ours for r in rows if r.batch == b and r.peer != OURS) for b in batches}


def main(words: Sequence[str] | None = None) -> None:
    """Print the table of a bundle."""
    parser = argparse.ArgumentParser("benchmarks.series_speed", description=__doc__)
    parser.add_argument("bundle", help="folder, or one in the package")
    parser.add_argument("--batch", type=int, action="append", help=f"may be repeated {BATCHES}")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each row [2]")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(words)
    started = time.perf_counter()
    rows = compare(Bundle.open(given.bundle), given.batch or BATCHES, given.seconds, given.rounds)
    print(markdown(rows))
    best = ", ".join(f"{ratio:.2f} at {batch}" for batch, ratio in best_peer(rows).items())
    print(f"\nbest other runtime / ours: {best} ({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    main()
