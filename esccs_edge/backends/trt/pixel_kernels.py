"""What the CUDA preprocessing kernels read and write, and how a batch is laid out for them.

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
from ...cuda.driver import LaunchShape
from ...errors import BackendError, InputError
from ...system.cores import usable_cores

#: One patch of a batch: where its pixels start and how they are stored.
PATCH = np.dtype([("offset", "<i8"), ("dtype", "<i4"), ("present", "<i4")])
#: What the kernels count; all zero before.
STATS = np.dtype(
    [("valid", "<u4"), ("nonfinite", "<u4"), ("below", "<u4"), ("above", "<u4"),
     ("lowest", "<f4"), ("highest", "<f4"), ("sum", "<f8")]
)  # fmt: skip
#: Argument of ``esccs_preprocess_f32``.
PARAMS = np.dtype(
    [("raw", "<u8"), ("out", "<u8"), ("stats", "<u8"), ("mean", "<u8"), ("inv_std", "<u8"),
     ("pixels", "<i8"), ("channels", "<i4"), ("dn_scale", "<f4"), ("dn_offset", "<f4"),
     ("nodata", "<f4"), ("low", "<f4"), ("high", "<f4"), ("has_nodata", "<i4"),
     ("linear_to_db", "<i4")]
)  # fmt: skip
#: Modalities that ``esccs_availability`` takes.
MOST_MODALITIES = 4
#: Argument of ``esccs_availability``.
AVAILABILITY_PARAMS = np.dtype(
    [("stats", "<u8", (MOST_MODALITIES,)), ("availability", "<u8"), ("pixels", "<i8"),
     ("batch", "<i4"), ("modalities", "<i4")]
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
_NAN = float("nan")


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
    """A batch of raw patches of one modality in one buffer: `PATCH` table, then pixels.

    Attributes:
        max_batch: Most patches.
        channels: Channels per patch.
        pixels: Pixels per channel.
    """

    max_batch: int
    channels: int
    pixels: int

    @cached_property
    def header_bytes(self) -> int:
        """Size of the patch table."""
        return aligned(self.max_batch * PATCH.itemsize)

    @property
    def capacity(self) -> int:
        """Buffer size for ``max_batch`` patches of the widest type."""
        widest = aligned(self.channels * self.pixels * 4, _PATCH_ALIGNMENT)
        return self.header_bytes + self.max_batch * widest

    def fill(
        self, buffer: npt.NDArray[np.uint8], images: Sequence[Pixels | None], base: int = 0
    ) -> int:
        """Copy a batch into a buffer; returns the bytes used.

        Args:
            buffer: At least `capacity` bytes.
            images: Up to ``max_batch`` arrays ``(C, H, W)`` in a kernel dtype, or None if absent.
                Pixels on the device are not copied: the table holds their distance from ``base``.
            base: Address of the buffer on the device.
        """
        on_host: list[Any] = [
            None if isinstance(image, DevicePixels) else image for image in images
        ]
        used = _preprocess_cpu.gather(on_host, buffer, self.header_bytes, _COPY_THREADS)
        table = buffer[: self.header_bytes].view(PATCH)
        for row, image in enumerate(images):
            if isinstance(image, DevicePixels):
                table[row] = (image.address - base, _DTYPE_CODES[image.dtype.name], 1)
        return used


def launch_of(channels: int, pixels: int, batch: int = 1) -> LaunchShape:
    """Choose blocks that keep all channels of their pixels in shared memory; a row each patch.

    Raises:
        InputError: So many channels do not fit even for one warp.
    """
    for block in (128, 64, 32):
        if (shared := channels * block * _VECTOR_BYTES) <= _SHARED_BYTES:
            tiles = -(-pixels // (block * _PIXELS_PER_THREAD))
            return LaunchShape((tiles, batch), block, shared)
    most = _SHARED_BYTES // (32 * _VECTOR_BYTES)
    raise InputError(f"{channels} channels, the CUDA kernel takes at most {most}")


def parameters(
    spec: ModalitySpec,
    pixels: int,
    *,
    raw: int,
    out: int,
    stats: int,
    factors: int,
) -> npt.NDArray[np.void]:
    """Fill the kernel's struct; addresses are the device's.

    At ``factors`` lie mean, then ``1 / std`` of each channel.
    """
    channels = len(spec.channels)
    values = np.zeros((), PARAMS)
    values["raw"], values["out"], values["stats"] = raw, out, stats
    values["mean"], values["inv_std"] = factors, factors + 4 * channels
    values["pixels"], values["channels"] = pixels, channels
    values["dn_scale"], values["dn_offset"] = spec.dn_scale or 1.0, spec.dn_offset
    values["has_nodata"], values["nodata"] = spec.nodata is not None, spec.nodata or 0.0
    values["low"], values["high"] = spec.clip
    values["linear_to_db"] = spec.is_linear
    return values


def availability_parameters(
    stats: Sequence[int], availability: int, pixels: int, batch: int = 0
) -> npt.NDArray[np.void]:
    """Fill the struct of the kernel that turns counts into shares; ``batch`` changes by launch.

    Raises:
        InputError: There are more modalities than the kernel takes.
    """
    if len(stats) > MOST_MODALITIES:
        raise InputError(
            f"{len(stats)} modalities, the CUDA kernel takes at most {MOST_MODALITIES}"
        )
    values = np.zeros((), AVAILABILITY_PARAMS)
    values["stats"][: len(stats)] = stats
    values["modalities"], values["availability"] = len(stats), availability
    values["pixels"], values["batch"] = pixels, batch
    return values


def read_stats(
    rows: npt.NDArray[Any], present: Sequence[bool], channels: int, pixels: int
) -> list[PixelStats]:
    """Turn the kernels' counts into `PixelStats`, one per patch."""
    return [
        _stats(row, pixels, channels) if there else ABSENT
        for row, there in zip(rows.tolist(), present, strict=True)
    ]


def _stats(row: tuple[Any, ...], pixels: int, channels: int) -> PixelStats:
    valid, nonfinite, below, above, lowest, highest, total = row
    if not valid:
        return PixelStats(pixels, 0, nonfinite, below, above, _NAN, _NAN, _NAN)
    mean = total / (valid * channels)
    return PixelStats(pixels, valid, nonfinite, below, above, lowest, highest, mean)
