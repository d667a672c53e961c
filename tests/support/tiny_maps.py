"""A simulated two-class data set of 64 x 64 maps that trains in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLASSES = ("land", "water")
NETWORK = {"widths": [4, 6, 8, 8], "decoder": [8, 6, 6, 4, 4]}


def tiny_map(rng: np.random.Generator, size: int = 64, bands: int = 4):
    """One clear place: half of it is water, dark in both modalities."""
    target = np.zeros((size, size), np.uint8)
    target[:, rng.integers(size // 4, 3 * size // 4) :] = 1
    levels = np.array([[0.06, 0.07, 0.06, 0.35], [0.05, 0.04, 0.02, 0.01]])[target]
    ground = np.resize(levels.transpose(2, 0, 1), (bands, size, size))
    optical = ground * (1 + 0.1 * rng.normal(size=ground.shape))
    sar = np.array([[-9.0, -15.0], [-18.0, -25.0]])[target].transpose(2, 0, 1)
    sar = sar + rng.normal(0, 1.5, (2, size, size))
    return (optical * 1e4).clip(1, 9000).astype(np.uint16), sar.astype(np.float32), target


def tiny_map_index(folder: Path, count: int = 8, seed: int = 0, extra: bool = False) -> Path:
    """Write ``count`` places and an index with a mask column; of four two train.

    With ``extra``, the optical images are truly cloudy, with clear images and cloud masks.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = ["optical,sar,mask,group,split" + ",clear,cloud_mask" * extra]
    for i in range(count):
        optical, sar, target = tiny_map(rng, bands=13)
        target[:2] = 255
        cells = [f"optical-{i}.npy", f"sar-{i}.npy", f"mask-{i}.npy", f"place-{i}",
                 ("train", "train", "val", "test")[i % 4]]  # fmt: skip
        if extra:
            np.save(folder / f"clear-{i}.npy", optical)
            cloud = np.zeros(target.shape, bool)
            cloud[: 16 + 4 * i] = True
            optical = np.where(cloud, 8000, optical).astype(np.uint16)
            np.save(folder / f"cloud-{i}.npy", cloud)
            cells += [f"clear-{i}.npy", f"cloud-{i}.npy"]
        for name, pixels in (("optical", optical), ("sar", sar), ("mask", target)):
            np.save(folder / f"{name}-{i}.npy", pixels)
        lines.append(",".join(cells))
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder / "index.csv"


def tiny_map_document(data: Path, out: Path, epochs: int = 2, **changes) -> dict:
    """Options of a run over tiny maps, as TOML would give them."""
    schedule = {"epochs": epochs, "batch_size": 2, "learning_rate": 2e-2}
    return {
        "task": "semantic-segmentation", "data": str(data), "out": str(out), "threads": 1,
        "classes": list(CLASSES), "crop": 64, "network": NETWORK,
        "teacher": {"schedule": schedule}, "student": {"schedule": schedule}, **changes,
    }  # fmt: skip
