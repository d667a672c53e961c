"""Write the model card of the land cover bundle: data, scores, real pairs, INT8, limits.

Judged on TerraMesh, real pairs with real land cover that nothing here learned from.

    python docs/land_cover_card.py TERRAMESH_FOLDER [BUNDLE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge import Bundle, Classifier, open_model
from esccs_edge.training.datasets.map_dataset import MapDataset, repeated
from esccs_edge.training.datasets.pixel_labels import dense_labels
from esccs_edge.training.datasets.terramesh import open_terramesh
from esccs_edge.training.judging.evaluate_maps import evaluate_maps
from esccs_edge.training.judging.map_metrics import PixelCounts
from esccs_edge.view.markdown import markdown_table

PAGE = Path(__file__).parent / "land-cover-card.md"
#: Class of the model -> its class in TerraMesh. What of theirs is no value here does not count.
NAMED = {
    "AnnualCrop": "crops", "PermanentCrop": "crops", "Forest": "trees",
    "HerbaceousVegetation": "rangeland", "Pasture": "rangeland", "Highway": "built",
    "Industrial": "built", "Residential": "built", "River": "water", "SeaLake": "water",
}  # fmt: skip
#: Rows of `metrics.json` -> what the table calls them.
ROWS = {
    "teacher on clear images": "teacher, clear images",
    "student on clear images": "student, clear images",
    "teacher": "teacher under clouds",
    "student": "student under clouds",
    "student, optical only": "optical alone",
    "student, SAR only": "SAR alone",
}
CLOUDS = (7,)


def card(bundle: Bundle, real: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        bundle: The model.
        real: Row -> its measures on TerraMesh, as `map_metrics` has them.
    """
    manifest = bundle.manifest
    origin, grid, int8 = manifest.provenance, manifest.sample, manifest.quantization
    pairs, scores = origin["data"]["pairs"], origin["metrics"]["test"]
    optical, sar = (", ".join(spec.channels) for spec in manifest.modalities.values())
    kilobytes = {n: len(bundle.read(n)) / 1e3 for n in sorted(manifest.files) if "student" in n}
    assert int8 is not None  # the recipe calibrates
    simulated = [f"- **Simulated**: {text}." for text in origin["simulated"].values()]
    counted = sorted(set(NAMED.values()))
    sections = [
        f"# Model card: {manifest.name}",
        "The model of land cover in the package. This page is written by "
        "`python docs/land_cover_card.py` from the bundle's manifest and from TerraMesh. **Nobody "
        "labeled the pixels that it learned from. It shows what the SDK does with a map of pixels; "
        "it is no land cover map of anywhere.**",
        "## What it is",
        f"- Classes: {', '.join(manifest.classes)}.\n"
        f"- Input: windows of {grid.height} x {grid.width} pixels of {grid.pixel_size_m:g} m; "
        f"optical {optical}; SAR {sar} in dB. Either may be absent, whole or in part.\n"
        f"- Network: `{json.dumps(manifest.architecture)}`.\n"
        + "\n".join(f"- `{name}`: {size:.0f} kB." for name, size in kilobytes.items()),
        "## Data",
        "- EuroSAT (Helber et al., 2019; MIT): patches of one class each laid side by side, four "
        "by four.\n- SEN12MS-CR (Ebel et al., 2021; CC BY 4.0): clear images of 15 real triplets "
        "and their SAR, labeled by the patch classifier in this package through a window that "
        "moves by 8 pixels.\n"
        f"- {pairs['train']} images of 256 x 256 pixels train, {pairs['val']} validate, "
        f"{pairs['test']} test, by place.\n" + "\n".join(simulated),
        f"## On {pairs['test']} mosaics of places never seen",
        "SAR of these mosaics is simulated from their pixels, without the classes; clouds are "
        "simulated. mIoU of ten classes over all covers, in percent.",
        markdown_table(
            ["", "all pixels", "clear", "cloudy", "overall accuracy"],
            [[words, *_cells(scores[row]["overall"])] for row, words in ROWS.items()],
        ),
        "## On real pairs with real land cover",
        "TerraMesh: five places of four continents (coast of Brazil, Tanzania, Chile, Denmark; in "
        "the fifth, snow, no pixel counts), classes merged to "
        f"{', '.join(counted)}. Overall accuracy, mIoU and IoU by class, in percent. Five places "
        "allow no finer claim.",
        markdown_table(
            ["shown", "overall accuracy", "mIoU", *counted],
            [[name, *_real_cells(row, counted)] for name, row in real.items()],
        ),
        "The last row is what labeled the real images in training, asked about these: the "
        "student is bounded by what such a labeler knows. Fields of Denmark and Chile are "
        "herbaceous vegetation to both.",
        "## INT8",
        f"mIoU on {int8['held_out_pairs']} held-out windows: {100 * int8['miou']['fp32']:.2f} in "
        f"FP32, {100 * int8['miou']['int8']:.2f} in INT8.",
        "## Limits",
        "- Labels are of patches, not of pixels: borders are coarse, and roads are not lines.\n"
        "- Classes are those of European scenes of 640 m; elsewhere most of what is open land is "
        "called one of the grassy classes.\n"
        "- SAR that teaches was simulated for nine images of ten, with the help of their classes.\n"
        "- Nothing but these classes can be answered, whatever the pixel shows.",
        "## Made with",
        "```sh\nmake land-cover\n```",
        f"Seed {origin['seed']}, torch {origin['versions']['torch']}. "
        "`esccs-edge inspect land-cover` prints all of it.",
    ]
    return "\n\n".join(sections) + "\n"


