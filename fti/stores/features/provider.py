"""Feast's `push`, `write_to_online_store` and `materialize` without a change of values on their way.

Feast's own provider takes rows to the online store through pandas and one protobuf per value: 1.5 becomes the whole
number 1, NaN a null, a null in a list a 0, a time loses its fraction of a second. Here whole columns go as they are to
a `PackedOnlineStore`, or are refused by name. What else a view may ask of Feast (transformations, types that only Feast
knows, another online or offline store) stays Feast's own way.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.feature_view import FeatureView
from feast.infra.passthrough_provider import PassthroughProvider
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from fti.errors import DataError
from fti.stores.features.materialization import newest_rows
from fti.stores.features.offline.store import PolarsOfflineStore
from fti.stores.features.online import keys
from fti.stores.features.online.packing import CREATED, EVENT
from fti.stores.features.online.store import PackedOnlineStore
from fti.stores.features.online.types import polars_type
from fti.times import utc
from fti.values import shown

BATCH_ROWS = 500_000
_EXACT = 2**53
"""Floats up to this tell all whole numbers apart."""


class ExactProvider(PassthroughProvider):  # type: ignore[misc]
    """`provider:` in `feature_store.yaml`; `local` means it where a `PackedOnlineStore` is configured."""

    def ingest_df(self, feature_view: Any, df: pd.DataFrame, field_mapping: dict[str, str] | None = None) -> None:
        """Write a frame of pandas online."""
        if not self._takes(feature_view):
            super().ingest_df(feature_view, df, field_mapping)
            return
        self.online_store.write(self.repo_config, feature_view, pushed(feature_view, df))

    async def ingest_df_async(
        self, feature_view: Any, df: pd.DataFrame, field_mapping: dict[str, str] | None = None
    ) -> None:
        """`ingest_df` in a thread."""
        await asyncio.to_thread(self.ingest_df, feature_view, df, field_mapping)

    def materialize_single_feature_view(
        self,
        config: RepoConfig,
        feature_view: Any,
        start_date: datetime,
        end_date: datetime,
        registry: BaseRegistry,
        project: str,
        tqdm_builder: Any,
        disable_event_timestamp: bool = False,
    ) -> None:
        """Bring the newest row of each entity in `[start_date, end_date]` online."""
        if disable_event_timestamp or not (self._takes(feature_view) and self._reads(feature_view)):
            super().materialize_single_feature_view(
                config,
                feature_view,
                start_date,
                end_date,
                registry,
                project,
                tqdm_builder,
                disable_event_timestamp,
            )
            return
        for rows in newest_rows(config, feature_view, start_date, end_date, BATCH_ROWS):
            self.online_store.write(config, feature_view, rows)

    def _takes(self, view: Any) -> bool:
        """Whether rows of `view` can be written as a frame."""
        return (
            isinstance(self.online_store, PackedOnlineStore)
            and isinstance(view, FeatureView)
            and view.batch_source is not None
            and all(polars_type(feature.dtype) is not None for feature in view.features)
        )

    def _reads(self, view: FeatureView) -> bool:
        """Whether `view` is what its source holds, nothing more."""
        more = ("feature_transformation", "aggregations", "source_views", "filter", "enable_validation")
        return (
            isinstance(self.offline_store, PolarsOfflineStore)
            and view.online
            and not view.offline
            and not any(getattr(view, name, None) for name in more)
            and self.repo_config.batch_engine_config in ("local", {"type": "local"})
        )


def pushed(view: FeatureView, df: pd.DataFrame) -> pl.DataFrame:
    """A frame of pandas in the columns that the online store writes; what is NaN there is missing, as pandas has it."""
    source, of = view.batch_source, f"feature view {view.name}"
    table = pa.Table.from_pandas(df, preserve_index=False)
    mapping = source.field_mapping or {}
    table = table.rename_columns([mapping.get(name, name) for name in table.column_names])
    rows = pl.DataFrame(pl.from_arrow(_in_utc(table)))
    names = [*(own.name for own in keys.entity_columns(view)), *(feature.name for feature in view.features)]
    time, made = (mapping.get(name, name) for name in (source.timestamp_field, source.created_timestamp_column))
    missing = [name for name in (*names, time, *([made] if made else [])) if name not in rows.columns]
    if missing:
        raise ValueError(f"{of}: Column {missing[0]} not found in table of {', '.join(rows.columns)}")
    times = [utc(rows.schema, time, of).alias(EVENT)]
    times.append(utc(rows.schema, made, of).alias(CREATED) if made else pl.lit(None, pl.Int64).alias(CREATED))
    rows = rows.select(*names, *times).with_columns(pl.col(EVENT, CREATED).cast(pl.Int64))
    if rows[EVENT].null_count():
        place = int(rows[EVENT].is_null().arg_true()[0])
        raise DataError(f"{of}: row {place} has no {time!r}, so nobody knows when it happened: fill it in, or drop it")
    _require_sure_integers(view, rows, of)
    return rows


def _in_utc(table: pa.Table) -> pa.Table:
    """`table` with times of fixed offsets, which polars does not know, in UTC."""
    fields = [
        field.with_type(pa.timestamp(field.type.unit, "UTC"))
        if pa.types.is_timestamp(field.type) and (field.type.tz or "").startswith(("+", "-"))
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _require_sure_integers(view: FeatureView, rows: pl.DataFrame, of: str) -> None:
    """Beside a missing value pandas makes whole numbers floats, and large ones may be others then."""
    for field in view.schema:
        name = field.name
        if str(field.dtype) not in ("Int32", "Int64") or name not in rows.columns or not rows.schema[name].is_float():
            continue
        large = (rows[name].abs() >= _EXACT).fill_null(False)
        if large.any():
            raise DataError(
                f"{of}: column {name!r} came as {rows.schema[name]}, in which "
                f"{shown(rows[name], int(large.arg_true()[0]))} "
                "may stand for several whole numbers: give it to pandas as dtype 'Int64', or as object"
            )
