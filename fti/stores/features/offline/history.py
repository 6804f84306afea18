"""The rows behind a feature view, cut to a time range before they are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl
from feast.feature_view import FeatureView
from feast.repo_config import RepoConfig

from fti.stores.features.offline.point_in_time import History, aware
from fti.stores.features.offline.source import file_source, place_of
from fti.times import UTC_TIME, require_text_times, utc

Span = tuple[datetime | None, datetime | None]
"""First and last moment, both included; none is open."""

_NANOSECONDS = datetime(1678, 1, 1), datetime(2262, 1, 1)
"""What 64 bits of nanoseconds can hold."""


def history_of(
    config: RepoConfig,
    view: FeatureView,
    *,
    names: Mapping[str, str],
    span: Span = (None, None),
    known_at: bool = True,
) -> History:
    """The history of a feature view, in the view's own column names, with the rows of `span`.

    Without `known_at`, its `created_timestamp_column` only decides which of two rows of one time counts.
    """
    source = file_source(view.batch_source)
    where = place_of(config, source)
    mapping = dict(source.field_mapping or {})
    time = mapping.get(source.timestamp_field, source.timestamp_field)
    created = mapping.get(source.created_timestamp_column, source.created_timestamp_column) or None
    rows = where.scan(*span)
    columns = _view_columns(rows.collect_schema(), mapping)
    asking = view.projection.join_key_map
    keys = {entity.name: asking.get(entity.name, entity.name) for entity in view.entity_columns}
    needed = dict.fromkeys([*keys, *names, time, *([created] if created else [])])
    rows = rows.select(pl.col(columns[name]).alias(name) for name in needed if name in columns)
    of = f"feature view {view.name}"
    require_text_times(rows, [time, created or time], of)
    rows = cut(rows, time, *span, of=of)
    if created and created in columns:
        moment = utc(rows.collect_schema(), created, of)
        rows, created = (rows, created) if known_at else (_settled(rows, time, created, moment), None)
    return History(
        name=view.name,
        rows=rows,
        keys=keys,
        features=names,
        time=time,
        created=created,
        ttl=view.ttl or timedelta(0),
        source=where.folder if known_at or not source.created_timestamp_column else None,
        mapping=mapping,
    )


def cut(
    rows: pl.LazyFrame, time: str, start: datetime | None, end: datetime | None, *, of: str = "the rows"
) -> pl.LazyFrame:
    """`rows` with `start <= time <= end`, so written that Parquet's statistics can skip row groups."""
    schema = rows.collect_schema()
    dtype = schema.get(time)
    if dtype is None:
        return rows
    bounds = [None if moment is None else aware(moment) for moment in (start, end)]
    column = utc(schema, time, of)
    first, last = (pl.lit(moment, UTC_TIME) for moment in bounds)
    if isinstance(dtype, pl.Datetime) and (dtype.time_unit == "us" or _in_nanoseconds(dtype, bounds)):
        column = pl.col(time)
        first, last = (_like(bound, dtype) for bound in (first, last))
        if dtype.time_unit == "ns":  # a moment is a microsecond, all of it
            last = last + pl.duration(nanoseconds=999, time_unit="ns")
    if bounds[0] is not None:
        rows = rows.filter(column >= first)
    if bounds[1] is not None:
        rows = rows.filter(column <= last)
    return rows


def newest(rows: pl.LazyFrame, keys: Sequence[str], times: Sequence[str], at_a_time: int = 1_000_000) -> pl.DataFrame:
    """The newest row of each entity, the later one of two of one time.

    Rows stream through, `at_a_time` or as many as there are entities: memory grows with the entities, not the rows.
    """
    best = rows.head(0).collect()
    pending: list[pl.DataFrame] = []
    for batch in rows.collect_batches(maintain_order=True, engine="streaming"):
        pending.append(batch)
        if sum(part.height for part in pending) >= max(at_a_time, best.height):
            best, pending = _last_of(pl.concat([best, *pending]), keys, times), []
    return _last_of(pl.concat([best, *pending]), keys, times)


def _last_of(rows: pl.DataFrame, keys: Sequence[str], times: Sequence[str]) -> pl.DataFrame:
    rows = rows.sort(times, nulls_last=False, maintain_order=True)
    return rows.unique(subset=keys, keep="last", maintain_order=True) if keys else rows.tail(1)


def _view_columns(schema: pl.Schema, mapping: Mapping[str, str]) -> dict[str, str]:
    """Column of the view -> column of its source."""
    return {name: name for name in schema} | {new: old for old, new in mapping.items() if old in schema}


def _settled(rows: pl.LazyFrame, time: str, created: str, moment: pl.Expr) -> pl.LazyFrame:
    """`rows` so ordered that of two rows of one time the later written one, by `moment`, is the later row."""
    order = [utc(rows.collect_schema(), time), moment]
    return rows.sort(order, nulls_last=False, maintain_order=True).drop(created)


def _in_nanoseconds(dtype: pl.Datetime, bounds: Sequence[datetime | None]) -> bool:
    first, last = (aware(moment) for moment in _NANOSECONDS)
    return dtype.time_unit == "ns" and all(bound is None or first < bound < last for bound in bounds)


def _like(moment: pl.Expr, dtype: pl.Datetime) -> pl.Expr:
    zoned = moment.dt.replace_time_zone(None)
    if dtype.time_zone is not None:
        zoned = moment.dt.convert_time_zone(dtype.time_zone)
    return zoned.dt.cast_time_unit(dtype.time_unit)
