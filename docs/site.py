"""Lay out the pages of the documentation site: those of this folder, the README and a reference.

    python docs/site.py build/docs

`make docs` does this and builds the site. The pages stay as they are read in the repository; what
is generated is made of docstrings and of the commands themselves.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import click

import esccs_edge
from esccs_edge.cli import main as commands

FOLDER = Path(__file__).parent
#: Page of the reference -> what it documents, as modules state it.
REFERENCE = {
    "models": ("classifier.Classifier", "segmenter.Segmenter", "series_classifier.SeriesClassifier",
               "series_segmenter.SeriesSegmenter", "pair_model.PairModel", "any_task.open_model"),
    "answers": ("contracts.values.Prediction", "contracts.values.Gate", "contracts.values.Flag",
                "contracts.values.PatchPair", "pixels.device_pixels.GpuPixels",
                "contracts.tasks.semantic_segmentation.Segmentation",
                "contracts.tasks.series_classification.SeriesPrediction",
                "contracts.tasks.series_segmentation.SeriesSegmentation",
                "scenes.summary.SceneSummary", "runtime.model.Health", "runtime.counters.Stats"),
    "bundles": ("contracts.bundle.Bundle", "contracts.manifest.Manifest"),
    "functions": ("example.example_pair", "example.series.example_series",
                  "rasters.reader.read_patch", "rasters.reader.read_sample",
                  "scenes.mapping.classify_scene", "contracts.sensors.sentinel2_dn_offset"),
    "errors": ("errors",),
}  # fmt: skip


def lay_out(target: Path) -> None:
    """Write all pages into a folder, which is emptied first."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(FOLDER, target, ignore=shutil.ignore_patterns("*.py", "*.yml", "docker", "__*"))
    for script in FOLDER.glob("*/*.py"):  # pages link to them
        if (target / script.parent.name).is_dir():
            shutil.copy(script, target / script.parent.name)
    (target / "index.md").write_text(start_page(), encoding="utf-8")
    page = target / "examples" / "README.md"
    page.write_text(page.read_text(encoding="utf-8") + example_code(), encoding="utf-8")
    (target / "reference").mkdir()
    for name in REFERENCE:
        (target / "reference" / f"{name}.md").write_text(reference_page(name), encoding="utf-8")
    (target / "reference" / "commands.md").write_text(commands_page(), encoding="utf-8")


def start_page() -> str:
    """Return the README as it reads from within this folder."""
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text)


def example_code() -> str:
    """Return the examples themselves."""
    parts = []
    for script in sorted((FOLDER / "examples").glob("*.py")):
        parts.append(f"\n## {script.name}\n\n```python\n{script.read_text(encoding='utf-8')}```\n")
    return "".join(parts)


def reference_page(name: str) -> str:
    """Return a page that mkdocstrings fills from docstrings."""
    blocks = [f"# {name.capitalize()}\n"]
    for path in REFERENCE[name]:
        blocks.append(f"::: esccs_edge.{path}\n")
    return "\n".join(blocks)


def commands_page() -> str:
    """Return the help of every command."""
    root = commands.make_context("esccs-edge", ["--help"], resilient_parsing=True)
    parts = ["# Commands and options\n"]
    for name in commands.list_commands(root):
        command = commands.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=f"esccs-edge {name}", max_content_width=100)
        context.terminal_width = 100
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    lay_out(Path(sys.argv[1]))
    print(f"{sys.argv[1]}: pages of esccs-edge {esccs_edge.__version__}")
