"""A simulated three-class data set of 16 x 16 patches that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from esccs_edge.rasters.pair_index import write_index

from .pairs import pair_row

CLASSES = ("Forest", "River", "SeaLake")
BRANCH = {"width": 4, "blocks": [1, 1]}
SCHEDULE = {"epochs": 2, "batch_size": 8}


def tiny_pair(label: int, rng: np.random.Generator, size: int = 16):
    """One clear pair, uint16 DN and float32 dB, whose classes differ in level and spectrum."""
    spectrum = 0.12 + 0.08 * np.cos(np.arange(13) * (label + 1) / 2)
    optical = spectrum[:, None, None] * (1 + 0.1 * rng.normal(size=(13, size, size)))
    sar = np.array([-9.0, -16.0])[:, None, None] - 4 * label + rng.normal(0, 1, (2, size, size))
    return (optical * 1e4).clip(1, 9000).astype(np.uint16), sar.astype(np.float32)


def tiny_index(
    folder: Path, count: int = 48, seed: int = 0, cover: float | None = None, size: int = 16
) -> Path:
    """Write ``count`` pairs; of every four places two are train, one val, one test."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    rows = []
    for i in range(count):
        label = i % len(CLASSES)
        optical, sar = tiny_pair(label, rng, size)
        np.save(folder / f"optical-{i}.npy", optical)
        np.save(folder / f"sar-{i}.npy", sar)
        split = ("train", "train", "val", "test")[i // len(CLASSES) % 4]
        rows.append(
            pair_row(folder / f"optical-{i}.npy", folder / f"sar-{i}.npy", CLASSES[label],
                    f"place-{seed}-{i}", split, cover)
        )  # fmt: skip
    write_index(folder / "index.csv", rows)
    return folder / "index.csv"


def tiny_document(data: Path, out: Path, epochs: int = 2, **changes) -> dict:
    """Options of a run over tiny data, as TOML would give them."""
    schedule = {**SCHEDULE, "epochs": epochs}
    return {
        "data": str(data),
        "out": str(out),
        "threads": 1,
        "augment": {"shift_px": 2},
        "teacher": {"network": BRANCH, "schedule": schedule},
        "auxiliary": {"optical": BRANCH, "sar": BRANCH, "schedule": schedule},
        "student": {
            "optical": BRANCH, "sar": BRANCH, "schedule": schedule, "irm": {"warmup_epochs": 1},
        },
        **changes,
    }  # fmt: skip
