"""Look at a table once: what is counted over all rows, and the sample that statistics are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from fti.errors import DataError
from fti.new import read
from fti.new.columns import Facts, facts, joined, kind_of, read_facts
from fti.new.dates import epoch
from fti.new.names import require_column
from fti.new.profiles import Kind
from fti.new.spec import SHORT_YEAR, utc
from fti.new.tables import OpenedTable

SAMPLE_CELLS = 24_000_000
SAMPLE_BYTES = 1 << 29
KEY_CELLS = 12_000_000
SHORT_YEARS = (30, 99)
"""A larger table is sampled for statistics; rows, nulls, ranges and infinite values are counted over all rows."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """Everything that is read from a table for its profile."""

    schema: Mapping[str, pl.DataType]
    facts: Mapping[str, Facts]
    num_rows: int
    rows: pl.DataFrame
    """The sample, spread over the table, in file order."""
    moments: pl.Series | None
    """UTC times of `rows`."""
    span: tuple[datetime, datetime] | None
    """UTC times of the oldest and the newest of all rows."""
    keys: pl.DataFrame
    """Entity and time columns of all rows of some entities, in file order."""
    key_moments: pl.Series | None
    factor: float
    """Entities in the table for one in `keys`."""
    kinds: Mapping[str, Kind]
    distinct: Mapping[str, int]


def look(table: OpenedTable, entity: Sequence[str], timestamp: str | None) -> Look:
    """Reads the table once, part by part."""
    schema = dict(table.scan.collect_schema())
    names = list(dict.fromkeys([*entity, *([timestamp] if timestamp else [])]))
    most = _most_rows(table, len(schema))
    one_in = 1 if most >= table.num_rows or not entity else max(1, -(-table.num_rows * len(names) // KEY_CELLS))
    counted, chosen, keyed = [], [], []
    first = 0
    for batch in table.batches():
        counted.append(facts(batch.lazy(), schema).collect())
        chosen.append(read.spread(batch, first, most, table.num_rows))
        if most < table.num_rows and entity:
            keyed.append(batch.select(names).filter(pl.struct(entity).hash(7) % one_in == 0))
        first += batch.height
    rows = pl.concat(chosen)
    counts = joined(counted).row(0, named=True)
    keys = pl.concat(keyed) if keyed else rows.select(names)
    distinct = {name: _distinct(rows[name]) for name in schema}
    return Look(
        schema=schema,
        facts=read_facts(counts, list(schema)),
        num_rows=table.num_rows,
        rows=rows,
        moments=_moments(rows, timestamp),
        span=_span(counts, schema, timestamp),
        keys=keys,
        key_moments=_moments(keys, timestamp),
        factor=one_in,
        kinds={name: kind_of(rows[name], distinct[name]) for name in schema},
        distinct=distinct,
    )


def _most_rows(table: OpenedTable, width: int) -> int:
    """How many rows the sample may have."""
    head = read.collect(table.scan.head(1_000), table.spec)
    per_row = head.estimated_size() / max(1, head.height)
    return max(1_000, min(SAMPLE_CELLS // width, int(SAMPLE_BYTES / max(1.0, per_row))))


def _distinct(values: pl.Series) -> int:
    """Number of different values, null not counted; lists and structs count as all different."""
    if values.dtype.is_nested() or values.dtype == pl.Object:
        return values.len() - values.null_count()
    return values.n_unique() - (values.null_count() > 0)


def _moments(rows: pl.DataFrame, timestamp: str | None) -> pl.Series | None:
    return rows.select(utc(pl.col(timestamp), rows.schema[timestamp])).to_series() if timestamp else None


def _span(
    counts: Mapping[str, object], schema: Mapping[str, pl.DataType], timestamp: str | None
) -> tuple[datetime, datetime] | None:
    """The oldest and the newest time; None without a timestamp or when it is null in every row."""
    if timestamp is None:
        return None
    at, dtype = list(schema).index(timestamp), schema[timestamp]
    ends = pl.DataFrame({"t": pl.Series([counts[f"{at} least"], counts[f"{at} most"]], dtype=dtype)})
    first, last = ends.select(utc(pl.col("t"), dtype))["t"].to_list()
    return (first.astimezone(UTC), last.astimezone(UTC)) if first is not None else None


def checked(table: OpenedTable, entity: Sequence[str], timestamp: str | None, label: str) -> OpenedTable:
    """The table, its timestamp column read as times; `DataError` for columns that are missing or named twice."""
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
    if timestamp is None or table.scan.collect_schema()[timestamp] in (pl.Date, pl.Datetime):
        return table
    return _with_times(table, timestamp)


def _with_times(table: OpenedTable, timestamp: str) -> OpenedTable:
    """A column of whole numbers read as units since 1970, or as years."""
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
            return table.retyped(timestamp, how)
    shown = ", ".join(repr(value) for value in few.to_list())
    raise DataError(
        f"--timestamp {timestamp!r} holds no dates or times of one format but {shown}: name another column, write "
        "them as 2024-01-31 12:00, or leave --timestamp out."
    )
