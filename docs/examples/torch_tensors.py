"""Hand over torch tensors as they are: a CPU tensor shares its memory with NumPy.

Tensors on a GPU go in the same way where the backend is TensorRT, without a copy through the host.
"""

from __future__ import annotations

import numpy as np
import torch

from esccs_edge import Classifier, example_pair


def main() -> None:
    """Classify one pair of tensors, and the same pair of arrays."""
    pair = example_pair()
    optical = torch.from_numpy(pair.optical.copy())
    sar = torch.from_numpy(pair.sar.copy())
    with Classifier() as classifier:
        answer = classifier.classify(optical, sar)
        assert answer == classifier.classify(np.asarray(optical), np.asarray(sar))
    print(answer.label, f"{answer.confidence:.2f}")


if __name__ == "__main__":
    main()
