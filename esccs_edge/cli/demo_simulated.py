"""The demo on a simulated scene, whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import open_bundle
from .progress import Progress
from .shell import CommandResult, json_text

if TYPE_CHECKING:
    from esccs_edge.training.simulate.scene import SimulatedScene

ORIGIN = "simulated scene, clouds and SAR; nothing here was measured"
#: Coordinates of the simulated ground: UTM zone 32 N, upper left corner in meters.
CRS = "EPSG:32632"
CORNER_M = (600_000.0, 5_400_000.0)


def simulated_demo(out: Path, size: int, seed: int, bundle: str, backend: str) -> CommandResult:
    """Simulate a cloudy scene, classify it and draw it."""
    from esccs_edge.training.simulate.scene import simulate_scene

    from ..classifier import Classifier
    from ..scenes.mapping import classify_scene
    from ..system.atomic import write_atomic
    from ..view.quicklook import draw_quicklook
    from .demo_rasters import Ground, read_classes, write_optical, write_sar

    started = time.perf_counter()
    opened = open_bundle(bundle)
    out.mkdir(parents=True, exist_ok=True)
    with Progress("simulate"):
        scene = simulate_scene(seed, size)
        pixel_size_m = opened.manifest.sample.pixel_size_m
        ground = Ground(CRS, CORNER_M, pixel_size_m, "simulated by esccs-edge demo")
        optical = write_optical(out / "optical.tif", scene.optical, ground)
        sar = write_sar(out / "sar.tif", scene.sar, ground)
    with Classifier(opened, backend=backend) as classifier, Progress("map") as progress:
        summary = classify_scene(
            classifier, optical, sar, out / "map.tif", overwrite=True, progress=progress
        )
    agreement = _agreement(read_classes(summary.class_map), opened.manifest.classes, scene)
    with Progress("draw"):
        picture = draw_quicklook(
            out / "quicklook.png",
            summary.class_map,
            {"optical": optical, "sar": sar},
            opened.manifest,
            title="esccs-edge demo",
            note="simulated scene",
        )
    document = {
        "origin": ORIGIN,
        "seed": seed,
        "model": opened.manifest.name,
        "optical": str(optical),
        "sar": str(sar),
        "quicklook": str(picture),
        **summary.to_dict(),
        "agreement_with_simulated_truth": agreement,
        "demo_seconds": time.perf_counter() - started,
    }
    write_atomic(out / "summary.json", json_text(document) + "\n")
    return CommandResult({**document, "summary": str(out / "summary.json")}, _text(document, out))


def _agreement(found: Any, classes: Sequence[str], scene: SimulatedScene) -> dict[str, Any]:
    """Return the share of pixels whose class equals the simulated one, in all and by cloud.

    Only pixels count that have an answer and whose simulated class the model knows.
    """
    import numpy as np

    position = {name: index for index, name in enumerate(classes)}
    truth = np.array([position.get(name, -1) for name in scene.classes])[scene.labels]
    counted = (truth >= 0) & (found < len(classes))
    same = found == truth

    def share(of: Any) -> float | None:
        return float(same[of].mean()) if of.any() else None

    return {
        "overall": share(counted),
        "clear": share(counted & ~scene.cloud_mask),
        "under_cloud": share(counted & scene.cloud_mask),
        "cloud_share": float(scene.cloud_mask.mean()),
        "counted_pixels": int(counted.sum()),
    }


def _text(document: Mapping[str, Any], out: Path) -> str:
    agreement = document["agreement_with_simulated_truth"]
    shares = ", ".join(
        f"{name.replace('_', ' ')} {agreement[name]:.1%}"
        for name in ("overall", "clear", "under_cloud")
        if agreement[name] is not None
    )
    paths = {
        "picture": document["quicklook"],
        "class map": document["class_map"],
        "scores": document["scores"],
        "optical": document["optical"],
        "SAR": document["sar"],
        "summary": out / "summary.json",
    }
    return "\n".join(
        [
            f"A simulated scene of {document['height']} x {document['width']} pixels, "
            f"{agreement['cloud_share']:.0%} under cloud, classified by {document['model']} "
            f"in {document['seconds']:.1f} s ({document['demo_seconds']:.1f} s in all).",
            f"Agreement with the simulated truth: {shares or 'no class in common'}.",
            *(f"  {name:<10} {path}" for name, path in paths.items()),
        ]
    )
