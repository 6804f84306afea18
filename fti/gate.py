"""Gates: what a project asks of a challenger on the test split before it may become the champion."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Gate: `metric` on the test split is at least `minimum`."""

    metric: str
    minimum: float


@dataclass(frozen=True, kw_only=True)
class NoWorseThanChampion:
    """Gate: on the same test rows `metric` is no worse than the champion's by more than `tolerance`."""

    metric: str
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class NoWorseThanBaseline:
    """Gate: on the same test rows `metric` is no worse than gradient boosting's by more than `tolerance`."""

    metric: str
    tolerance: float
    relative: bool = False
    """Whether `tolerance` is a share of the baseline's value."""


@dataclass(frozen=True, kw_only=True)
class SliceFloor:
    """Gate: `metric` is at least `minimum` in every value of `column` that has `min_rows` test rows."""

    column: str
    metric: str
    minimum: float
    min_rows: int


Gate = Floor | NoWorseThanChampion | NoWorseThanBaseline | SliceFloor
