"""The demo on the real pixel series that ship with the package."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .progress import Progress
from .shell import CommandResult, json_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..contracts.bundle import Bundle
    from ..contracts.tasks.series_classification import SeriesPrediction
    from ..example.series import ExampleSeries

#: What the model is shown -> what the table says of it.
SHOWN = {"as_it_is": "as it is", "half_hidden": "half hidden", "sar_alone": "SAR alone"}


def series_demo(out: Path, opened: Bundle, backend: str) -> CommandResult:
    """Classify the example series as they are, with half of the optical dates hidden, and by SAR.

    Args:
        out: Folder to write to.
        opened: Bundle of a series classification that reads what the example shows.
        backend: Where it runs.
    """
    from ..example.series import CREDIT, example_series
    from ..series_classifier import SeriesClassifier
    from ..system.atomic import write_atomic
    from ..view.seasons import draw_seasons

    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    series = example_series()
    with SeriesClassifier(opened, backend=backend) as model, Progress("classify"):
        found = [_answers(model, one) for one in series]
    with Progress("draw"):
        captions = [_caption(one, answers) for one, answers in zip(series, found, strict=True)]
        hidden = [hidden_dates(one.optical) for one in series]
        picture = draw_seasons(out / "seasons.png", series, hidden, captions, note=CREDIT)
    document = {
        "origin": f"{len(series)} real pixel series: {CREDIT}",
        "model": opened.manifest.name,
        "series": [
            {"declared": one.label, **{name: answer.to_dict() for name, answer in answers.items()}}
            for one, answers in zip(series, found, strict=True)
        ],
        "picture": str(picture),
        "demo_seconds": time.perf_counter() - started,
    }
    write_atomic(out / "summary.json", json_text(document) + "\n")
    return CommandResult({**document, "summary": str(out / "summary.json")}, _text(document, out))


def hidden_dates(optical: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """Return which dates of ``(C, n)`` the demo hides: every second one that shows anything."""
    import numpy as np

    seen = optical.any(axis=0)
    hidden: npt.NDArray[np.bool_] = seen & (np.cumsum(seen) % 2 == 0)
    return hidden


def _answers(model: Any, one: ExampleSeries) -> dict[str, SeriesPrediction]:
    hidden = one.optical.copy()
    hidden[:, hidden_dates(one.optical)] = 0
    shown = (one.optical, hidden, None)
    answers = (model.classify(optical, one.sar, one.dates.tolist()) for optical in shown)
    return dict(zip(SHOWN, answers, strict=True))


def _caption(one: ExampleSeries, answers: dict[str, SeriesPrediction]) -> str:
    whole, half = answers["as_it_is"], answers["half_hidden"]
    first, second = (_said(answer.label, answer.confidence) for answer in (whole, half))
    return f"declared {one.label}: answer {first}, half hidden {second}"


def _said(label: str, confidence: float) -> str:
    return f"{label} {confidence:.0%}"


def _text(document: dict[str, Any], out: Path) -> str:
    lines = [
        f"  {one['declared']:16}"
        + "".join(
            f"{_said(one[key]['label'], one[key]['confidence']):22}" for key in SHOWN
        ).rstrip()
        for one in document["series"]
    ]
    paths = {"picture": document["picture"], "summary": out / "summary.json"}
    return "\n".join(
        [
            f"{document['origin']}.",
            f"Classified by {document['model']} ({document['demo_seconds']:.1f} s in all), which "
            "did not learn from them. So few prove nothing: its model card has the scores.",
            f"  {'declared':16}" + "".join(f"{words:22}" for words in SHOWN.values()).rstrip(),
            *lines,
            *(f"  {name:<10} {path}" for name, path in paths.items()),
        ]
    )
