"""What INT8 may cost, and what it does cost on held-out samples."""

from __future__ import annotations

from dataclasses import dataclass

from esccs_edge.contracts.task import Measure
from esccs_edge.contracts.types import Labels

from .accuracy import Classes, label_agreement, loss_in_points

#: What a measure is called.
MEASURES: dict[Measure, str] = {"balanced_accuracy": "balanced accuracy", "miou": "mIoU"}


@dataclass(frozen=True)
class Cost:
    """What an INT8 model costs, with standard errors, since a small set says little.

    Attributes:
        loss: Loss in points, by `measure`.
        loss_error: Standard error of the loss.
        agreement: Share of samples, or of their known pixels, with the label of the float model.
        agreement_error: Standard error of the agreement.
        pairs: Number of samples.
        measure: What is lost; see `esccs_edge.contracts.task.Task`.
    """

    loss: float
    loss_error: float
    agreement: float
    agreement_error: float
    pairs: int
    measure: Measure = "balanced_accuracy"

    @classmethod
    def of(
        cls,
        exact: Classes,
        classes: Classes,
        labels: Labels,
        measure: Measure = "balanced_accuracy",
    ) -> Cost:
        """Compare answers ``(N, ...)`` with those of the float model and with the labels."""
        loss = loss_in_points(exact, classes, labels, measure)
        return cls(*loss, *label_agreement(exact, classes, labels), len(labels), measure)

    def __str__(self) -> str:
        return (
            f"loses {self.loss:.2f} (+- {self.loss_error:.2f}) points of "
            f"{MEASURES[self.measure]} and keeps the label of {100 * self.agreement:.1f} % of "
            f"{self.pairs} held-out samples"
        )


@dataclass(frozen=True)
class Budget:
    """What INT8 may cost. What lies within one standard error of a limit is not refused.

    Attributes:
        max_loss: Allowed loss in points, by the measure of the task.
        min_agreement: Share of labels that must be those of the float model.
    """

    max_loss: float
    min_agreement: float

    def allows(self, cost: Cost) -> bool:
        """Whether the cost lies within."""
        return (
            cost.loss - cost.loss_error <= self.max_loss
            and cost.agreement + cost.agreement_error >= self.min_agreement
        )

    def __str__(self) -> str:
        label = f" and at least {100 * self.min_agreement:g} %" if self.min_agreement else ""
        return f"at most {self.max_loss:g} points{label}"


#: Published ResNet figures lose 0.1 to 0.5 points.
CALIBRATION_BUDGET = Budget(max_loss=1.0, min_agreement=0.0)
#: A map has so many pixels that less is no chance.
MAP_BUDGET = Budget(max_loss=0.5, min_agreement=0.0)
#: Measure -> what calibration alone may cost.
BUDGETS: dict[Measure, Budget] = {"balanced_accuracy": CALIBRATION_BUDGET, "miou": MAP_BUDGET}
#: What learning can reach, so what is asked of it.
FINETUNE_BUDGET = Budget(max_loss=0.3, min_agreement=0.99)
