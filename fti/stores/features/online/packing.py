"""Rows of a feature view to packed sections: from Feast's protobufs and from frames."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from feast.feature_view import FeatureView

from fti.errors import DataError
from fti.stores.features.online import keys
from fti.stores.features.online.backend import Written
from fti.stores.features.online.layout import Layout
from fti.stores.features.online.sections import NEVER, view_id
from fti.stores.features.online.types import FIXED, declared, numbers, polars_type, raw_bytes, tail
from fti.times import EPOCH, UTC_TIME, last_moment, micros

EVENT, CREATED = "event_ts", "created_ts"
logger = logging.getLogger(__name__)


def of_protos(project: str, table: str, view: FeatureView, rows: Sequence[Any]) -> Written:
    """Rows as Feast gives them: (entity, values, event time, creation time or None). Those without entity are left out,
    and told."""
    found = [keys.of_proto(project, entity) for entity, _, _, _ in rows]
    if None in found:
        lost = [row for row, key in zip(rows, found, strict=True) if key is None]
        tell_without_entity(view, len(lost), lost[0][2])
        rows = [row for row, key in zip(rows, found, strict=True) if key is not None]
    encoded = [key for key in found if key is not None]
    events = np.array([_micros(event) for _, _, event, _ in rows], np.int64)
    created = np.array([NEVER if made is None else _micros(made) for _, _, _, made in rows], np.int64)
    columns: dict[str, Any] = {}
    naming: dict[str, Any] = {"of": f"feature view {view.name}", "row": lambda place: keys.shown(encoded[place])}
    for feature in view.features:
        name = feature.name
        values = [row.get(name) for _, row, _, _ in rows]
        if str(feature.dtype) in FIXED:
            columns[name] = _fixed(numbers(values, name, feature.dtype, **naming))
        else:
            kind = tail(feature.dtype)
            columns[name] = [None if value is None else raw_bytes(value, name, kind) for value in values]
    return _written(table, layout_of(view), encoded, events, created, columns)


def of_frame(project: str, table: str, view: FeatureView, rows: pl.DataFrame) -> Written:
    """A frame of the view's keys, `event_ts` and `created_ts` in microseconds and its features. Rows without entity are
    left out, and told."""
    keys.require_types(view)
    of, key_columns = f"feature view {view.name}", keys.entity_columns(view)
    names = [own.name for own in key_columns]
    lacking = rows.filter(pl.any_horizontal(pl.col(names).is_null())) if names else rows.head(0)
    if lacking.height:
        first = EPOCH + timedelta(microseconds=lacking[EVENT][0])
        tell_without_entity(view, lacking.height, first)
        rows = rows.drop_nulls(names)
    types = [polars_type(own.dtype) for own in key_columns]
    rows = rows.with_columns(
        keys.exact_keys(rows[own.name], own.dtype, polars, of) for own, polars in zip(key_columns, types, strict=True)
    )
    encoded = [key for key in keys.of_frame(keys.prefix(project, names), rows, names, types) if key is not None]
    columns: dict[str, Any] = {}
    for feature in view.features:
        column = declared(rows[feature.name], feature.dtype, of=of, row=lambda place: keys.shown(encoded[place]))
        if str(feature.dtype) in FIXED:
            columns[feature.name] = _fixed(column)
        else:
            kind = tail(feature.dtype)
            values = column.to_list() if kind.stored in (None, column.dtype) else column.cast(kind.stored).to_list()
            columns[feature.name] = [None if value is None else kind.dump(value) for value in values]
    events, created = rows[EVENT].to_numpy(), rows[CREATED].fill_null(NEVER).to_numpy()
    return _written(table, layout_of(view), encoded, events, created, columns)


def tell_without_entity(view: FeatureView, number: int, first: datetime | None) -> None:
    """Say that rows had no entity, and so are nobody's: they do not hold up the others."""
    names = " or ".join(repr(own.name) for own in keys.entity_columns(view))
    logger.warning(
        "feature view %s: %d rows have no %s and were not written online, one of them of %s: fill it in, or drop them",
        view.name,
        number,
        names,
        first and first.isoformat(),
    )


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


def features_of(view: FeatureView, names: Sequence[str] | None = None) -> tuple[tuple[str, str], ...]:
    """(name, type) of the view's features, or of those among `names`."""
    features = {feature.name: str(feature.dtype) for feature in view.features}
    return tuple((name, features[name]) for name in (names or features) if name in features)


def layout_of(view: FeatureView) -> Layout:
    """How the view's rows are packed today."""
    return Layout.of(features_of(view))


def _written(
    table: str, layout: Layout, encoded: Sequence[bytes], events: Any, created: Any, columns: dict[str, Any]
) -> Written:
    view = view_id(table)
    sections = layout.pack(view, events, created, columns, encoded)
    newest = int(events.max()) if len(events) else NEVER
    rows: list[Any] = list(zip(encoded, sections, strict=True))
    return Written(view, table, layout, rows, newest)


def _fixed(column: pl.Series) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(values, not null): times as microseconds, nulls as zero."""
    values = column.to_physical() if column.dtype == UTC_TIME else column
    return values.fill_null(False if values.dtype == pl.Boolean else 0).to_numpy(), column.is_not_null().to_numpy()


def _micros(moment: datetime) -> int:
    return micros(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment)
