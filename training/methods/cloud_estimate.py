"""The run as methods see it that get what ESCCS knows about clouds.

The source model is asked as ESCCS asks it (one view or all views of a place, as the run says), and
only answers that pass the filter of ESCCS, confident and nearly clear, may teach. Network, loss and
schedule stay those of the method.
"""

from __future__ import annotations

from ..stages.chain import Chain


class CloudAwareChain(Chain):
    """The same run in a folder of its own; shares the source model, its answers and the samples.

    Args:
        chain: The run.
    """

    def __init__(self, chain: Chain) -> None:
        _ = chain.teacher, chain.pseudo_labels  # so that these are shared, not made again
        self.__dict__.update(chain.__dict__)
        self.folder = chain.folder / "cloud-aware"
