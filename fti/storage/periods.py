"""What one file of a lake table, or one record of a day, is about: a UTC day (`2013-01-31`) or a month (`2013-01`).

Days and months are told apart by the length of these names, and both sort by time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

Period = Literal["day", "month"]
LENGTHS: dict[Period, int] = {"day": 10, "month": 7}
DAY = timedelta(days=1)


def stem_of(day: date, by: Period) -> str:
    """Name of the period that holds `day`."""
    return day.isoformat()[: LENGTHS[by]]


def period_of(stem: str) -> Period:
    """Whether `stem` names a day or a month."""
    return "month" if len(stem) == LENGTHS["month"] else "day"


def first_day(stem: str) -> date:
    """The day itself, or the first one of the month."""
    return date.fromisoformat(f"{stem}-01"[:10])


def end_day(stem: str) -> date:
    """The day after the last one."""
    first = first_day(stem)
    return first + DAY if period_of(stem) == "day" else (first + timedelta(days=31)).replace(day=1)


def days_of(stem: str) -> list[date]:
    """All days of the period."""
    first = first_day(stem)
    return [first + timedelta(days=number) for number in range((end_day(stem) - first).days)]


def by_stem(days: Iterable[date], by: Period) -> dict[str, list[date]]:
    """Name of a period -> those of `days` that it holds, all in their order."""
    found: dict[str, list[date]] = {}
    for day in days:
        found.setdefault(stem_of(day, by), []).append(day)
    return found


def touches(stem: str, first: date, last: date) -> bool:
    """Whether the period has a day of `first` .. `last`, both included."""
    return first.isoformat()[: len(stem)] <= stem <= last.isoformat()[: len(stem)]


def days_between(start: datetime, end: datetime) -> Iterator[date]:
    """Days that `[start, end)` touches."""
    day = start.astimezone(UTC).date()
    while midnight(day) < end:
        yield day
        day += DAY


def day_spans(start: datetime, end: datetime, num_days: int) -> Iterator[tuple[datetime, datetime]]:
    """`[start, end)` in pieces of `num_days`, counted from `start`."""
    while start < end:
        until = min(start + timedelta(days=num_days), end)
        yield start, until
        start = until


def midnight(day: date) -> datetime:
    """The moment at which `day` begins, UTC."""
    return datetime.combine(day, time(), UTC)
