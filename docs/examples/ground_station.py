"""A ground station that never falls behind: patches come in faster at times than they are answered.

Requests of `submit` share batches. Where the queue is full, `Overloaded` says so at once and
nothing is lost unseen: here the oldest answer is waited for, then the pair is handed in again. A
pair that cannot be judged fails alone.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from esccs_edge import Classifier, EsccsError, Overloaded, Prediction, example_pair


def answered(
    classifier: Classifier, patches: Iterable[tuple[str, Any, Any]]
) -> Iterator[tuple[str, Prediction | EsccsError]]:
    """Yield name and answer of each ``(name, optical, sar)``, in order."""
    waiting: deque[tuple[str, Future[Prediction]]] = deque()
    for name, optical, sar in patches:
        while True:
            try:
                waiting.append((name, classifier.submit(optical, sar)))
                break
            except Overloaded:
                yield _answer(*waiting.popleft())
            except EsccsError as error:  # a band is missing, say
                yield from (_answer(*waiting.popleft()) for _ in range(len(waiting)))
                yield name, error
                break
        while waiting and waiting[0][1].done():
            yield _answer(*waiting.popleft())
    while waiting:
        yield _answer(*waiting.popleft())


def _answer(name: str, future: Future[Prediction]) -> tuple[str, Prediction | EsccsError]:
    try:
        return name, future.result()
    except EsccsError as error:
        return name, error


def main() -> None:
    """Classify a thousand patches, one of them broken, and print what was counted."""
    pair = example_pair()
    with Classifier(queue_size=64) as classifier:
        classifier.warmup()
        gc.freeze()  # the collector then no longer looks through what was loaded
        patches = [(f"patch {i}", pair.optical, pair.sar) for i in range(1000)]
        patches[500] = ("patch 500", pair.optical[:12], pair.sar)
        refused = 0
        for name, answer in answered(classifier, patches):
            if isinstance(answer, EsccsError):
                refused += 1
                print(f"{name}: {answer}")
    print(f"{len(patches) - refused} answered, {refused} refused")


if __name__ == "__main__":
    main()
