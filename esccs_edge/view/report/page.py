"""The page of a report: HTML that a browser shows without fetching or running anything.

A content policy in the page itself forbids both. Everything that comes from data or bundles is
escaped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...contracts.manifest import Manifest
from ...contracts.modality import modality_title
from .charts import chart_by_cloud, chart_confusion, chart_reliability, percent, short_count
from .style import STYLE

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def report_page(
    manifest: Manifest,
    digest: str,
    found: Mapping[str, Any],
    examples: Sequence[str] = (),
) -> str:
    """Return the page.

    Args:
        manifest: Of the bundle.
        digest: SHA-256 of its manifest.
        found: ``data`` (what was judged, or None), ``numbers`` (as `report_numbers`, or None),
            ``missing`` (why there are none, or
            what they do not tell), ``simulated`` (words), ``recorded`` (tables of the
            training run), ``latency`` (as `bench`, or None), ``created`` (date),
            ``version`` (of this package), ``examples`` (which those are, in words).
        examples: Figures of mistakes; see `example_figure`.
    """
    numbers, latency = found["numbers"], found["latency"]
    parts = [_header(manifest, digest, found), _notes(found)]
    parts.append(_tiles(manifest, numbers, latency))
    if numbers is not None:
        parts += _judged(numbers)
    if examples:
        parts.append(_section(
            "Worst mistakes",
            f"<p class='faint'>{escape(found['examples'])}</p>"
            f"<div class='examples'>{''.join(examples)}</div>",
        ))  # fmt: skip
    parts += [_section(title, table(*rows)) for title, rows in found["recorded"].items()]
    if latency is not None:
        parts.append(_latency(latency))
    parts.append(_origin(manifest))
    title = escape(f"{manifest.name}: report")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in parts if part)}\n</main></body></html>\n"
    )


def example_figure(pictures: Sequence[str], lead: str, rest: str, facts: Sequence[str]) -> str:
    """Return the figure of one mistake.

    Args:
        pictures: ``data:`` addresses.
        lead: What is wrong, in a word or two, such as the class that was answered.
        rest: The rest of the sentence.
        facts: Confidence, gate, cloud and place, in words.
    """
    images = "".join(f'<img alt="" src="{escape(picture)}">' for picture in pictures)
    words = "<br>".join(f"<span class='faint'>{escape(fact)}</span>" for fact in facts)
    return (
        f"<figure><div class='images'>{images}</div><figcaption><b>{escape(lead)}</b> "
        f"{escape(rest)}<br>{words}</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; all columns but the first are numbers."""

    def cells(row: Sequence[Any], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if i else ''}>{escape(str(cell))}</{tag}>"
            for i, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return f"<div class='scroll'><table><tr>{cells(header, 'th')}</tr>{body}</table></div>"


def _header(manifest: Manifest, digest: str, found: Mapping[str, Any]) -> str:
    grid, inputs = manifest.sample, manifest.modalities.items()
    channels = ", ".join(f"{modality_title(n)} of {len(m.channels)} channels" for n, m in inputs)
    return (
        f"<header><h1>{escape(manifest.name)}</h1><p class='faint'>"
        f"{escape(manifest.task)} of {len(manifest.classes)} classes from {escape(channels)}, "
        f"{grid.height} × {grid.width} pixels of {grid.pixel_size_m:g} m. "
        f"Report of {escape(found['created'])}, esccs-edge {escape(found['version'])}.<br>Bundle "
        f"<code>{escape(digest)}</code></p></header>"
    )


def _notes(found: Mapping[str, Any]) -> str:
    sentences = [f"<b>Simulated:</b> {escape(words)}." for words in found["simulated"]]
    if found["missing"]:
        sentences.append(escape(found["missing"]))
    if not sentences:
        return ""
    return f"<div class='note'>{''.join(f'<p>{sentence}</p>' for sentence in sentences)}</div>"


def _tiles(
    manifest: Manifest, numbers: Mapping[str, Any] | None, latency: Mapping[str, Any] | None
) -> str:
    tiles = []
    if numbers is not None:
        overall, agreed = numbers["overall"], numbers["agreement"]
        if "miou" in numbers:
            tiles.append(("mIoU", percent(numbers["miou"]["value"]),
                          _interval(numbers["miou"], numbers)))  # fmt: skip
        tiles += [
            ("Accuracy", percent(agreed["all"]["value"]), _interval(agreed["all"], numbers)),
            ("Balanced accuracy", percent(agreed["balanced"]["value"]),
             _interval(agreed["balanced"], numbers)),
            ("Macro F1", percent(overall["macro_f1"]), f"kappa {overall['kappa']:.2f}"),
            ("Calibration error", percent(overall["ece"]),
             f"{percent(overall['ece_by_chance'])} by chance on so few pairs"
             if "ece_by_chance" in overall else "gap of confidence and share right"),
            (f"{numbers['unit'].capitalize()} judged", short_count(numbers["counted"]),
             f"of {numbers['places']} places; {overall['failed']} without answer"),
        ]  # fmt: skip
    if latency is not None:
        row = latency["rows"][0]
        tiles.append(
            (f"Latency of {row['batch']}", f"{row['p50_ms']:.2f} ms", f"p99 {row['p99_ms']:.2f} ms")
        )
    kind = "float" if manifest.quantization is None else "INT8"
    size = manifest.files[manifest.model].bytes if manifest.model in manifest.files else None
    if size is not None:
        tiles.append(("Model", f"{size / 1e6:.2f} MB", f"{kind}, {manifest.model}"))
    found = (
        f"<div class='tile'><span>{escape(name)}</span><b>{escape(value)}</b>"
        f"<span>{escape(note)}</span></div>"
        for name, value, note in tiles
    )
    return f"<div class='tiles'>{''.join(found)}</div>"


