"""The entity dataframe: its forms, the moments it asks about, and how its keys meet those of a view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.errors import EntityTimestampInferenceException, RequestDataNotFoundInEntityDfException
from feast.feature_view import FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView

from fti.errors import DataError
from fti.stores.features.offline.history import Span
from fti.stores.features.offline.point_in_time import History, between, point_in_time_join, require
from fti.times import TIME, as_times, from_objects, require_times, utc
from fti.values import matching

OF = "entity rows"
"""What refusals call them."""
_FEW = 100_000
"""Entity rows up to which a filter by their keys costs less than it saves."""


def entity_frame(entity_df: Any) -> tuple[pl.DataFrame, str]:
    """The entity dataframe as a polars frame, and its event timestamp: `event_timestamp` or its only datetime.

    Datetimes stay in their unit and zone, text becomes UTC. DataError when it holds no times, or a row has none.
    """
    rows, time = _frame(entity_df), TIME
    if TIME not in rows.columns:
        moments = [name for name, dtype in rows.schema.items() if isinstance(dtype, pl.Datetime)]
        if len(moments) != 1:
            raise EntityTimestampInferenceException(TIME)
        (time,) = moments
    if not rows.schema[time].is_temporal():
        rows = rows.with_columns(as_times(rows[time], OF))
    utc(rows.schema, time, OF)
    require_times(rows, time, OF)
    return rows, time


def _frame(entity_df: Any) -> pl.DataFrame:
    """The entity dataframe in polars, which knows zones by their names: fixed offsets become UTC."""
    if isinstance(entity_df, pl.DataFrame):
        return entity_df
    if isinstance(entity_df, pl.LazyFrame):
        return entity_df.collect()
    if isinstance(entity_df, pd.DataFrame):
        if TIME in entity_df and entity_df[TIME].dtype == object:
            moments = from_objects(TIME, entity_df[TIME].tolist(), OF)
            rows = _frame(entity_df.drop(columns=TIME))
            return rows.insert_column(entity_df.columns.get_loc(TIME), moments)
        zones = {name: getattr(dtype, "tz", None) for name, dtype in entity_df.dtypes.items()}
        nameless = [name for name, zone in zones.items() if zone and not _name_of(zone)]
        return pl.from_pandas(entity_df.assign(**{name: entity_df[name].dt.tz_convert("UTC") for name in nameless}))
    if isinstance(entity_df, (pa.Table, pa.RecordBatch)):
        fields = [
            field.with_type(pa.timestamp(field.type.unit, "UTC"))
            if pa.types.is_timestamp(field.type) and (field.type.tz or "").startswith(("+", "-"))
            else field
            for field in entity_df.schema
        ]
        return cast(pl.DataFrame, pl.from_arrow(entity_df.cast(pa.schema(fields))))
    raise ValueError(
        "the polars offline store takes its entity rows as a pandas, polars or Arrow table, or None with a time "
        f"range, not as SQL or {type(entity_df).__name__}"
    )


def _name_of(zone: Any) -> str:
    """The name of a time zone of the standard library or of pytz; empty for an offset."""
    return getattr(zone, "key", None) or getattr(zone, "zone", None) or ("UTC" if zone is UTC else "")


def span_of(rows: pl.DataFrame, time: str = TIME) -> Span:
    """First and last moment at which the entity rows ask."""
    moments = rows.select(utc(rows.schema, time, OF)).to_series()
    return cast(Span, (moments.min(), moments.max()))


def visible(span: Span, ttl: timedelta | None) -> Span:
    """When rows happened that are in force at some moment of `span`: a TTL before it at most, any time without one."""
    return (span[0] - ttl if span[0] and ttl else None), span[1]


def requested(view: FeatureView, refs: Sequence[str], full_names: bool) -> dict[str, str]:
    """Feature -> its name in the result, for the features of `view` among `refs`."""
    owner = view.projection.name_to_use()
    own = [ref.split(":", 1)[1] for ref in refs if ref.split(":", 1)[0].removesuffix("@latest") == owner]
    return {feature: f"{owner}__{feature}" if full_names else feature for feature in own}


def entities_between(histories: Sequence[History], start: datetime, end: datetime) -> pl.DataFrame:
    """Every entity at every moment of `[start, end]` at which one of `histories` has a row for it."""
    frames = []
    for history in histories:
        rows = require(between(history, start, end)).drop_nulls([*history.keys])
        keys = (pl.col(own).alias(asking) for own, asking in history.keys.items())
        frames.append(rows.select(*keys, pl.col(history.time).alias(TIME)).unique())
    found = pl.concat(frames, how="diagonal_relaxed").unique().collect(engine="streaming")
    return found.sort(TIME, *sorted(set(found.columns) - {TIME}))


def answer(
    rows: pl.DataFrame, histories: Sequence[History], time: str, on_demand: Sequence[OnDemandFeatureView]
) -> Callable[[], pl.LazyFrame]:
    """The query that joins `histories` to the entity rows; what cannot be joined is refused at once."""
    for view in on_demand:
        for name in view.get_request_data_schema():
            if name not in rows.columns:
                raise RequestDataNotFoundInEntityDfException(feature_name=name, feature_view_name=view.name)
    asked, histories = _with_keys(rows, histories)
    columns = [*rows.columns, *(name for history in histories for name in history.features.values())]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise DataError(
            f"the result would have two columns {doubled[0]!r}: rename it in the entity rows, or ask with "
            "full_feature_names=True"
        )
    return lambda: point_in_time_join(asked, histories, time).lazy().select(columns)


def _with_keys(rows: pl.DataFrame, histories: Sequence[History]) -> tuple[pl.DataFrame, list[History]]:
    """The entity rows with a join key in the type of each history's own where the types differ."""
    added: dict[str, pl.Series] = {}
    aligned = []
    for place, history in enumerate(histories):
        schema = history.rows.collect_schema()
        keys = dict(history.keys)
        for own, asking in history.keys.items():
            if asking not in rows.columns:
                raise DataError(
                    f"feature view {history.name}: the entity rows have no join key {asking!r} (they have "
                    f"{', '.join(rows.columns)}). Add it, or rename the view's key with `with_join_key_map`."
                )
            if own in schema and schema[own] != rows.schema[asking]:
                keys[own] = f"__{place}_{own}"
                added[keys[own]] = matching(rows[asking], schema[own], of=f"feature view {history.name}")
        aligned.append(replace(history, keys=keys))
    rows = rows.with_columns(**added)
    return rows, [_only_asked(rows, history) for history in aligned]


def _only_asked(rows: pl.DataFrame, history: History) -> History:
    """`history` without the entities that few questions do not ask about: less to read, sort and hold."""
    if rows.height > _FEW:
        return history
    schema = history.rows.collect_schema()
    asked = [pl.col(own).is_in(rows[key].unique().implode()) for own, key in history.keys.items() if own in schema]
    return replace(history, rows=history.rows.filter(asked)) if asked else history
