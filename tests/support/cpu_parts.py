"""Pairs of every kind, and the slow road to their answers, for the tests of the CPU path."""

from __future__ import annotations

import numpy as np

from esccs_edge.contracts.values import PatchPair
from support import oracle, tiny

#: float32 on both sides; means over 256 pixels and sums over 15 features in another order.
FLOAT32_ATOL = 1e-4


def pairs_for(manifest, count: int) -> list[PatchPair]:
    """Pairs of every kind: both, optical only, SAR only, partly absent, nothing."""
    pairs = []
    for seed in range(count):
        optical, sar = tiny.raw_pair(manifest, seed)
        if seed % 5 == 3:
            optical[:, : seed % 16] = 0
            sar[:, :, seed % 16 :] = np.nan
        kinds = {1: (optical, None), 2: (None, sar), 4: (None, None)}
        pairs.append(PatchPair(*kinds.get(seed % 5, (optical, sar))))
    return pairs


def expected(manifest, pairs):
    """The slow road to logits and gate."""
    planes, shares = [], []
    for name, spec in (
        ("optical", manifest.modalities["optical"]),
        ("sar", manifest.modalities["sar"]),
    ):
        shape = (len(spec.channels), manifest.sample.height, manifest.sample.height)
        stack, share = [], []
        for pair in pairs:
            pixels = getattr(pair, name)
            plane, stats = np.zeros(shape), {"valid": 0, "pixels": 1}
            if pixels is not None:
                plane, stats = oracle.preprocess(pixels, spec)
            stack.append(plane)
            share.append(stats["valid"] / stats["pixels"])
        planes.append(np.stack(stack))
        shares.append(share)
    return tiny.expected(manifest, *planes, np.array(shares).T)
