"""What a service accepts, and how long and how much it keeps."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import InputError

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    """All limits of a service; what goes beyond one is refused before it is parsed.

    Attributes:
        pair_mb: Most megabytes of a request with a pair of patches.
        scene_mb: Most megabytes of a request with a scene.
        open_requests: Requests with files that are worked on at once.
        queue: Pairs that wait for the model; one more is refused.
        deadline_ms: Latest start of the inference of a pair, after it was queued.
        upload_s: Longest pause and, tenfold, longest duration of an upload.
        waiting_scenes: Scenes that wait for the one that is mapped.
        kept_scenes: Finished scenes whose maps are kept; the oldest goes first.
        kept_s: How long they are kept.
        drain_s: How long requests may go on after an order to end.
    """

    pair_mb: float = 16.0
    scene_mb: float = 4000.0
    open_requests: int = 64
    queue: int = 256
    deadline_ms: float = 2000.0
    upload_s: float = 20.0
    waiting_scenes: int = 4
    kept_scenes: int = 16
    kept_s: float = 3600.0
    drain_s: float = 20.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"limit {field.name} is {value}, expected a number above 0")

    def largest_body(self, path: str) -> int:
        """Return the most bytes that a request to a path may bring."""
        return int((self.scene_mb if path.endswith("/scenes") else self.pair_mb) * MEGABYTE)
