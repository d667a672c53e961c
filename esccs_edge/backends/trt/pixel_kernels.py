"""What the CUDA preprocessing kernel reads and writes, and how a batch is laid out for them.

The layouts mirror the structs of `native/preprocess_cuda.cu`. NumPy only: filling a buffer, the
launch geometry and reading back the statistics are tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _preprocess_cpu
from ...contracts.modality import ModalitySpec
from ...contracts.types import Pixels
from ...contracts.values import ABSENT, DevicePixels, PixelStats
from ...errors import BackendError, InputError
from ...pixels.preprocess import channel_factors
from ...system.cores import usable_cores

#: One patch of a batch: where its pixels start and how they are stored.
PATCH = np.dtype([("offset", "<i8"), ("dtype", "<i4"), ("present", "<i4")])
#: What the kernel counts of a patch; all zero before.
STATS = np.dtype(
    [("valid", "<u4"), ("nonfinite", "<u4"), ("below", "<u4"), ("above", "<u4"),
     ("lowest", "<f4"), ("highest", "<f4"), ("sum", "<f8")]
)  # fmt: skip
#: What the kernel takes at most; a struct of arguments has 4 KB.
MOST_MODALITIES, MOST_CHANNELS = 4, 96
MODALITY = np.dtype(
    [("out", "<u8"), ("counts", "<u8"), ("settled", "<u8"), ("channels", "<i4"), ("tiles", "<i4"),
     ("has_nodata", "<i4"), ("linear_to_db", "<i4"), ("dn_scale", "<f4"), ("dn_offset", "<f4"),
     ("nodata", "<f4"), ("low", "<f4"), ("high", "<f4"), ("mean", "<f4", (MOST_CHANNELS,)),
     ("inv_std", "<f4", (MOST_CHANNELS,))], align=True,
)  # fmt: skip
#: Argument of ``esccs_preprocess_f32``.
PARAMS = np.dtype(
    [("raw", "<u8"), ("done", "<u8"), ("availability", "<u8"), ("pixels", "<i8"),
     ("modalities", "<i4"), ("of", MODALITY, (MOST_MODALITIES,))], align=True,
)  # fmt: skip

_DTYPE_CODES = {"uint8": 0, "uint16": 1, "int16": 2, "float32": 3}
#: Most threads that copy a large batch together.
_COPY_THREADS = min(8, usable_cores())
#: Patches start on boundaries of 16 bytes, for loads of a ``uint4``.
_PATCH_ALIGNMENT = 16
#: TensorRT wants tensors to start on such a boundary, and so does the pixel area.
SECTION_ALIGNMENT = 256
#: Shared memory that every supported device gives a block without asking.
_SHARED_BYTES = 48 * 1024
_VECTOR_BYTES = 16
_PIXELS_PER_THREAD = 4


def fatbin_path() -> Path:
    """Return where the compiled kernels lie if the package was built with nvcc."""
    return Path(_preprocess_cpu.__file__).parent / "preprocess.fatbin"


def load_fatbin() -> bytes:
    """Return the compiled kernels.

    Raises:
        BackendError: The package was built without nvcc.
    """
    path = fatbin_path()
    if not path.is_file():
        raise BackendError(
            "the CUDA kernels are not part of this installation",
            hint="Put nvcc on the PATH (CUDA toolkit) and install esccs-edge again from source",
        )
    return path.read_bytes()


def aligned(size: int, boundary: int = SECTION_ALIGNMENT) -> int:
    """Round a size up."""
    return -(-size // boundary) * boundary


@dataclass(frozen=True)
class RawLayout:
    """A batch of raw samples in one buffer: `PATCH` table, then pixels, modality by modality.

    Attributes:
        max_batch: Most samples.
        channels: Channels of a patch of each modality.
        pixels: Pixels per channel.
    """

    max_batch: int
    channels: tuple[int, ...]
    pixels: int

    @cached_property
    def header_bytes(self) -> int:
        """Size of the patch table."""
        return aligned(self.max_batch * len(self.channels) * PATCH.itemsize)

    @property
    def capacity(self) -> int:
        """Buffer size for ``max_batch`` samples of the widest type."""
        widest = [aligned(count * self.pixels * 4, _PATCH_ALIGNMENT) for count in self.channels]
        return self.header_bytes + self.max_batch * sum(widest)

    def fill(
        self, buffer: npt.NDArray[np.uint8], modalities: Sequence[Sequence[Any]], rows: int
    ) -> tuple[int, list[bytes]]:
        """Copy a batch into a buffer.

        Args:
            buffer: At least `capacity` bytes.
            modalities: Of each modality up to ``rows`` arrays ``(C, H, W)`` in a kernel dtype, or
                None if absent.
            rows: At most ``max_batch``; those after the arrays are absent.

        Returns:
            The bytes used; and of each modality how many bytes a value of each patch has, 0 where
            it is absent.
        """
        return _preprocess_cpu.gather(modalities, rows, buffer, self.header_bytes, _COPY_THREADS)

    def fill_mixed(
        self,
        buffer: npt.NDArray[np.uint8],
        modalities: Sequence[Sequence[Pixels | None]],
        rows: int,
        base: int,
    ) -> tuple[int, list[bytes]]:
        """Do as `fill` where some pixels are `DevicePixels`, which are not copied.

        The table holds their distance from ``base``, the address of the buffer on the device.
        """
        on_host = [
            [None if isinstance(image, DevicePixels) else image for image in images]
            for images in modalities
        ]
        used, _ = self.fill(buffer, on_host, rows)
        table = buffer[: self.header_bytes].view(PATCH)
        for first, images in enumerate(modalities):
            for row, image in enumerate(images, first * rows):
                if isinstance(image, DevicePixels):
                    table[row] = (image.address - base, _DTYPE_CODES[image.dtype.name], 1)
        sizes = [
            bytes([0 if image is None else image.dtype.itemsize for image in images])
            for images in modalities
        ]
        return used, sizes


def block_of(channels: int) -> tuple[int, int]:
    """Return threads and shared bytes of a block that keeps all channels of its pixels there.

    Args:
        channels: Of the modality that has most.

    Raises:
        InputError: So many channels do not fit even for one warp.
    """
    for block in (128, 64, 32):
        if (shared := channels * block * _VECTOR_BYTES) <= _SHARED_BYTES:
            return block, shared
    raise InputError(f"{channels} channels, the CUDA kernel takes at most {MOST_CHANNELS}")


def tiles_of(pixels: int, block: int, itemsize: int) -> int:
    """Return how many blocks share a patch, so that each thread has one group of pixels.

    Args:
        pixels: Pixels of a channel.
        block: Threads of a block.
        itemsize: Bytes of the widest value in the batch. A thread takes `_PIXELS_PER_THREAD` of
            four bytes and twice as many narrower ones; the kernel is right with any number.
    """
    return -(-pixels // (block * _PIXELS_PER_THREAD * (1 if itemsize > 2 else 2)))


def parameters(
    specs: Sequence[ModalitySpec],
    pixels: int,
    *,
    raw: int,
    out: Sequence[int],
    counts: Sequence[int],
    done: int,
    availability: int,
) -> npt.NDArray[np.void]:
    """Fill the kernel's struct but for ``tiles`` and ``settled``; addresses are the device's.

    Raises:
        InputError: There are more modalities than the kernel takes.
    """
    if len(specs) > MOST_MODALITIES:
        raise InputError(
            f"{len(specs)} modalities, the CUDA kernel takes at most {MOST_MODALITIES}"
        )
    values = np.zeros((), PARAMS)
    values["raw"], values["done"], values["availability"] = raw, done, availability
    values["pixels"], values["modalities"] = pixels, len(specs)
    for one, spec, *addresses in zip(values["of"], specs, out, counts, strict=False):
        channels = len(spec.channels)
        one["out"], one["counts"] = addresses
        one["channels"], one["linear_to_db"] = channels, spec.is_linear
        one["has_nodata"], one["nodata"] = spec.nodata is not None, spec.nodata or 0.0
        one["dn_scale"], one["dn_offset"] = spec.dn_scale or 1.0, spec.dn_offset
        one["low"], one["high"] = spec.clip
        one["mean"][:channels], one["inv_std"][:channels] = channel_factors(spec)
    return values


def read_stats(
    rows: npt.NDArray[Any], present: bytes, channels: int, pixels: int
) -> list[PixelStats]:
    """Turn the kernel's counts, rows of `STATS`, into `PixelStats`.

    Args:
        rows: One for each patch, perhaps more.
        present: Of each patch 0 if it is absent.
        channels: Of a patch.
        pixels: Of a patch.
    """
    return _preprocess_cpu.read_counts(
        rows.tobytes(), present, channels, pixels, PixelStats, ABSENT
    )