def judged(bundle: Bundle, places: MapDataset) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows of the model under each sky and modality, and of the patch classifier."""
    asked: dict[str, dict[str, Any]] = {
        "clear optical + SAR": {},
        "optical + SAR under simulated clouds": {"clouds_seeds": CLOUDS},
        "optical alone under simulated clouds": {"clouds_seeds": CLOUDS, "only": "optical"},
        "SAR alone": {"only": "sar"},
    }
    with open_model(bundle, "cpu") as model:
        for name, options in asked.items():
            found = evaluate_maps(model, bundle.manifest, places, named=NAMED, **options)
            yield name, found["overall"]["all"]
    yield "the patch classifier, clear", _patch_classifier(places)


def _patch_classifier(places: MapDataset) -> dict[str, Any]:
    names = sorted(set(NAMED.values()))
    of_data = np.array(
        [names.index(n) if n in names else 255 for n in places.classes] + [255] * 248
    )
    counts = PixelCounts(len(names))
    with Classifier(backend="cpu") as classifier:
        of_model = np.array([names.index(NAMED[name]) for name in classifier.manifest.classes])
        for index in range(len(places)):
            shown = places.sample(index)
            assert shown.optical is not None and shown.sar is not None
            labels = dense_labels(classifier, shown.optical, shown.sar, least=0)
            answered = repeated(of_model[labels], shown.target.shape)
            counts.add(of_data[shown.target], answered, None, None)
    overall: dict[str, Any] = counts.report(names)["overall"]["all"]
    return overall


def _cells(overall: Mapping[str, Mapping[str, Any]]) -> list[str]:
    shares = [overall[pixels]["miou"] for pixels in ("all", "clear", "cloudy")]
    return [_percent(value) for value in (*shares, overall["all"]["oa"])]


def _real_cells(row: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    return [
        _percent(value) for value in (row["oa"], row["miou"], *(row["iou"][n] for n in classes))
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f}"


def main(folder: str, name: str = "land-cover") -> None:
    """Write the page."""
    bundle = Bundle.open(name)
    text = card(bundle, dict(judged(bundle, open_terramesh(folder))))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:3])
