"""The rows of a table as a project's raw source: plain names and types, one moment and one key a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from fti.errors import DataError
from fti.tables.read import read
from fti.tables.spec import TableSpec, utc
from fti.times import UTC_TIME

NO_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""The moment of every row of a table without times."""
SERIES = "all"
"""The one entity of a table that is a series."""
_COPY = "__copy"


def read_rows(
    table: TableSpec,
    *,
    schema: Mapping[str, Any],
    entity: Sequence[str],
    time: str,
    start: datetime,
    end: datetime,
    names: Mapping[str, str] | None = None,
    series: bool = False,
    sample: float = 1.0,
) -> pl.DataFrame:
    """The rows of `table` with `start <= time < end` in the columns of `schema`, in the order of the file.

    `names` maps the table's columns to those of `schema`, where they differ. An `entity` column that the table does
    not have is made: the row's number in the file, from 0, or one name for all rows where the table is a `series`. A
    `time` that it does not have is `NO_TIME` in every row.
    Infinite numbers become null, a time without a zone is UTC. Rows without an entity or a time are left out, and so
    are copies of a row; other rows of one entity and time are moved apart (`spaced`). Of a `sample` below 1 it is the
    rows of that share of the entities, always the same.
    """
    own = {fresh: name for name, fresh in (names or {}).items()}
    stored = {name: own.get(name, name) for name in schema if own.get(name, name) in table.columns}
    numbered = next((name for name in entity if name not in stored), None)
    rows = read(
        table,
        columns=list(stored.values()),
        time=stored.get(time),
        **({"start": start, "end": end} if time in stored else {}),
        number=None if series else numbered,
        sample=sample,
        drawn_by=[stored.get(name, name) for name in entity],
    )
    columns = [typed(rows[name], schema[fresh]).alias(fresh) for fresh, name in stored.items()]
    columns += [rows[numbered].cast(schema[numbered])] if numbered and not series else []
    frame = pl.DataFrame(columns).with_columns(pl.lit(SERIES).alias(name) for name in (entity if series else ()))
    if time not in stored:
        moment = pl.lit(NO_TIME, UTC_TIME).alias(time)
        frame = frame.with_columns(moment).filter(pl.lit(start <= NO_TIME < end))
    return spaced(frame.select(*schema).drop_nulls([*entity, time]), entity=entity, time=time)


def typed(values: pl.Series, dtype: Any) -> pl.Series:
    """`values` as `dtype`: times in UTC, what is not finite is null. DataError for a value that `dtype` cannot hold."""
    if dtype == UTC_TIME:
        return values.to_frame().select(utc(pl.col(values.name), values.dtype)).to_series()
    if values.dtype.is_float():
        values = values.to_frame().select(pl.when(pl.col(values.name).is_finite()).then(values.name)).to_series()
    if values.dtype == pl.String and dtype != pl.String:
        raise DataError(
            f"Column {values.name!r} holds text now, and the project's TABLE declares {dtype}: say how it is read with "
            "`how=`, declare pl.String, or store it as it was."
        )
    made = values.cast(dtype, strict=False)
    back = made.cast(values.dtype, strict=False) if values.dtype.is_numeric() and made.dtype.is_numeric() else None
    changed = made.is_null() & values.is_not_null() if back is None else back.ne_missing(values)
    if changed.any():
        raise DataError(
            f"Column {values.name!r} holds {values.filter(changed)[0]!r}, which {dtype} cannot hold without a change. "
            "Mend the value, or declare another type for the column in the project's TABLE."
        )
    return made


def spaced(rows: pl.DataFrame, *, entity: Sequence[str], time: str) -> pl.DataFrame:
    """`rows` without copies, those of one entity and time a microsecond apart in their order.

    So that each has a key of its own and none is lost. Those of a day's last microseconds move back, so that a row
    stays in its day.
    """
    rows = rows.unique(maintain_order=True)
    key = [*entity, time]
    if rows.select(pl.struct(key).is_unique().all()).item():
        return rows
    numbered = rows.with_columns(pl.int_range(pl.len()).over(key).alias(_COPY))
    moment, step = pl.col(time), pl.duration(microseconds=_COPY)
    last = pl.duration(microseconds=pl.len().over(key) - 1)
    midnight = moment.dt.truncate("1d") + pl.duration(days=1)
    start = pl.min_horizontal(moment, midnight - pl.duration(microseconds=1) - last)
    return numbered.with_columns((start + step).alias(time)).drop(_COPY)
