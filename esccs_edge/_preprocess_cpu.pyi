from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

_Row = TypeVar("_Row", bound=tuple[Any, ...])

def preprocess(
    images: Sequence[npt.NDArray[Any] | None],
    out: npt.NDArray[np.float32],
    mean: npt.NDArray[np.float32],
    inv_std: npt.NDArray[np.float32],
    stats: npt.NDArray[np.float64],
    dn_scale: float,
    dn_offset: float,
    nodata: float | None,
    low: float,
    high: float,
    linear_to_db: bool,
    threads: int,
) -> None: ...
def quantize(
    images: Sequence[npt.NDArray[Any] | None],
    out: npt.NDArray[np.uint8],
    mean: npt.NDArray[np.float32],
    inv_std: npt.NDArray[np.float32],
    stats: npt.NDArray[np.float64],
    dn_scale: float,
    dn_offset: float,
    nodata: float | None,
    low: float,
    high: float,
    linear_to_db: bool,
    threads: int,
) -> None: ...
def gather(
    modalities: Sequence[Sequence[npt.NDArray[Any] | None]],
    rows: int,
    buffer: npt.NDArray[np.uint8],
    start: int,
    threads: int,
) -> tuple[int, list[bytes]]: ...
def read_counts(
    rows: bytes,
    present: bytes,
    channels: int,
    pixels: int,
    kind: type[_Row],
    absent: _Row,
) -> list[_Row]: ...
def ranks(
    images: Sequence[npt.NDArray[Any] | None],
    places: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    stepped: int,
    dn_scale: float,
    dn_offset: float,
    table: npt.NDArray[np.float64],
    steps: npt.NDArray[np.float64],
) -> None: ...
def instruction_sets() -> list[str]: ...
def use(instruction_set: str) -> None: ...
