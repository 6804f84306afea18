"""How much of a large table a project holds at once: days of a chunk, spans of its history, the share that is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from fti.tables.findings import Finding, percent, warning

MOST_ROWS, MOST_CELLS = 2_000_000, 24_000_000
"""In memory at once: about two million rows, fewer of a wide table."""
ROOM = 2
"""A chunk with the days before it that its features are made of, and a day that cannot be cut, may be twice that."""
TRAINING_CELLS = 32_000_000
"""Labelled rows times features of a training dataset."""
LENGTHS = (1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 92, 184, 365, 730, 1825, 3650)
"""Days that are counted together."""
Busiest = Sequence[tuple[int, int]]
"""(days, most rows in so many neighbouring days), shortest first."""


def busiest(moments: pl.Series, factor: float) -> Busiest:
    """Most rows in neighbouring days, by the UTC times of a sample, each of which stands for `factor` rows."""
    counted = moments.drop_nulls().dt.date().value_counts(name="rows").sort(moments.name)
    if counted.is_empty():
        return ()
    days = counted[moments.name]
    whole = pl.DataFrame({moments.name: pl.date_range(days[0], days[-1], eager=True)})
    rows = whole.join(counted, on=moments.name, how="left")["rows"].fill_null(0).cum_sum()
    found = []
    for length in LENGTHS:
        sums = rows - rows.shift(length, fill_value=0)
        found.append((length, round(int(sums.max() or 0) * factor)))  # type: ignore[arg-type]
        if length >= rows.len():
            break
    return tuple(found)


def rows_at_once(num_columns: int) -> int:
    """Rows of so many columns that are in memory at once."""
    return min(MOST_ROWS, MOST_CELLS // max(1, num_columns))


def chunk_days(found: Busiest, rows: float, days: int, num_columns: int, share: float = 1.0) -> int:
    """Days that hold no more rows than are in memory at once, where a `share` is read; all `days` of a small table."""
    most = rows_at_once(num_columns)
    if rows * share <= most:
        return days
    return min(days, max((length for length, count in found if count * share <= most), default=1))


def fits(span: timedelta, found: Busiest, num_columns: int) -> bool:
    """Whether the rows of `span` can be in memory beside a chunk."""
    days = math.ceil(span / timedelta(days=1))
    counts = [count for length, count in found if length >= days]
    return not found or (counts[0] if counts else found[-1][1]) <= ROOM * rows_at_once(num_columns)


def sample(found: Busiest, rows: int, num_columns: int) -> float:
    """Share of the entities that is read: 1, unless the rows of one day are too many for memory."""
    most, day = ROOM * rows_at_once(num_columns), found[0][1] if found else rows
    return 1.0 if day <= most else math.floor(1_000 * most / day) / 1_000 or most / day


def sample_finding(share: float, found: Busiest, rows: int, entity: Sequence[str]) -> list[Finding]:
    """What to say of a table of which a share is read."""
    if share >= 1:
        return []
    message = (
        f"A day of this table has up to {found[0][1]:,} rows, and a day is held in memory as a whole."
        if found
        else f"Without a --timestamp all {rows:,} rows are of one day, which is held in memory as a whole."
    )
    of_what = f"the entities ({', '.join(entity)})" if entity else "the rows"
    remedy = f"The project reads {percent(share)} of {of_what}: raise `sample` in it where there is memory for more."
    return [warning("sampled", message, remedy, *entity)]


def training_rows(num_features: int) -> int:
    """Most labelled rows of a dataset."""
    return min(MOST_ROWS, TRAINING_CELLS // max(1, num_features))
