"""Look at a table once: what is counted over all rows, and the sample that statistics are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from fti.new.profile.columns import Facts, facts, joined, kind_of, read_facts
from fti.new.profile.profiles import Kind
from fti.new.profile.tables import OpenedTable
from fti.tables import read
from fti.tables.spec import utc

SAMPLE_CELLS = 24_000_000
SAMPLE_BYTES = 1 << 29
KEY_CELLS = 12_000_000
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
