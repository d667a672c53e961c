"""What a method is told and given: only rows that agree in all of it may be ranked.

`Gifts` is what a method states; `told` makes of it, with the options of the run, what a table
shows. The rest, network sizes, batches, augmentation, averaging, is the same for all rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..scene_options import TrainOptions


@dataclass(frozen=True)
class Gifts:
    """What a method is given beside the cloudy pairs of the target.

    Attributes:
        clouds: How much it knows of clouds: ``"nothing"``, the ``"estimate"`` from the pixels
            that ESCCS uses, or the ``"simulator"`` that clouds the judged images too.
        equipped: Whether it starts at the source model's weights where the run does
            (``warm_start``) and learns to do without a modality (``student.drop_share``).
        target_labels: Whether it sees labels of the target.
        target_clear: Whether it sees images of the target without clouds.
        joined_views: Whether it joins what the source model answers on all dates of a place, even
            where the run does not.
        stages: How many stages of ESCCS, which has three, it trains for.
        rehearses: Whether clear pairs of the source are among what it learns on, where the run
            has them (``rehearsal``).
    """

    clouds: Literal["nothing", "estimate", "simulator"] = "nothing"
    equipped: bool = False
    target_labels: bool = False
    target_clear: bool = False
    joined_views: bool = False
    stages: int = 3
    rehearses: bool = True


#: A method as its paper has it: the source model's answers on the cloudy images, nothing else.
AS_PUBLISHED = Gifts()
#: All that ESCCS is given.
EQUIPPED = Gifts(clouds="estimate", equipped=True)


@dataclass(frozen=True)
class Told:
    """What a row of a run is told.

    Attributes:
        labels: Whose labels it learns from.
        clear_images: Whose images without clouds it, or its teacher, learns from.
        clouds: What it knows of clouds.
        views: Whether the source model is asked about each date on its own or about all joined.
        start: What its optical network starts at.
        drop_share: Share of training pairs that lose a modality.
        rehearsal: Share of what it learns on that are clear pairs of the source.
        epochs: Passes over the target's training pairs, all its networks together.
        trials: Settings that were tried for it on this benchmark before the one that is judged.
    """

    labels: str
    clear_images: str
    clouds: str
    views: str
    start: str
    drop_share: float
    rehearsal: float
    epochs: int
    trials: int


def epochs_of(stages: int, options: TrainOptions) -> int:
    """Return the epochs of a method: three stages are those of ESCCS, with as many as it has."""
    all_three = 2 * options.auxiliary.schedule.epochs + options.student.schedule.epochs
    return round(stages * all_three / 3)


def told(gifts: Gifts, options: TrainOptions, trials: int = 0) -> Told:
    """Return what a method of a run is told, and after how many trials it is judged."""
    joined = options.distillation.teacher_views == "all" and gifts.clouds == "estimate"
    warm = gifts.equipped and options.starts_at_teacher
    return Told(
        labels="source and target" if gifts.target_labels else "source",
        clear_images="source and target" if gifts.target_clear else "source",
        clouds=gifts.clouds,
        views="joined" if joined or gifts.joined_views else "each",
        start="source model" if warm else "random",
        drop_share=options.student.drop_share if gifts.equipped else 0.0,
        rehearsal=options.rehearsal if gifts.rehearses and gifts.stages else 0.0,
        epochs=epochs_of(gifts.stages, options),
        trials=trials,
    )


def require_alike(rows: Mapping[str, Any]) -> None:
    """Refuse to rank rows that are not told the same.

    Raises:
        ValueError: Two rows differ; the message names them and what differs.
    """
    names = list(rows)
    for name in names[1:]:
        if unlike := differences(rows[names[0]], rows[name]):
            raise ValueError(
                f"{names[0]} and {name} are not told the same, so neither leads the other: they "
                f"differ in {', '.join(unlike)}"
            )


def differences(one: Any, other: Any) -> list[str]:
    """Return the names of what two rows are not told alike."""
    first, second = dataclasses.asdict(one), dataclasses.asdict(other)
    return [name for name in first if first[name] != second[name]]


def told_table(rows: Mapping[str, Any], seeds: Mapping[str, int]) -> str:
    """Return the table as Markdown: one line for all rows that are told the same.

    Args:
        rows: Method -> what it is told, a dataclass such as `Told`.
        seeds: Method -> how many seeds it ran with.
    """
    alike: dict[tuple[Any, int], list[str]] = {}
    for name, row in rows.items():
        alike.setdefault((row, seeds[name]), []).append(name)
    names = [field.name for field in dataclasses.fields(next(iter(rows.values())))]
    head = (*(name.replace("_", " ") for name in names), "seeds", "methods")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for (row, count), members in alike.items():
        values = (str(getattr(row, name)) for name in names)
        lines.append("| " + " | ".join((*values, str(count), ", ".join(members))) + " |")
    return "\n".join(lines) + "\n"
