"""Classify a Parquet table of pixel series: a row per pixel in, label and confidence out.

A row has its dates, and one list per band and polarization as long as these. Rows are read in
groups, so the table may be larger than memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from esccs_edge import EsccsError, SeriesClassifier, example_series


def series_of(row: dict[str, Any], model: SeriesClassifier) -> tuple[Any, ...]:
    """Return ``optical (C, n)``, ``sar (P, n)`` and the n dates of a row."""
    optical, sar = model.manifest.modalities.values()
    return (
        np.array([row[band] for band in optical.channels], np.uint16),  # 0: no data
        np.array([row[polarization] for polarization in sar.channels], np.float32),  # NaN: none
        row["dates"],
    )


def answers(source: Path, model: SeriesClassifier) -> Iterator[pa.Table]:
    """Yield a table of answers for each group of rows."""
    for group in pq.ParquetFile(source).iter_batches(batch_size=1024):
        rows = group.to_pylist()
        found = list(model.stream(series_of(row, model) for row in rows))
        good = [None if isinstance(answer, EsccsError) else answer for answer in found]
        yield pa.table(
            {
                "pixel": [row["pixel"] for row in rows],
                "label": [answer and answer.label for answer in good],
                "confidence": [answer and answer.confidence for answer in good],
                "error": [str(one) if isinstance(one, EsccsError) else None for one in found],
            },
            pa.schema([("pixel", pa.string()), ("label", pa.string()),
                       ("confidence", pa.float64()), ("error", pa.string())]),
        )  # fmt: skip


def main() -> None:
    """Classify the series in the package, one of them with its dates turned round."""
    with tempfile.TemporaryDirectory() as folder, SeriesClassifier() as model:
        optical, sar = (spec.channels for spec in model.manifest.modalities.values())
        rows = [
            {
                "pixel": one.label,
                "dates": [str(date) for date in one.dates],
                **dict(zip(optical, one.optical.tolist(), strict=True)),
                **dict(zip(sar, one.sar.tolist(), strict=True)),
            }
            for one in example_series()
        ]
        rows.append({**rows[0], "pixel": "turned round", "dates": rows[0]["dates"][::-1]})
        source = Path(folder) / "pixels.parquet"
        pq.write_table(pa.Table.from_pylist(rows), source)
        for row in pa.concat_tables(answers(source, model)).to_pylist():
            print(row)


if __name__ == "__main__":
    main()
