"""Point-in-time joins, pure functions on polars frames: each row gets what was known at its moment, nothing later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from fti.errors import DataError

UTC_TIME = pl.Datetime("us", "UTC")
_ROW, _TIME, _EVENT, _KNOWN, _RANK = "__row", "__time", "__event", "__known", "__rank"


@dataclass(frozen=True, kw_only=True)
class History:
    """The rows of one feature view over time, and how they meet the rows that ask.

    `keys` maps an entity column of `rows` to the asking column, `features` a column of `rows` to its name in the
    result. `time` is when a row happened; `created`, if there is one, when it was written down: it counts only from
    then on, and of two rows of one time the later written one wins. A zero `ttl` never expires.
    `source` is the local folder or file that `rows` come from, if they do, and `mapping` renames its columns to those
    of `rows`.
    """

    name: str
    rows: pl.LazyFrame
    keys: Mapping[str, str]
    features: Mapping[str, str]
    time: str
    created: str | None = None
    ttl: timedelta = timedelta(0)
    source: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


def point_in_time_join(
    entity_rows: pl.DataFrame, histories: Sequence[History], time: str = "event_timestamp"
) -> pl.DataFrame:
    """`entity_rows`, all of them and in their order, with the features of `histories` as known at column `time`."""
    asked = entity_rows.select(utc(entity_rows.schema, time).alias(_TIME), pl.exclude(time)).with_row_index(_ROW)
    asked = asked.sort(_TIME, maintain_order=True)
    features = [features_at(asked, history) for history in histories]
    back = asked.select(pl.col(_ROW).arg_sort()).to_series()
    return pl.concat([entity_rows, *(frame[back] for frame in features)], how="horizontal")


def features_at(asked: pl.DataFrame, history: History) -> pl.DataFrame:
    """The features of `history` at each row of `asked`, which is sorted by time and has the history's keys."""
    known = _as_known(history)
    keys = {own: f"__key_{own}" for own in history.keys}
    left = asked.select(
        _TIME, *(pl.col(key).cast(known.schema[own]).alias(keys[own]) for own, key in history.keys.items())
    )
    joined = left.join_asof(
        known.rename(keys),
        left_on=_TIME,
        right_on=_KNOWN,
        by=list(keys.values()),
        strategy="backward",
        check_sortedness=False,  # polars cannot check it by group; both sides are sorted above
    )
    features = pl.col(list(history.features))
    if history.ttl > timedelta(0):
        features = pl.when(pl.col(_TIME) - pl.col(_EVENT) <= history.ttl).then(features)
    return joined.select(features).rename(dict(history.features))


def latest(history: History) -> pl.LazyFrame:
    """The newest row of each entity: its keys, features, time and, if there is one, creation time."""
    rows = require(history).drop_nulls([*history.keys, history.time])
    rows = rows.sort(_times(history), nulls_last=False, maintain_order=True)
    return rows.unique(subset=list(history.keys), keep="last", maintain_order=True)


def between(history: History, start: datetime | None, end: datetime | None) -> History:
    """`history` cut to rows with `start <= time <= end`; a missing bound is open."""
    rows = history.rows
    time = utc(rows.collect_schema(), history.time)
    if start is not None:
        rows = rows.filter(time >= aware(start))
    if end is not None:
        rows = rows.filter(time <= aware(end))
    return replace(history, rows=rows)


def aware(moment: datetime) -> datetime:
    """`moment` in UTC; one without a zone is taken to be in UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def utc(schema: pl.Schema, column: str) -> pl.Expr:
    """`column` as UTC microseconds; text is ISO 8601 and times without a zone are UTC, as in Feast."""
    dtype, expr = schema[column], pl.col(column)
    if dtype == UTC_TIME:
        return expr
    if dtype == pl.String:
        return expr.str.to_datetime(time_zone="UTC", time_unit="us")
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return expr.dt.convert_time_zone("UTC").cast(UTC_TIME)
    return expr.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def require(history: History) -> pl.LazyFrame:
    """The columns of `history` that the join reads, times in UTC; a missing one is named."""
    schema = history.rows.collect_schema()
    needed = [*history.keys, *history.features, *_times(history)]
    missing = [column for column in needed if column not in schema]
    if missing:
        raise DataError(
            f"feature view {history.name}: its source has no column {missing[0]!r} (it has {', '.join(schema)}). "
            "Materialize its features again, or correct the feature view."
        )
    return history.rows.select(needed).with_columns(utc(schema, column) for column in _times(history))


def _times(history: History) -> list[str]:
    return [history.time, *([history.created] if history.created else [])]


def _as_known(history: History) -> pl.DataFrame:
    """Rows sorted by the moment from which each was known, `__known`, holding the newest row known by then."""
    rows = require(history).drop_nulls([*history.keys, history.time]).collect()
    rows = rows.sort(_times(history), nulls_last=False, maintain_order=True)
    if history.created is None:
        return rows.with_columns(pl.col(history.time).alias(_KNOWN)).rename({history.time: _EVENT})
    known = rows.select(pl.max_horizontal(_times(history)).alias(_KNOWN), *history.keys).with_row_index(_RANK)
    known = known.sort(_KNOWN, maintain_order=True)
    newest = known.select(_KNOWN, pl.col(_RANK).cum_max().over(list(history.keys)))
    return rows[newest[_RANK]].with_columns(newest[_KNOWN]).rename({history.time: _EVENT}).drop(history.created)
