"""Write the model card of a bundle: data, cross-validated accuracy, calibration, limits.

The shipped model trained on everything, so it cannot be judged on the data at hand: all accuracies
are those of its cross-validation, which stand in its provenance.

    python docs/model_card.py [BUNDLE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esccs_edge import Bundle
from esccs_edge.view.markdown import markdown_table

FOLDER = Path(__file__).parent
MEASURES = {"all chips": "all", "mean of places": "place_mean", "mean of classes": "balanced"}
#: Accuracies on the same 160 chips of the model of version 0.1, which had seen none of the places.
EARLIER = "clear optical 76, cloudy optical 43, SAR 53, cloudy + SAR 61, clear + SAR 76 percent"


def card(bundle: Bundle) -> str:
    """Return the page."""
    manifest = bundle.manifest
    origin, grid = manifest.provenance, manifest.sample
    judged = origin["metrics"]["cross_validation"]
    real = judged["real"]
    optical, sar = (", ".join(spec.channels) for spec in manifest.modalities.values())
    simulated = [f"- **Simulated**: {text}." for text in origin["simulated"].values()]
    kilobytes = {n: len(bundle.read(n)) / 1e3 for n in sorted(manifest.files) if "student" in n}
    folds = len(next(iter(judged["labeled"].values()))["folds"])
    sections = [
        f"# Model card: {manifest.name}",
        "The model in the package. This page is written by `python docs/model_card.py` from the "
        "bundle's manifest. **The model trained on all places, so every accuracy here is that of "
        f"{folds} models of the same recipe, each judged on places that it never saw.**",
        "## What it is",
        f"- Classes: {', '.join(manifest.classes)}.\n"
        f"- Input: patches of {grid.height} x {grid.width} pixels of {grid.pixel_size_m:g} m; "
        f"optical {optical}; SAR {sar} in dB. Either may be absent.\n"
        f"- Encoders: `{json.dumps(manifest.architecture)}`.\n"
        + "\n".join(f"- `{name}`: {size:.0f} kB." for name, size in kilobytes.items()),
        "## Data",
        f"- {origin['data']['name']} (Helber et al., 2019; MIT), "
        f"{sum(origin['data']['pairs'].values())} labeled clear optical patches.\n"
        f"- SEN12MS-CR (Ebel et al., 2021; CC BY 4.0), 15 triplets of {len(real['places'])} "
        "places: real clouds, real SAR, no labels; the teacher's answers on their clear images "
        "teach.\n" + "\n".join(simulated),
        f"## Under real clouds with real SAR: {real['n']} chips of {len(real['places'])} places",
        "Share of answers, in percent, that agree with the confident labels of an independent "
        "judge of the clear image; nothing learned from the judge. In brackets 95 % of "
        f"{real['draws']} draws of places: so few places allow no finer claim.",
        markdown_table(["input", *MEASURES], [[name, *(_share(row[m]) for m in MEASURES.values())]
                                     for name, row in real["rows"].items()]),
        "Differences over all chips, in points: "
        + "; ".join(f"{name} {_share(part['all'])}" for name, part in real["differences"].items())
        + ".",
        f"On the same chips the model of version 0.1 had {EARLIER}.",
        f"Expected calibration error with both inputs {real['ece']:.3f} "
        f"({real['ece_by_chance']:.3f} by chance). Rank correlation of the share of optical with "
        f"the cover of the masks, over all chips: {real['gate_rank_correlation']:.2f}.",
        "By place, in percent: "
        + "; ".join(f"{name} " + ", ".join(f"{place} {100 * share:.0f}"
                                           for place, share in row["by_place"].items())
                    for name, row in real["rows"].items() if name in ("SAR", "cloudy + SAR"))
        + ".",
        "## Optical alone on EuroSAT, places never seen",
        f"Balanced accuracy, the mean of {folds} folds. Clouds and light are simulated.",
        markdown_table(["shown", "balanced accuracy", "each fold", "calibration error"],
               [[name, f"{row['balanced_accuracy']:.3f}",
                 ", ".join(f"{value:.3f}" for value in row["folds"]), f"{row['ece']:.3f}"]
                for name, row in judged["labeled"].items()]),
        "## Limits",
        f"- {len(real['places'])} real places are few, and {real['majority_class']} is the judge's "
        "label of most chips: the brackets above are what they allow to claim.\n"
        "- **SAR alone is weak**: with too few real places it tells little about a place never "
        "seen. It helps beside a cloudy image, not instead of one.\n"
        "- Confidence is too high on real pairs (see the calibration error).\n"
        "- Ten classes of European land at 10 m; nothing else can be answered. The flag "
        "`UNFAMILIAR` marks noise, flat areas and foreign spectra, not foreign landscapes.\n"
        "- Level-1C reflectance; Level-2A or another sensor needs another model. For operation "
        "train on data of your own (see [real data](real-data.md), [training](training.md)).",
        "## Made with",
        "```sh\nmake model\n```",
        f"Seed {origin['seed']}, torch {origin['versions']['torch']}. "
        "`esccs-edge inspect default` prints all of it.",
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _share(part: Mapping[str, float]) -> str:
    return "{value:.0f} [{low:.0f}, {high:.0f}]".format(**{k: 100 * v for k, v in part.items()})


def main(name: str = "default") -> None:
    """Write `model-card.md`."""
    page: Any = card(Bundle.open(name))
    (FOLDER / "model-card.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main(*sys.argv[1:2])
