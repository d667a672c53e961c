"""Write the model card of a bundle: data, splits, accuracy by cloud and by class, limits.

Everything on the card comes from the bundle's manifest and from judging the bundle here: on the
held-out pairs, clear and once in each cloud bin.

    D=../shared/data
    python docs/model_card.py eurosat:$D/eurosat-ms $D/sen12ms-cr/triplet [BUNDLE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from agreement import agreement

from esccs_edge import Bundle, Classifier
from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.judging.evaluate import evaluate

FOLDER = Path(__file__).parent
#: Accuracy is that under the first; calibration errors need more pairs to mean something.
CLOUDS_SEEDS = tuple(range(1, 11))
#: What the classifier is shown, as `evaluate(only=...)` takes it.
INPUTS = {"optical + SAR": None, "optical alone": "optical", "SAR alone": "sar"}
MADE = """esccs-edge train --config training/configs/eurosat.toml --data eurosat:DATA/eurosat-ms \\
  --set clouds.textures=DATA/sen12ms-cr/cloudy-clear --out runs/eurosat
esccs-edge export runs/eurosat/bundle
esccs-edge calibrate runs/eurosat/bundle runs/eurosat/heldout/index.csv"""


def main(data: str, triplet: str, name: str) -> None:
    """Judge the bundle and write `model-card.md` and its picture."""
    bundle = Bundle.open(name)
    dataset = open_dataset(data, manifest=bundle.manifest)
    with Classifier(bundle, backend="cpu") as classifier:
        clear = {i: evaluate(classifier, dataset, only=only) for i, only in INPUTS.items()}
        cloudy = {
            i: evaluate(classifier, dataset, only=only, clouds_seeds=CLOUDS_SEEDS[:1])
            for i, only in INPUTS.items()
        }
        often = evaluate(classifier, dataset, clouds_seeds=CLOUDS_SEEDS)
    matrix = np.array(cloudy["optical + SAR"]["confusion"])
    draw_confusion(matrix, bundle.manifest.classes, FOLDER / "images" / "confusion.png")
    text = card(bundle, clear, cloudy, often, agreement(Path(triplet), name))
    (FOLDER / "model-card.md").write_text(text, encoding="utf-8")
    print(text)


def card(
    bundle: Bundle,
    clear: Mapping[str, Any],
    cloudy: Mapping[str, Any],
    often: Mapping[str, Any],
    real: tuple[int, Mapping[str, int]],
) -> str:
    """Return the page."""
    manifest = bundle.manifest
    origin, grid = manifest.provenance, manifest.sample
    optical, sar = (", ".join(spec.channels) for spec in manifest.modalities.values())
    pairs = origin["data"]["pairs"]
    both = cloudy["optical + SAR"]
    simulated = [f"- **Simulated**: {text}." for text in origin["simulated"].values()]
    kilobytes = {n: len(bundle.read(n)) / 1e3 for n in sorted(manifest.files) if "student" in n}
    sections = [
        f"# Model card: {manifest.name}",
        "The model in the package. This page is written by `python docs/model_card.py`, from the "
        "bundle's manifest and from judging the INT8 graph through the runtime on the CPU. "
        "**SAR and clouds are simulated wherever a number stands here.**",
        "## What it is",
        f"- Classes: {', '.join(manifest.classes)}.\n"
        f"- Input: patches of {grid.height} x {grid.width} pixels of {grid.pixel_size_m:g} m; "
        f"optical {optical}; SAR {sar} in dB. Either may be absent.\n"
        f"- Encoders: `{json.dumps(manifest.architecture)}`.\n"
        + "\n".join(f"- `{name}`: {size:.0f} kB." for name, size in kilobytes.items()),
        "## Data and splits",
        f"- {origin['data']['name']} (Helber et al., 2019; MIT): {pairs['train']} patches to "
        f"learn on, {pairs['val']} to choose and calibrate with, {pairs['test']} to judge on; "
        f"{origin['data']['split']}.\n" + "\n".join(simulated),
        f"## Accuracy on {clear['optical + SAR']['overall']['n']} patches of places never seen",
        "Balanced accuracy, clear and by simulated cloud cover (each patch once in each bin).",
        _table(
            ["input", "clear", *(f"{name} %" for name in CLOUD_BINS)],
            [
                [i, _score(clear[i]["overall"]), *map(_score, cloudy[i]["by_cloud"].values())]
                for i in INPUTS
            ],
        ),
        f"Expected calibration error with both inputs, over {len(CLOUDS_SEEDS)} draws of clouds; "
        "in brackets what a perfectly calibrated model would show on as many pairs: "
        f"{_error(often['overall'])} over all bins; "
        + ", ".join(f"{_error(part)} at {name} %" for name, part in often["by_cloud"].items())
        + ".",
        "## By class, under clouds",
        _by_class(both["confusion"], manifest.classes),
        "![Confusion matrix](images/confusion.png)",
        "## Limits",
        "- SAR was simulated from the class and the clear image, in training and here; real SAR "
        "carries less.\n"
        f"- {_agreement(*real)}\n"
        "- Ten classes of European land at 10 m; nothing else can be answered, and a patch that "
        "shows none of them gets one of them all the same.\n"
        f"- {pairs['train']} training patches are few. It shows how the SDK works end to end; for "
        "operation train on data of your own (see [training](training.md)).\n"
        "- Level-1C reflectance; Level-2A or another sensor needs another model.",
        "## Made with",
        f"```sh\n{MADE}\n```",
        f"Seed {origin['seed']}, commit `{origin['commit'][:7]}`, torch "
        f"{origin['versions']['torch']}. `esccs-edge inspect default` prints all of it.",
    ]
    return "\n\n".join(sections) + "\n"


def draw_confusion(matrix: Any, classes: Sequence[str], path: Path) -> None:
    """Draw true class (rows) against answer (columns), as shares of the row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    counts = matrix[:, : len(classes)]
    share = counts / matrix.sum(axis=1, keepdims=True)
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        dark = share[row, column] > 0.5
        axes.text(
            column, row, f"{100 * share[row, column]:.0f}", ha="center", va="center", fontsize=8,
            color="white" if dark else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("answer")
    axes.set_ylabel("true class")
    axes.set_title(
        "percent of each true class, all cloud bins (clouds and SAR simulated)", fontsize=9
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _by_class(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    matrix = np.array(confusion)
    hits, totals, answers = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    rows = [
        [name, str(totals[k]), f"{hits[k] / totals[k]:.3f}", f"{hits[k] / max(answers[k], 1):.3f}"]
        for k, name in enumerate(classes)
    ]
    return _table(["class", "pairs", "recall", "precision"], rows)


def _agreement(tiles: int, same: Mapping[str, int]) -> str:
    counts = ", ".join(f"{inputs} {count}" for inputs, count in same.items())
    return (
        f"On one real place with real SAR and real clouds, {tiles} tiles without labels, the "
        f"answer equals that for the clear image alone in so many tiles: {counts} "
        "([`agreement.py`](agreement.py))."
    )


def _error(part: Mapping[str, Any]) -> str:
    return f"{part['ece']:.3f} ({part['ece_by_chance']:.3f})"


def _score(part: Mapping[str, Any]) -> str:
    return f"{part['balanced_accuracy']:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "default")