def _interval(part: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    if part["low"] is None:
        return "no interval: one place"
    low, high = 100 * part["low"], 100 * part["high"]
    return f"{100 * numbers['level']:.0f} % over places: {low:.1f} to {high:.1f} %"


def _judged(numbers: Mapping[str, Any]) -> list[str]:
    legend = (
        f"<div class='legend'><span><i></i>{numbers['measure']}, with its interval over places"
        "</span>"
    )
    by_cloud, lacking = numbers["by_cloud"], numbers["lacking"]
    if any(row["gate_optical"] is not None for row in by_cloud.values()):
        legend += "<span><i class='second'></i>share of optical in the gate</span>"
    title = f"Against {lacking.partition(',')[0].lower()}"
    cloud = (
        _section(title, chart_by_cloud(by_cloud, lacking, numbers["measure"]) + legend + "</div>")
        if any(row["n"] for row in by_cloud.values())
        else _section(title, "<p>It is known of none.</p>")
    )
    sure = _section(
        "Reliability",
        chart_reliability(numbers["reliability"])
        + "<div class='legend'><span>Stronger bars hold more answers; on the dotted line "
        "confidence is the share that is right.</span></div>",
    )
    shares = ("recall", "precision", *["IoU"] * ("miou" in numbers))
    rows = [
        (row["class"], f"{row['n']:,}", *(percent(row[name.lower()]) for name in shares))
        for row in numbers["by_class"]
    ]
    majority = percent(numbers["majority"])
    classes = _section(
        "By class",
        table(("class", numbers["unit"], *shares), rows)
        + f"<p class='faint'>Always answering the most frequent class is right on {majority}.</p>",
    )
    confusion = _section(
        "Confusion",
        "<p class='faint'>Rows are true classes, columns answers.</p>"
        + f"<div class='scroll'>{chart_confusion(numbers['confusion'], numbers['classes'])}</div>",
    )
    return [
        f"<div class='pair'>{cloud}{sure}</div>",
        f"<div class='pair'>{confusion}{classes}</div>",
    ]


def _latency(latency: Mapping[str, Any]) -> str:
    names = ("p50_ms", "p90_ms", "p99_ms")
    rows = [
        (row["batch"], *(f"{row[name]:.3f}" for name in names), f"{row['pairs_per_s']:.0f}")
        for row in latency["rows"]
    ]
    return _section(
        "Latency on the machine that made this report",
        table(("pairs per call", "p50 ms", "p90 ms", "p99 ms", "pairs/s"), rows)
        + f"<p class='faint'>From raw pixels to answers; {escape(_machine(latency))}.</p>",
    )


def _machine(latency: Mapping[str, Any]) -> str:
    """Say what was timed, and whether the machine was free to show it."""
    host, backend = latency["host"], latency["backend"]["backend"]
    parts = [
        f"{backend.get('model')} in {backend.get('precision')} on {backend.get('device')}",
        f"{host['cores']} cores",
        host["system"],
    ]
    load = host["load_1min"]
    if load is not None and load > host["cores"]:
        parts.append(f"with a load of {load:.1f} on them, so that these times are too long")
    return ", ".join(parts)


def _origin(manifest: Manifest) -> str:
    origin = dict(manifest.provenance)
    data = origin.get("data", {})
    rows = [
        ("Data", data.get("name", "not recorded")),
        ("Pairs", ", ".join(f"{n} {split}" for split, n in data.get("pairs", {}).items())),
        ("Split", data.get("split", "")),
        ("Started at", origin["init"]["name"] if "init" in origin else ""),
        ("Seed", origin.get("seed", "")),
        ("Code", origin.get("commit", "")),
        ("Trained", origin.get("created", "")),
    ]
    lines = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows
        if value != ""
    )
    files = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td class=number>{record.bytes:,}</td>"
        f"<td><code>{escape(record.sha256)}</code></td></tr>"
        for name, record in manifest.files.items()
    )
    options = escape(json.dumps(origin.get("options", {}), indent=2, ensure_ascii=False))
    return _section(
        "Where it comes from",
        f"<table>{lines}</table><details><summary>Files</summary><div class='scroll'><table>"
        f"<tr><th>file</th><th class=number>bytes</th><th>SHA-256</th></tr>{files}</table></div>"
        f"</details><details><summary>Options of the training</summary><pre>{options}</pre>"
        "</details>",
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"
