"""Gates: what a project asks of a challenger on the test split before it may become the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

METRICS: Mapping[str, Mapping[str, bool]] = {
    "binary": {"roc_auc": True, "pr_auc": True, "log_loss": False, "brier": False, "calibration_error": False},
    "multiclass": {"macro_f1": True, "accuracy": True, "log_loss": False, "roc_auc": True},
    "regression": {"rmse": False, "mae": False, "r2": True},
}
"""Task -> its metrics, and whether more of each is better."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Gate: `metric` on the test split is at least `minimum`."""

    metric: str
    """One of the task's metrics of which more is better."""
    minimum: float
    """Least value that passes."""


@dataclass(frozen=True, kw_only=True)
class NoWorseThanChampion:
    """Gate: on the same test rows `metric` is no worse than the champion's by more than `tolerance`."""

    metric: str
    """One of the task's metrics."""
    tolerance: float
    """How much worse still passes. Without a champion the gate passes."""


@dataclass(frozen=True, kw_only=True)
class NoWorseThanBaseline:
    """Gate: on the same test rows `metric` is no worse than gradient boosting's by more than `tolerance`."""

    metric: str
    """One of the task's metrics."""
    tolerance: float
    """How much worse still passes."""
    relative: bool = False
    """Whether `tolerance` is a share of the baseline's value: 0.02 lets a loss be 2 % higher, any other metric 2 %
    lower. Of `r2`, which may be negative, it is a share of what the baseline leaves unexplained, `1 - r2`; of
    `log_loss`, which may be next to nothing, a share of the prior's."""


@dataclass(frozen=True, kw_only=True)
class SliceFloor:
    """Gate: `metric` is at least `minimum` in every value of `column` that has `min_rows` test rows."""

    column: str
    """Request field or feature whose values are the slices."""
    metric: str
    """One of the task's metrics of which more is better."""
    minimum: float
    """Least value that passes, in the worst slice."""
    min_rows: int
    """Smaller slices do not count."""


Gate = Floor | NoWorseThanChampion | NoWorseThanBaseline | SliceFloor


def require_measurable(gates: Sequence[Gate], task: str) -> None:
    """Raise ValueError unless every gate asks for a metric of `task`, and every floor for one where more is better."""
    metrics = METRICS[task]
    rising = [name for name, more_is_better in metrics.items() if more_is_better]
    for gate in gates:
        if gate.metric not in metrics:
            raise ValueError(f"gate on {gate.metric!r}: a {task} model has {', '.join(metrics)}")
        if isinstance(gate, Floor | SliceFloor) and gate.metric not in rising:
            raise ValueError(
                f"a floor on {gate.metric!r} is no gate, less of it is better: choose {' or '.join(rising)}"
            )
