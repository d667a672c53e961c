"""Write the model card of the crop series bundle: data, scores by missing dates, INT8, limits.

python docs/crop_series_card.py [BUNDLE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from esccs_edge import Bundle
from esccs_edge.view.markdown import markdown_table

PAGE = Path(__file__).parent / "crop-series-card.md"
SHOWN = {"optical+sar": "both sensors", "optical": "optical alone", "sar": "SAR alone"}


def card(bundle: Bundle) -> str:
    """Return the page."""
    manifest = bundle.manifest
    origin, calendar = manifest.provenance, manifest.sample.calendar
    assert calendar is not None  # the recipe gives it one
    scores, pairs = origin["metrics"]["test"], origin["data"]["pairs"]
    optical, sar = (", ".join(spec.channels) for spec in manifest.modalities.values())
    kilobytes = {n: len(bundle.read(n)) / 1e3 for n in sorted(manifest.files) if "student" in n}
    int8 = manifest.quantization
    whole = scores["student"]["optical+sar"]["uniform"]["0"]
    simulated = [f"- **Simulated**: {text}." for text in origin["simulated"].values()]
    sections = [
        f"# Model card: {manifest.name}",
        "The model of pixel series in the package. This page is written by "
        "`python docs/crop_series_card.py` from the bundle's manifest. **It tells how crops of "
        "French fields of one year were told apart at places it never saw: a demonstration of "
        "series with gaps, no crop map of France.**",
        "## What it is",
        f"- Classes: {', '.join(manifest.classes)}.\n"
        f"- Input: one pixel of {manifest.sample.pixel_size_m:g} m over {manifest.sample.dates} "
        f"slots from {calendar.starts[0]} on (thirds of months); optical {optical} (L2A); SAR "
        f"{sar} in dB. Either may be absent, and any dates may be missing.\n"
        f"- Network: `{json.dumps(manifest.architecture)}`.\n"
        + "\n".join(f"- `{name}`: {size:.0f} kB." for name, size in kilobytes.items()),
        "## Data",
        f"- {origin['data']['name']}: reference series of ESA WorldCereal, labels of the French "
        "parcel register (IGN, ASP; open license Etalab-2.0); contains modified Copernicus "
        f"Sentinel data. {pairs['train']} pixels train, {pairs['val']} validate, {pairs['test']} "
        "test, by places of 0.1 degrees. About half of the optical dates are missing for real.\n"
        + "\n".join(simulated),
        f"## Scores on {pairs['test']} pixels of places never seen",
        "Mean F1 of the classes in percent, by the share of the seen optical dates that is hidden "
        "besides the real gaps (0: nothing hidden), mean over three patterns of hiding. So few "
        "pixels allow no finer claim than some points.",
        markdown_table(
            ["shown", *scores["student"]["optical+sar"]["uniform"]],
            [[words, *by_rate(scores["student"][shown])] for shown, words in SHOWN.items()],
        ),
        f"With everything shown: overall accuracy {100 * whole['oa']:.0f} %, kappa "
        f"{whole['kappa']:.2f}; calibration error {whole['ece']:.3f} "
        f"({whole['ece_by_chance']:.3f} by chance) before the temperature, which is "
        f"{manifest.temperature:.1f}.",
        "[Time series](series.md) compares the method with others.",
        "## INT8",
        f"Balanced accuracy on {int8['held_out_pairs']} held-out series: {_points(int8)}. On the "
        "test pixels `tests/journeys/test_80_shipped_series.py` holds the cost to half a point.",
        "## Limits",
        "- One country, one season, 500 pixels: other regions and years need their own data.\n"
        "- `permanent crops` stand in eight places and `other` is a mixture: most of both are "
        "taken for something else.\n"
        "- SAR alone is weak.\n"
        "- Confidence is that of a small network that learned from few samples.\n"
        "- Nothing but these classes can be answered, whatever the pixel shows.",
        "## Made with",
        "```sh\nmake crop-series\n```",
        f"Seed {origin['seed']}, torch {origin['versions']['torch']}. "
        "`esccs-edge inspect crop-series` prints all of it.",
    ]
    return "\n\n".join(sections) + "\n"


def by_rate(patterns: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Return the mean F1 at each rate, in percent, mean over the patterns."""
    rates = next(iter(patterns.values()))
    means = [np.mean([found[rate]["macro_f1"] for found in patterns.values()]) for rate in rates]
    return [f"{100 * mean:.0f}" for mean in means]


def _points(quantization: Mapping[str, Any]) -> str:
    accuracy = quantization["balanced_accuracy"]
    cost = 100 * (accuracy["fp32"] - accuracy["int8"])
    return f"{100 * accuracy['fp32']:.1f} in FP32, {100 * accuracy['int8']:.1f} in INT8: {cost:.1f}"


def main(name: str = "crop-series") -> None:
    """Write the page."""
    text = card(Bundle.open(name))
    PAGE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
