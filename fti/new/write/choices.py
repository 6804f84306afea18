"""Rules of thumb for a generated project: spans, parts of the calendar, gates, monitor, training."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from fti.new.profile.profiles import Profile, Times
from fti.views.windows import parse_window

SPANS = (
    "1m", "5m", "15m", "1h", "3h", "6h", "12h", "1d", "3d", "7d", "14d", "30d", "90d", "180d", "365d", "730d", "1825d",
)  # fmt: skip
ROWS_IN_SPAN = (5, 20, 80)
"""Rows of an entity that a span should hold, by the median gap between them."""
MAX_SHARE_OF_TIME = 3
"""A span is at most a third of the table's time."""
MAX_SLICE_VALUES = 12
MAX_EXAMPLE = 60
MAX_EXPECTED = 20
"""Rules of a kind for a source: each costs time in every run."""
NUM_TRIALS = 4


def windows(
    gap: timedelta | None, span: timedelta, *, last: bool = False, fits: Callable[[timedelta], bool] = lambda _: True
) -> tuple[str, ...]:
    """Two or three spans that hold about 5, 20 and 80 rows of an entity, none over a third of the table's time, and
    none whose rows do not fit into memory (`fits`).

    With `last`, and where they would be one, also one that holds the last row alone.
    """
    short = [name for name in SPANS if parse_window(name) * MAX_SHARE_OF_TIME <= span]
    fitting = [name for name in short if fits(parse_window(name))] or list(SPANS[:1])
    gap = gap or span / 40
    wanted = [
        next((name for name in fitting if parse_window(name) >= gap * rows), fitting[-1]) for rows in ROWS_IN_SPAN
    ]
    alone = [name for name in fitting if parse_window(name) <= gap][-1:] if last or len(set(wanted)) == 1 else []
    return tuple(dict.fromkeys([*alone, *wanted]))


def calendar_parts(times: Times | None) -> tuple[str, ...]:
    """What the moment itself can tell, by the grid and the span of the rows' times."""
    if times is None or times.granularity == "one moment":
        return ()
    span = times.end - times.start
    parts: list[str] = []
    if times.granularity in ("hourly", "irregular") and span > timedelta(days=2):
        parts.append("hour")
    if times.granularity in ("daily", "hourly", "irregular") and span > timedelta(days=21):
        parts.append("weekday")
    if times.granularity != "yearly" and span > timedelta(days=548):
        parts += ["month", "year_sin", "year_cos"]
    return tuple(parts)


def slices(profile: Profile) -> tuple[str, ...]:
    """Up to two categories whose values get metrics of their own."""
    few = [
        column.identifier
        for column in profile.features
        if column.kind == "categorical" and column.distinct <= MAX_SLICE_VALUES
    ]
    return tuple(few[:2])


def is_example(value: Any) -> bool:
    """Whether a value can stand in a request, and on one line."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return False
    return not isinstance(value, str) or 1 <= len(value) <= MAX_EXAMPLE


def test_rows(profile: Profile) -> float:
    """Rows of the test split, of the rarest class where there are classes."""
    rarest = min(profile.target.shares, default=1.0)
    return max(1.0, profile.rows * (1 - profile.target.nulls) * profile.split.shares[2] * rarest)


def tolerance(profile: Profile) -> float:
    """Share by which the model may be worse than gradient boosting: 2 %, and what chance makes of few test rows."""
    return round(0.02 + min(0.15, 0.25 / math.sqrt(test_rows(profile))), 3)


def floor(profile: Profile) -> tuple[str, float]:
    """A metric, and the value of it that guessing has."""
    task, shares = profile.target.task, profile.target.shares
    if task == "binary":
        return "roc_auc", 0.5
    if task == "regression":
        return "r2", math.floor(1_000 * profile.split.guess) / 1_000 if math.isfinite(profile.split.guess) else 0.0
    most = max(shares)
    return "macro_f1", math.ceil(1_000 * 2 * most / (1 + most) / len(shares)) / 1_000


def metric(profile: Profile) -> str:
    """The metric that is compared with gradient boosting. Of several classes it is what the model is trained for: where
    little can be known, macro F1 prefers whoever guesses rare classes most often."""
    return {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[profile.target.task]


def loss(profile: Profile) -> str:
    """The metric that is compared with the champion."""
    return "rmse" if profile.target.task == "regression" else "log_loss"


def monitor_days(span: timedelta) -> int:
    """Length of the window that is compared with training: a twentieth of the time, from a day to a month."""
    return max(1, min(30, round(span.days / 20)))


def categories(profile: Profile) -> dict[str, Sequence[Any]]:
    """Column -> all its values, of the small categories of which every value is known."""
    return {
        column.identifier: sorted(value for value, _ in column.top)
        for column in profile.features
        if column.kind == "categorical" and column.dtype == "String" and column.distinct == len(column.top)
    }


def lookback(spans: Sequence[str]) -> timedelta:
    """Time before a day that its features are made of."""
    longest = max((parse_window(name) for name in spans), default=timedelta(0))
    return timedelta(days=-(-longest // timedelta(days=1)) + 1) if spans else timedelta(0)


def why_random(profile: Profile) -> str:
    """Why a split is not by time."""
    if profile.timestamp is None:
        return "the table has no times, so the test score is not the future's"
    return "no split by time gives every part enough rows, so the test score is not the future's"


def champion_tolerance(profile: Profile) -> float:
    """How much worse than the champion a challenger may be, in the unit of `loss`."""
    if profile.target.task != "regression":
        return 0.01
    deviation = next(column.deviation for column in profile.columns if column.role == "label") or 0.0
    return float(f"{0.01 * deviation:.2g}")
