"""Kernels that TensorRT for RTX compiles at an engine's first run, kept for the next start.

The full TensorRT compiles everything when it builds, so there is nothing to keep for it. Such
kernels are native code like the engine, and lie sealed in the same cache.
"""

from __future__ import annotations

from typing import Any

from ...system.sealed_cache import Key, SealedCache
from .library import LoadedEngine


class JitCache:
    """The kernels of one loaded engine; `attach` gives them to its execution contexts."""

    def __init__(self, kernels: Any, known: bytes | None, cache: SealedCache, key: Key) -> None:
        self._kernels, self._known = kernels, known
        self._cache, self._key = cache, key

    @classmethod
    def attach(cls, loaded: LoadedEngine, cache: SealedCache, engine_key: Key) -> JitCache | None:
        """Load what was kept and let new contexts use it; None where the library has no such thing.

        Kernels of another driver, GPU or version are refused by the library, which then compiles
        them again.
        """
        if not hasattr(loaded.engine, "create_runtime_config"):
            return None
        config = loaded.engine.create_runtime_config()
        if not hasattr(config, "create_runtime_cache"):
            return None
        key = {**engine_key, "kind": "kernels"}
        kernels, known = config.create_runtime_cache(), cache.load(key)
        if known is not None and not kernels.deserialize(known):
            known = None
        config.set_runtime_cache(kernels)
        loaded.config = config
        return cls(kernels, known, cache, key)

    def keep(self) -> None:
        """Store the kernels if some were compiled since."""
        content = self._kernels.serialize()
        if content is None:  # nothing to be had, as after a lost GPU; the next start compiles again
            return
        if (kernels := bytes(content)) != self._known:
            self._cache.store(self._key, kernels)
            self._known = kernels

    def release(self) -> None:
        """Let the kernels go; call it before the engine goes."""
        self._kernels = None
