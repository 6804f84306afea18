"""What is a time: columns of moments as UTC microseconds, and how far ahead of the clock a moment may lie.

A time is a datetime in any unit and zone (without a zone it is UTC; nanoseconds are cut off downwards), a date (its
midnight in UTC) or ISO 8601 text. Anything else is refused by name: a number has no unit, `01/02/2024` no one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl

from fti.errors import DataError

TIME = "event_timestamp"
"""Column of the moment at which a row of features became known, or a prediction was asked for."""
UTC_TIME = pl.Datetime("us", "UTC")
TEXT = (pl.String, pl.Categorical, pl.Enum)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ISO = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,9}))?)?"
    r"(Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)?)?$"
)
"""Date; hour, minute, second, fraction of a second; offset from UTC."""
AHEAD = timedelta(days=1)
"""How far ahead of the clock a row that has happened may lie: clocks differ."""
MOST_SHOWN = 40
"""Characters of a value in a message."""


def utc(schema: pl.Schema, column: str, of: str = "the rows") -> pl.Expr:
    """`column` as UTC microseconds; DataError, which names the rows as `of`, when it holds no times."""
    dtype, expr = schema[column], pl.col(column)
    if dtype == UTC_TIME:
        return expr
    if isinstance(dtype, TEXT):
        return expr.map_batches(partial(_from_text, of=of), return_dtype=UTC_TIME, is_elementwise=True)
    if _largest(dtype) is not None:
        expr = expr.map_batches(partial(_within, of=of), return_dtype=dtype, is_elementwise=True)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return expr.dt.convert_time_zone("UTC").cast(UTC_TIME)
    if isinstance(dtype, (pl.Datetime, pl.Date, pl.Null)):
        return expr.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    is_number = dtype.is_numeric() or dtype == pl.Boolean
    kind = "a number is no time, since it has no unit" if is_number else "that is no time"
    raise DataError(
        f"{of}: {column!r} is {dtype}, and {kind}. Make it a column of datetimes first, for example with "
        f"pl.from_epoch({column!r}, time_unit='s') or pandas.to_datetime(values, unit='s', utc=True)."
    )


def as_times(values: pl.Series, of: str = "the rows") -> pl.Series:
    """`values`, which may be Python objects too, as UTC microseconds; a refusal names the row, counted from 0."""
    if isinstance(values.dtype, pl.Object):
        return from_objects(values.name, values.to_list(), of)
    if isinstance(values.dtype, TEXT):
        return _from_text(values, of=of, first_row=0)
    frame = values.to_frame()
    return frame.select(utc(frame.schema, values.name, of)).to_series()


def require_text_times(rows: pl.LazyFrame, columns: Sequence[str], of: str) -> None:
    """Raise DataError, which names the row, when one of `columns` is text and a value of it is no time.

    A filter by such a column may be handed to the reader, which then tells neither the row nor the rows left out.
    """
    schema = rows.collect_schema()
    text = [name for name in dict.fromkeys(columns) if isinstance(schema.get(name), TEXT)]
    first_row = 0
    for batch in rows.select(text).collect_batches(maintain_order=True) if text else ():
        for values in batch.get_columns():
            _from_text(values, of=of, first_row=first_row)
        first_row += batch.height


def from_objects(name: str, values: Sequence[Any], of: str = "the rows") -> pl.Series:
    """Python's, NumPy's and pandas' datetimes and dates, of any zones, and ISO 8601 text, as UTC microseconds."""
    text = pl.Series(name, [value if isinstance(value, str) else None for value in values], pl.String)
    read = _from_text(text, of=of, first_row=0)
    if not read.has_nulls():
        return read
    moments = [_moment(value) for value in values]
    for row, (value, moment) in enumerate(zip(values, moments, strict=True)):
        if moment is None and not isinstance(value, str) and not _is_missing(value):
            raise DataError(
                f"{of}: {name!r} of row {row} is {str(value)[:MOST_SHOWN]!r} ({type(value).__name__}), which is no "
                "time. Give datetimes, or ISO 8601 text such as 2024-01-31T09:05:00Z."
            )
    return pl.Series(name, moments, UTC_TIME).zip_with(read.is_null(), read)


