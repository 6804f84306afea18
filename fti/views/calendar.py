"""What a moment tells without any table: its place in the day, the week and the year."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

PARTS = ("hour", "weekday", "month", "year_sin", "year_cos")
"""Parts of a moment that `calendar` knows: `year_sin` and `year_cos` are its place on the circle of the year."""
DAYS_A_YEAR = 365.2425


def calendar(rows: pl.DataFrame, time: str, parts: Sequence[str]) -> pl.DataFrame:
    """`rows` with `<time>_<part>` for each of `parts`, in UTC. Hour, weekday (Monday is 1) and month are texts.

    >>> from datetime import UTC, datetime
    >>> rows = pl.DataFrame({"at": [datetime(2024, 7, 1, 9, tzinfo=UTC)]})
    >>> calendar(rows, "at", ["hour", "weekday"]).row(0)[1:]
    ('9', '1')
    """
    moment = pl.col(time)
    angle = (moment.dt.ordinal_day() - 1) * (2 * math.pi / DAYS_A_YEAR)
    made = {
        "hour": moment.dt.hour().cast(pl.String),
        "weekday": moment.dt.weekday().cast(pl.String),
        "month": moment.dt.month().cast(pl.String),
        "year_sin": angle.sin().cast(pl.Float64),
        "year_cos": angle.cos().cast(pl.Float64),
    }
    return rows.with_columns(made[part].alias(f"{time}_{part}") for part in parts)
