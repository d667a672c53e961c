"""A small WorldCereal file in the layout of the real ones: seasons of two crops, with gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.training.datasets.worldcereal import BANDS, NODATA, POLARIZATIONS

MONTHS = np.arange("2021-09", "2022-09", dtype="datetime64[M]").astype("datetime64[D]")
#: A code of temporary crops (maize) and one of grassland.
MAIZE, GRASS = 1101060000, 2001020022
WAVELENGTHS = np.linspace(0, 1, len(BANDS))


def season(code: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance x 10000 ``(9, 12)`` and dB ``(2, 12)``: maize is green in summer alone."""
    month = np.arange(12)
    grass = 0.5 + 0.3 * np.sin((month - 4) * np.pi / 6)
    green = np.exp(-(((month - 10) / 1.5) ** 2)) if code == MAIZE else grass
    green = rng.uniform(0.8, 1.2) * green + 0.03 * rng.normal(size=12)
    optical = 800 + 2500 * green * WAVELENGTHS[:, None] + 60 * rng.normal(size=(9, 12))
    sar = np.stack([-12 + 3 * green, -19 + 4 * green]) + rng.normal(0, 0.5, (2, 12))
    return np.clip(optical, 1, 9000), sar


def write_worldcereal(path: Path, count: int = 80, gaps: float = 0.2, seed: int = 0) -> Path:
    """Write ``count`` series at 20 places; a share of the optical dates is missing."""
    import pyarrow
    import pyarrow.parquet

    rng = np.random.default_rng(seed)
    columns: dict[str, list] = {name: [] for name in ("sample_id", "timestamp", "lon", "lat")}
    columns |= {"ewoc_code": [], **{f"S2-L2A-{b}": [] for b in BANDS}}
    columns |= {f"S1-SIGMA0-{p}": [] for p in POLARIZATIONS}
    for i in range(count):
        code = (MAIZE, GRASS)[i % 2]
        optical, sar = season(code, rng)
        missing = rng.uniform(size=12) < gaps
        for month, day in enumerate(MONTHS):
            columns["sample_id"].append(f"sample-{i}")
            columns["timestamp"].append(day.astype("datetime64[ns]"))
            columns["lon"].append(5 + 0.2 * (i % 20))
            columns["lat"].append(45.0)
            columns["ewoc_code"].append(code)
            for band, values in zip(BANDS, optical, strict=True):
                value = NODATA if missing[month] else round(values[month])
                columns[f"S2-L2A-{band}"].append(value)
            for name, values in zip(POLARIZATIONS, sar, strict=True):
                columns[f"S1-SIGMA0-{name}"].append(round(10 ** ((values[month] + 83) / 20)))
    table = pyarrow.table(
        {n: np.array(v, np.uint16) if n[:2] in ("S1", "S2") else v for n, v in columns.items()}
    )
    pyarrow.parquet.write_table(table, path)
    return path


def write_fcn3d(path: Path, count: int = 10, size: int = 16, dates: int = 5, seed: int = 0) -> Path:
    """Write the HDF5 layout of the 3-D FCN: halves of each image are crops that green in turn."""
    import h5py

    rng = np.random.default_rng(seed)
    truth = np.zeros((count, size, size), np.int64)
    for image, edge in zip(truth, rng.integers(size // 4, size // 2, count), strict=True):
        image[:, edge:] = 1
        image[:, 3 * size // 4 :] = 2
    peaks = np.array([np.inf, dates - 1, dates // 2])
    times = np.arange(dates)
    green = np.exp(-((times - peaks[:, None]) ** 2))[truth]  # (n, H, W, T)
    bands = np.linspace(500, 3500, 6)
    data = 300 + green[..., None] * bands + rng.normal(0, 60, (*green.shape, 6))
    with h5py.File(path, "w") as stored:
        stored["data"] = np.clip(data, 1, 9000).astype(np.int16)
        stored["truth"] = truth
    return path
