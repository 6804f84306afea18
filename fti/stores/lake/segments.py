"""Segments of a lake table: rows that came after their period's file, and the rules by which both are read as one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import polars as pl

from fti.storage.periods import DAY, end_day, first_day, period_of, touches
from fti.storage.tables import File

SEGMENT_ROWS = 8192
"""A segment with so many rows is closed; until then it is written anew, whole, with each addition."""
STATIC = "all"
"""Period of a table that has no days."""
MOMENT = timedelta(microseconds=1)


def days_in(file: File) -> list[date]:
    """The days that a file or a segment has rows of, quiet ones included."""
    if file.period == STATIC:
        return []
    first = first_day(file.period)
    return [first] if period_of(file.period) == "day" else [first.replace(day=day) for day in file.days]


def days_of_month(period: str, days: Iterable[date]) -> tuple[int, ...]:
    """What the file of a month says of its rows, which are those of `days`; of a day its period says all."""
    return tuple(sorted({day.day for day in days})) if period != STATIC and period_of(period) == "month" else ()


def touched(files: Iterable[File], start: datetime | None, end: datetime | None) -> list[File]:
    """Those of `files` that have a day of `[start, end)`, and those that are of no day."""
    first, last = _days(start, end)
    return [file for file in files if file.period == STATIC or touches(file.period, first, last)]


def within(rows: pl.LazyFrame, files: Iterable[File], start: datetime | None, end: datetime | None) -> pl.LazyFrame:
    """Of the `rows` of `files` those of the days that `[start, end)` touches: a month may reach beyond it."""
    first, last = _days(start, end)
    for file in files:
        period = file.period
        if file.days and not first <= first_day(period) <= end_day(period) - DAY <= last:
            return rows.filter(pl.col(file.time).dt.date().is_between(first, last))
    return rows


def _days(start: datetime | None, end: datetime | None) -> tuple[date, date]:
    """First and last day that `[start, end)` touches."""
    first = start.astimezone(UTC).date() if start else date.min
    return first, (end.astimezone(UTC) - MOMENT).date() if end else date.max