def require_times(rows: pl.DataFrame, column: str, of: str) -> None:
    """Raise DataError when `column` is null in a row."""
    missing = rows[column].is_null()
    if missing.any():
        raise DataError(
            f"{of}: {column!r} is null in {missing.sum()} of {rows.height} rows, first in row {missing.arg_max()}. "
            "Every row needs its moment: fill it in, or drop these rows."
        )


def last_moment(ahead: timedelta, now: datetime | None = None) -> datetime:
    """The last moment that is at most `ahead` after `now`, the present without one."""
    return (now or datetime.now(UTC)) + ahead


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - EPOCH) // MICROSECOND


def _from_text(values: pl.Series, *, of: str, first_row: int | None = None) -> pl.Series:
    """ISO 8601, each value with or without time of day and offset; digits below a microsecond are cut off.

    A refusal names the row where that of the first value is known.
    """
    text = values.cast(pl.String)
    day, hour, minute, second, fraction, offset = text.str.extract_groups(ISO).struct.unnest().get_columns()
    parts = pl.DataFrame([day.alias("day"), hour.alias("h"), minute.alias("m"), second.alias("s")])
    parts = parts.with_columns(fraction.alias("f"), offset.alias("o"))
    sign = pl.when(pl.col("o").str.starts_with("-")).then(-1).otherwise(1)
    digits = pl.col("o").str.replace_all(r"[^0-9]", "")
    minutes = sign * (_whole(digits.str.slice(0, 2)) * 60 + _whole(digits.str.slice(2, 2)))
    moments = parts.select(
        pl.col("day").str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
        + pl.duration(
            hours=_whole(pl.col("h")),
            minutes=_whole(pl.col("m")) - minutes,
            seconds=_whole(pl.col("s")),
            microseconds=_whole(pl.col("f").str.pad_end(6, "0").str.slice(0, 6)),
        )
    ).to_series()
    bad = text.is_not_null() & moments.is_null()
    if bad.any():
        place = bad.index_of(True) or 0
        where = "" if first_row is None else f", first in row {first_row + place}"
        raise DataError(
            f"{of}: {values.name!r} is text that is no ISO 8601 time in {bad.sum()} of {len(text)} rows{where}: "
            f"{text[place][:MOST_SHOWN]!r}. Write 2024-01-31 or 2024-01-31T09:05:00Z, or make it a column of datetimes."
        )
    return moments.dt.replace_time_zone("UTC").alias(values.name)


def _largest(dtype: pl.DataType) -> int | None:
    """The largest number of a type of times that is within microseconds of 64 bits; None where all are."""
    if dtype == pl.Date:
        return (2**63 - 1) // (24 * 3600 * 1_000_000)
    return (2**63 - 1) // 1000 if isinstance(dtype, pl.Datetime) and dtype.time_unit == "ms" else None


def _within(values: pl.Series, of: str) -> pl.Series:
    """`values`; DataError for one that no microseconds of 64 bits hold."""
    largest = _largest(values.dtype) or 0
    numbers = values.to_physical().cast(pl.Int64)
    bad = ((numbers > largest) | (numbers < -largest)).fill_null(False)
    if bad.any():
        unit = "days" if values.dtype == pl.Date else "milliseconds"
        raise DataError(
            f"{of}: {values.name!r} has the time {numbers.filter(bad)[0]} {unit} from 1970, which is too far away for "
            "microseconds. Make it null, or a time within 290,000 years."
        )
    return values


def _whole(digits: pl.Expr) -> pl.Expr:
    """Digits as a number; none are 0."""
    return digits.cast(pl.Int64, strict=False).fill_null(0)


def _moment(value: Any) -> datetime | None:
    """A datetime or date of any library in UTC; None for what is none."""
    if hasattr(value, "floor") and hasattr(value, "to_pydatetime"):  # a pandas Timestamp, maybe with nanoseconds
        value = None if _is_missing(value) else value.floor("us").to_pydatetime()
    elif type(value).__name__ == "datetime64":
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime):
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:  # in another year than 1 to 9999 there
            return None
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None


def _is_missing(value: Any) -> bool:
    """None, pandas' NaT and NA, and the NaN that stands for them in a column of objects."""
    return value is None or str(value) in ("NaT", "<NA>") or (isinstance(value, float) and value != value)
