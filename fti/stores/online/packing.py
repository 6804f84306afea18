"""Rows of a feature view to packed sections: from Feast's protobufs and from frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from feast.feature_view import FeatureView

from fti.errors import DataError
from fti.stores.online import keys
from fti.stores.online.backend import Written
from fti.stores.online.layout import Layout
from fti.stores.online.sections import NEVER, view_id
from fti.stores.online.types import FIXED, UTC_TIME, number, polars_type, raw_bytes, tail
from fti.times import last_moment, micros

EVENT, CREATED = "event_ts", "created_ts"


def of_protos(project: str, table: str, view: FeatureView, rows: Sequence[Any]) -> Written:
    """Rows as Feast gives them: (entity, values, event time, creation time or None)."""
    layout = layout_of(view)
    events = np.array([_micros(event) for _, _, event, _ in rows], np.int64)
    created = np.array([NEVER if made is None else _micros(made) for _, _, _, made in rows], np.int64)
    columns: dict[str, Any] = {}
    for feature in view.features:
        name = feature.name
        values = [row.get(name) for _, row, _, _ in rows]
        if str(feature.dtype) in FIXED:
            fixed = FIXED[str(feature.dtype)]
            found = [None if value is None else number(value, name, fixed) for value in values]
            present = np.array([value is not None for value in found], bool)
            filled = np.array([0 if value is None else value for value in found], fixed.numpy)
            columns[name] = (filled, present)
        else:
            kind = tail(feature.dtype)
            columns[name] = [None if value is None else raw_bytes(value, name, kind) for value in values]
    encoded = [keys.of_proto(project, entity) for entity, _, _, _ in rows]
    return _written(table, layout, encoded, events, created, columns)


def of_frame(project: str, table: str, view: FeatureView, rows: pl.DataFrame) -> Written:
    """A frame of the view's keys, `event_ts` and `created_ts` in microseconds and its features."""
    columns_of_keys = keys.entity_columns(view)
    names, types = [own.name for own in columns_of_keys], [polars_type(own.dtype) for own in columns_of_keys]
    encoded = keys.of_frame(keys.prefix(project, names), rows, names, types)
    if None in encoded:
        raise DataError(f"feature view {view.name}: {encoded.count(None)} rows have no entity; drop them first")
    fixed = {feature.name: FIXED[str(feature.dtype)] for feature in view.features if str(feature.dtype) in FIXED}
    numbers = rows.select(_number(name, kind.polars, rows.schema[name]) for name, kind in fixed.items())
    present = rows.select(pl.col(name).is_not_null() for name in fixed)
    columns: dict[str, Any] = {name: (numbers[name].to_numpy(), present[name].to_numpy()) for name in fixed}
    for feature in view.features:
        if feature.name not in fixed:
            dump = tail(feature.dtype).dump
            columns[feature.name] = [None if value is None else dump(value) for value in rows[feature.name].to_list()]
    events, created = rows[EVENT].to_numpy(), rows[CREATED].fill_null(NEVER).to_numpy()
    return _written(table, layout_of(view), encoded, events, created, columns)


def known(rows: Written, max_ahead_seconds: int) -> Written:
    """`rows` with the latest event time that may be online; DataError when one of them happened later."""
    last = micros(last_moment(timedelta(seconds=max_ahead_seconds)))
    if rows.newest > last:
        raise DataError(
            f"feature view {rows.name}: a row of {np.datetime64(rows.newest, 'us')} UTC is not written: it lies over "
            f"{timedelta(seconds=max_ahead_seconds)} ahead of the clock and would be its entity's newest until then. "
            "Correct its event time, or raise `max_ahead_seconds` of the online store in feature_store.yaml."
        )
    return replace(rows, latest=last)


def layout_of(view: FeatureView) -> Layout:
    """How the view's rows are packed today."""
    return Layout.of((feature.name, str(feature.dtype)) for feature in view.features)


def _written(
    table: str, layout: Layout, encoded: Sequence[bytes | None], events: Any, created: Any, columns: dict[str, Any]
) -> Written:
    view = view_id(table)
    sections = layout.pack(view, events, created, columns)
    newest = int(events.max()) if len(events) else NEVER
    rows: list[Any] = list(zip(encoded, sections, strict=True))
    return Written(view, table, layout, rows, newest)


def _number(name: str, dtype: Any, given: Any) -> pl.Expr:
    """The column in the type that is packed, times as microseconds, nulls as zero."""
    column = pl.col(name)
    if dtype == UTC_TIME:
        column = column.dt.epoch("us")
    elif dtype != given:
        column = column.cast(dtype)
    return column.fill_null(False if dtype == pl.Boolean else 0)


def _micros(moment: datetime) -> int:
    return micros(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
