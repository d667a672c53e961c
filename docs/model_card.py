"""Write the model card of a bundle: data, splits, accuracy by cloud and by class, limits.

Everything on the card comes from the bundle's manifest and from judging the bundle here: on the
held-out pairs, clear and once in each cloud bin, and on real triplets.

    D=../shared/data
    python docs/model_card.py eurosat:$D/eurosat-ms $D/sen12ms-cr [BUNDLE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge import Bundle, Classifier
from esccs_edge.contracts.cloud_bins import CLOUD_BINS
from esccs_edge.training.datasets import open_dataset
from esccs_edge.training.datasets.clear_judge import with_judge
from esccs_edge.training.judging.evaluate import evaluate
from esccs_edge.training.judging.real_chips import judge_bundle

FOLDER = Path(__file__).parent
#: Accuracy is that under the first; calibration errors need more pairs to mean something.
CLOUDS_SEEDS = tuple(range(1, 11))
#: The judged inputs: what the classifier is shown, and whether SAR is simulated for it.
INPUTS: dict[str, dict[str, Any]] = {
    "optical alone": {},
    "optical + SAR simulated from its pixels": {"simulate_sar": True},
}
MEASURES = ("all", "place_mean", "balanced")
MADE = """esccs-edge train --config training/configs/eurosat.toml --data eurosat:DATA/eurosat-ms \\
  --set clouds.textures=DATA/sen12ms-cr/cloudy-clear --out runs/eurosat
esccs-edge export runs/eurosat/bundle
esccs-edge calibrate runs/eurosat/bundle runs/eurosat/heldout/index.csv"""


def main(data: str, triplets: str, name: str) -> None:
    """Judge the bundle and write `model-card.md` and its picture."""
    bundle = Bundle.open(name)
    dataset = open_dataset(data, manifest=bundle.manifest)
    with Classifier(bundle, backend="cpu") as classifier:
        clear = {i: evaluate(classifier, dataset, **shown) for i, shown in INPUTS.items()}
        cloudy = {
            i: evaluate(classifier, dataset, **shown, clouds_seeds=CLOUDS_SEEDS[:1])
            for i, shown in INPUTS.items()
        }
        often = evaluate(classifier, dataset, clouds_seeds=CLOUDS_SEEDS)
        chips = with_judge(open_dataset(f"sen12ms-cr:{triplets}"), Path(triplets) / "judge.npz")
        real = judge_bundle(classifier, chips)
    matrix = np.array(cloudy["optical alone"]["confusion"])
    draw_confusion(matrix, bundle.manifest.classes, FOLDER / "images" / "confusion.png")
    text = card(bundle, clear, cloudy, often, real)
    (FOLDER / "model-card.md").write_text(text, encoding="utf-8")
    print(text)


def card(
    bundle: Bundle,
    clear: Mapping[str, Any],
    cloudy: Mapping[str, Any],
    often: Mapping[str, Any],
    real: Mapping[str, Any],
) -> str:
    """Return the page."""
    manifest = bundle.manifest
    origin, grid = manifest.provenance, manifest.sample
    optical, sar = (", ".join(spec.channels) for spec in manifest.modalities.values())
    pairs = origin["data"]["pairs"]
    alone = cloudy["optical alone"]
    simulated = [f"- **Simulated**: {text}." for text in origin["simulated"].values()]
    kilobytes = {n: len(bundle.read(n)) / 1e3 for n in sorted(manifest.files) if "student" in n}
    sections = [
        f"# Model card: {manifest.name}",
        "The model in the package. This page is written by `python docs/model_card.py`, from the "
        "bundle's manifest and from judging the INT8 graph through the runtime on the CPU. "
        "**Clouds are simulated in all numbers on EuroSAT, and SAR where a row says so; only the "
        "numbers on real triplets are of real SAR under real clouds.**",
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
        f"## On {real['n']} real chips of {len(real['places'])} places",
        "Share of answers, in percent, that agree with the confident labels of an independent "
        "judge of the clear image (SEN12MS-CR, real SAR under real clouds, no labels); in brackets "
        f"95 % of {real['draws']} draws of places.",
        _table(
            ["input", "all chips", "mean of places", "mean of classes"],
            [[i, *(_share(row[m]) for m in MEASURES)] for i, row in real["rows"].items()],
        ),
        f"## Accuracy on {clear['optical alone']['overall']['n']} patches of places never seen",
        "Balanced accuracy, clear and by simulated cloud cover (each patch once in each bin).",
        _table(
            ["input", "clear", *(f"{name} %" for name in CLOUD_BINS)],
            [
                [i, _score(clear[i]["overall"]), *map(_score, cloudy[i]["by_cloud"].values())]
                for i in INPUTS
            ],
        ),
        f"Expected calibration error of optical alone, over {len(CLOUDS_SEEDS)} draws of clouds; "
        "in brackets what a perfectly calibrated model would show on as many pairs: "
        f"{_error(often['overall'])} over all bins; "
        + ", ".join(f"{_error(part)} at {name} %" for name, part in often["by_cloud"].items())
        + ".",
        "## By class, under clouds",
        _by_class(alone["confusion"], manifest.classes),
        "![Confusion matrix](images/confusion.png)",
        "## Limits",
        f"- {len(real['places'])} real places are few: the brackets above are what they allow to "
        f"claim. {real['majority_class']} is the judge's label of most chips.\n"
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
        "percent of each true class, all cloud bins (clouds simulated, optical alone)", fontsize=9
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


def _share(part: Mapping[str, float]) -> str:
    return "{value:.0f} [{low:.0f}, {high:.0f}]".format(**{k: 100 * v for k, v in part.items()})


def _error(part: Mapping[str, Any]) -> str:
    return f"{part['ece']:.3f} ({part['ece_by_chance']:.3f})"


def _score(part: Mapping[str, Any]) -> str:
    return f"{part['balanced_accuracy']:.3f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "default")
