"""Classify from coroutines: many requests in flight, one event loop, no thread of its own."""

from __future__ import annotations

import asyncio

from esccs_edge import Classifier, Prediction, example_pair


async def serve(classifier: Classifier, requests: int) -> list[Prediction]:
    """Ask for `requests` answers at the same time; a canceled one frees its place in the queue."""
    pair = example_pair()
    calls = (classifier.aclassify(pair.optical, pair.sar) for _ in range(requests))
    return await asyncio.wait_for(asyncio.gather(*calls), timeout=60)


def main() -> None:
    """Print how the requests were batched."""
    with Classifier() as classifier:
        classifier.warmup()
        answers = asyncio.run(serve(classifier, 100))
        print(f"{len(answers)} answers in batches of {classifier.stats().mean_batch_size:.1f}")


if __name__ == "__main__":
    main()
