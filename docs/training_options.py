"""Write the page of all training options from the classes that hold them.

python docs/training_options.py
"""

from __future__ import annotations

from pathlib import Path

from esccs_edge.training.learning.tasks import learning_task
from esccs_edge.training.option_list import OptionRow, option_list

FOLDER = Path(__file__).parent
TASKS = (
    "scene-classification",
    "semantic-segmentation",
    "series-classification",
    "series-segmentation",
)
HEAD = """# Training options

Every option of `esccs-edge train`, by task: a key of the TOML file that `--config` names, or
`--set KEY=VALUE`. Keys with dots are tables: `student.schedule.epochs = 20` is `epochs = 20` under
`[student.schedule]`. `esccs-edge train --list-options` prints the list of `--task`;
[training](training.md) says which ones matter. Written by `docs/training_options.py`.
"""


def page() -> str:
    """Return the page."""
    sections = [HEAD]
    for name in TASKS:
        rows = option_list(learning_task(name).options_class)
        sections.append(f"## {name}\n\n| option | value | default | meaning |\n|---|---|---|---|")
        sections[-1] += "".join(f"\n{_line(row)}" for row in rows) + "\n"
    return "\n".join(sections)


def _line(row: OptionRow) -> str:
    default = f"`{row.default}`" if row.default not in ("", '""') else ""
    cells = (f"`{row.key}`", row.kind, default, row.meaning.replace("``", "`"))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Write `training-options.md`."""
    (FOLDER / "training-options.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
