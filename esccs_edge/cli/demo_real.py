"""The demo on the real scene that ships with the package."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from .options import open_bundle
from .progress import Progress
from .shell import CommandResult, json_text


def real_demo(out: Path, bundle: str, backend: str) -> CommandResult:
    """Map the example scene under its clouds and under a clear sky, and draw both.

    Args:
        out: Folder to write to.
        bundle: Of any task that maps optical and SAR; one of pixel series answers the example
            series instead, see `demo_series`.
        backend: Where it runs.
    """
    import numpy as np

    from ..any_task import open_model
    from ..example import CORNER_M, CREDIT, CRS, PIXEL_SIZE_M, example_scene
    from ..scenes.mapping import map_scene
    from ..system.atomic import write_atomic
    from ..view.quicklook import ClearSky, draw_quicklook
    from .demo_rasters import Ground, read_classes, write_optical, write_sar

    started = time.perf_counter()
    opened = open_bundle(bundle)
    if opened.manifest.task == "series-classification":
        from .demo_series import series_demo

        return series_demo(out, opened, backend)
    out.mkdir(parents=True, exist_ok=True)
    scene, ground = example_scene(), Ground(CRS, CORNER_M, PIXEL_SIZE_M, CREDIT)
    optical = write_optical(out / "optical.tif", scene.optical, ground)
    clear = write_optical(out / "clear.tif", scene.clear, ground)
    sar = write_sar(out / "sar.tif", scene.sar, ground)
    with open_model(opened, backend) as model, Progress("map") as progress:
        cloudy = {"optical": optical, "sar": sar}
        summary = map_scene(model, cloudy, out / "map.tif", overwrite=True, progress=progress)
        under_clear_sky = map_scene(
            model, {"optical": clear, "sar": None}, out / "clear-map.tif", overwrite=True
        )
    classes = read_classes(summary.class_map)
    same = float(np.mean(classes == read_classes(under_clear_sky.class_map)))
    with Progress("draw"):
        picture = draw_quicklook(
            out / "quicklook.png",
            summary.class_map,
            cloudy,
            opened.manifest,
            clear_sky=ClearSky(clear, under_clear_sky.class_map),
            title="esccs-edge demo",
            note=f"a real scene: {CREDIT}",
        )
    document = {
        "origin": f"real scene: {CREDIT}",
        "model": opened.manifest.name,
        "optical": str(optical),
        "sar": str(sar),
        "clear": str(clear),
        "clear_map": str(under_clear_sky.class_map),
        "quicklook": str(picture),
        **summary.to_dict(),
        "agreement_with_clear_sky": same,
        "demo_seconds": time.perf_counter() - started,
    }
    write_atomic(out / "summary.json", json_text(document) + "\n")
    return CommandResult({**document, "summary": str(out / "summary.json")}, _text(document, out))


def _text(document: dict[str, Any], out: Path) -> str:
    paths = {
        "picture": document["quicklook"],
        "class map": document["class_map"],
        "scores": document["scores"],
        "optical": document["optical"],
        "SAR": document["sar"],
        "clear sky": document["clear"],
        "its map": document["clear_map"],
        "summary": out / "summary.json",
    }
    return "\n".join(
        [
            f"A {document['origin']}.",
            f"Mapped by {document['model']} in {document['seconds']:.1f} s "
            f"({document['demo_seconds']:.1f} s in all). The scene has no labels: under its clouds "
            f"{document['agreement_with_clear_sky']:.0%} of the pixels get the class that the "
            "model gives the clear image of another day.",
            *(f"  {name:<10} {path}" for name, path in paths.items()),
        ]
    )
