"""Columns with a role: keys stay as they are written, no class of the label disappears, a time is read as one."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fti.errors import DataError
from fti.new.profile import guesses
from fti.new.profile.dates import epoch
from fti.new.profile.tables import OpenedTable
from fti.tables import read
from fti.tables.findings import hint, warning
from fti.tables.names import require_column
from fti.tables.spec import AS_STORED, BOOLEAN, DATE, INTEGER, NUMBER, SHORT_YEAR, TEXT, TIME

WHOLE = r"^[+-]?\d+(\.0*)?$"
SHORT_YEARS = (30, 99)


def checked(table: OpenedTable, entity: Sequence[str], timestamp: str | None, label: str) -> OpenedTable:
    """The table, its columns read as their roles ask; `DataError` for columns that are missing or named twice."""
    names = list(table.spec.columns)
    roles = [
        *((name, "entity") for name in entity),
        (label, "label"),
        *([(timestamp, "timestamp")] if timestamp else []),
    ]
    for at, (name, role) in enumerate(roles):
        require_column(name, names, role=role)
        if name in dict(roles[:at]):
            raise DataError(f"`{name}` is both --{dict(roles)[name]} and --{dict(roles[:at])[name]}: name two columns.")
    for name in entity:
        table = _as_key(table, name)
    table = _as_label(table, label)
    if timestamp is None or table.scan.collect_schema()[timestamp] in (pl.Date, pl.Datetime):
        return table
    return _with_times(table, timestamp)


def _as_key(table: OpenedTable, name: str) -> OpenedTable:
    """A key of a CSV is the text that is written, unless all its texts are whole numbers (`7`, `7.0`)."""
    how = table.spec.columns[name]
    if table.spec.format != "csv" or name in table.asked or how in (TEXT, INTEGER, AS_STORED):
        return table
    texts = table.words[name].without(table.spec.missing.get(name, ()))
    return table if how == NUMBER and texts.share(WHOLE) == 1.0 else table.retyped(name, TEXT)


def _as_label(table: OpenedTable, name: str) -> OpenedTable:
    """Beside yes and no a word such as `None` is an answer of the label, a class of its own."""
    marks = table.missing.get(name, {})
    if table.spec.columns[name] != BOOLEAN or not marks:
        return table
    shown = ", ".join(f"`{text}` ({rows:,} rows)" for text, rows in sorted(marks.items()))
    message = f"`{name}` is text, and {shown} is a class of it."
    remedy = f"`--missing {name}={','.join(sorted(marks))}` if it means that the label is not known."
    return table.retyped(name, TEXT, (), warning("kept_words", message, remedy, name))


def _with_times(table: OpenedTable, timestamp: str) -> OpenedTable:
    """A column of texts read by their format, or of whole numbers as units since 1970 or as years."""
    dtype = table.scan.collect_schema()[timestamp]
    column = pl.col(timestamp)
    some = read.collect(table.scan.select(column.drop_nulls().head(1_000)), table.spec)[timestamp]
    few = some.unique(maintain_order=True).head(3)
    if few.is_empty():
        raise DataError(f"--timestamp {timestamp!r} is null in every row: name another column, or leave it out.")
    if dtype.is_numeric():
        low, high = read.collect(table.scan.select(low=column.min(), high=column.max()), table.spec).row(0)
        how = epoch(int(low), int(high)) or (SHORT_YEAR if SHORT_YEARS[0] <= low <= high <= SHORT_YEARS[1] else "")
        if how:
            message = (
                f"`{timestamp}` holds numbers, {low} .. {high}, which are read as `{how}` in {table.num_rows:,} rows."
            )
            remedy = f"`--as '{timestamp}=RULE'` takes another unit: epoch s, epoch ms, epoch us, year."
            return table.retyped(timestamp, how, (), hint("epoch_times", message, remedy, timestamp))
    elif timestamp in table.words:
        found = guesses.times(table.raw, table.spec, table.words[timestamp])
        if found.how.startswith((DATE, TIME)):
            return table.retyped(timestamp, found.how, sorted(found.missing), *found.findings)
    shown = ", ".join(repr(value) for value in few.to_list())
    raise DataError(
        f"--timestamp {timestamp!r} holds no dates or times of one format but {shown}: name another column, write "
        "them as 2024-01-31 12:00, or leave --timestamp out."
    )
