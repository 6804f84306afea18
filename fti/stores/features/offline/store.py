"""A Feast offline store on polars, named in `feature_store.yaml` by its path.

It reads `FileSource`s of Parquet: a file, a folder, partitions or a glob, here or on S3. Where Feast's own file stores
drop or reorder rows, a join here answers every entity row, duplicates too, in its order; see docs/offline-store.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import DataSource
from feast.errors import FeastJoinKeysDuringMaterialization
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import compute_non_entity_date_range

from fti.errors import DataError
from fti.storage.reading import settled
from fti.stores.features.offline import monitoring as offline_monitoring
from fti.stores.features.offline.entities import answer, entities_between, entity_frame, requested, span_of, visible
from fti.stores.features.offline.history import Span, cut, history_of, newest
from fti.stores.features.offline.job import PolarsRetrievalJob, Query
from fti.stores.features.offline.point_in_time import History
from fti.stores.features.offline.source import file_source, place, place_of, small
from fti.times import AHEAD, UTC_TIME, as_times, last_moment, require_text_times, utc

__all__ = ["PolarsOfflineStore", "PolarsOfflineStoreConfig", "PolarsRetrievalJob", "history_of"]


class PolarsOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`offline_store:` in `feature_store.yaml`."""

    type: Literal["fti.stores.features.offline.store.PolarsOfflineStore"] = (
        "fti.stores.features.offline.store.PolarsOfflineStore"
    )
    root: str | None = None
    """A lake: relative source paths start here, and its files named by a UTC day hold that day's rows alone.

    Without one, relative paths start from the feature repository, as in Feast's own file store.
    """
    known_at: bool = True
    """With a `created_timestamp_column`, a row counts only from that moment on."""


class PolarsOfflineStore(OfflineStore):  # type: ignore[misc]
    """Feast's offline store interface on polars."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pl.DataFrame | pl.LazyFrame | pa.Table | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        *,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        filter_by_created_timestamp: bool = False,
    ) -> PolarsRetrievalJob:
        """`entity_df` with its features as known at its event timestamp.

        Without entity rows: every entity at every moment of `[start_date, end_date]` at which a view has a row for it.
        """
        known_at = config.offline_store.known_at or filter_by_created_timestamp
        names = {
            view.projection.name_to_use(): requested(view, feature_refs, full_feature_names) for view in feature_views
        }
        open_views = partial(_histories, config, feature_views, names, known_at=known_at)
        if entity_df is None:
            start, end = compute_non_entity_date_range(feature_views, start_date=start_date, end_date=end_date)
            entity_df = settled(lambda: entities_between(open_views((start, end)), start, end))
        rows, time = entity_frame(entity_df)
        span = span_of(rows, time)
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        return PolarsRetrievalJob(
            config,
            lambda: answer(rows, open_views(span), time, on_demand),
            sources=[view.batch_source for view in feature_views],
            metadata=RetrievalMetadata(feature_refs, [name for name in rows.columns if name != time], *span),
            on_demand=on_demand,
            full_names=full_feature_names,
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """The newest row of each entity with `start_date <= time <= end_date`."""
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        pulled = partial(_pulled, config, data_source, join_key_columns, feature_name_columns, times)

        def open_query() -> Query:
            rows = pulled((start_date, end_date)).drop_nulls([*join_key_columns, timestamp_field])
            return lambda: _keyed(newest(rows, join_key_columns, times).lazy(), join_key_columns)

        return PolarsRetrievalJob(config, open_query, sources=[data_source])

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> PolarsRetrievalJob:
        """Every row with `start_date <= time <= end_date` as it is stored, in file order."""
        times = [timestamp_field, *([created_timestamp_column] if created_timestamp_column else [])]
        pulled = partial(_pulled, config, data_source, join_key_columns, feature_name_columns, times)

        def open_query() -> Query:
            rows = pulled((start_date, end_date))
            return lambda: _keyed(rows, join_key_columns)

        return PolarsRetrievalJob(config, open_query, sources=[data_source])

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Append `table`, which has the source's columns in their order, under their own or the view's names."""
        source = file_source(feature_view.batch_source)
        where = place_of(config, source)
        schema, mapping = where.arrow_schema, source.field_mapping or {}
        reverse = {new: old for old, new in mapping.items()}
        table = table.rename_columns([reverse.get(name, name) for name in table.column_names])
        if schema.names != table.column_names:
            raise ValueError(
                f"feature view {feature_view.name}: the rows have the columns {table.column_names}, its source has "
                f"{schema.names}. Give these, in this order."
            )
        times = [reverse.get(name, name) for name in (source.timestamp_field, source.created_timestamp_column) if name]
        where.add(_dated(table, schema, times, feature_view.name).cast(schema), times[0])
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Append the log to its folder, as files of their own."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise DataError(f"features are logged to FileLoggingDestination, not {type(destination).__name__}")
        table = pq.read_table(data) if isinstance(data, Path) else data
        folder = place(config, destination.path, endpoint=destination.s3_endpoint_override)
        folder.add_files(table, partition_by=destination.partition_by or ())

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """A source may be declared before its first rows exist; what cannot be read at all is refused."""
        file_source(data_source)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """Columns of the source with the names of their Arrow types."""
        schema = place_of(config, data_source).arrow_schema
        return [(name, str(small(dtype))) for name, dtype in zip(schema.names, schema.types, strict=True)]

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: DataSource,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """Statistics of the rows between two moments, one record per feature."""
        span = start_date, end_date
        rows = cut(place_of(config, data_source).scan(*span), timestamp_field, *span)
        return offline_monitoring.metrics(rows, feature_columns, histogram_bins=histogram_bins, top_n=top_n)

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: DataSource, timestamp_field: str
    ) -> datetime | None:
        """When the newest row happened, not counting rows ahead of the clock; none while there is no row."""
        where = place_of(config, data_source)
        rows = where.scan() if where.files else pl.LazyFrame(schema={timestamp_field: UTC_TIME})
        time = utc(rows.collect_schema(), timestamp_field, data_source.path)
        newest_row = rows.select(time.filter(time <= last_moment(AHEAD)).max()).collect(engine="streaming")
        return cast(datetime | None, newest_row.item())

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        offline_monitoring.ensure(config)

    @staticmethod
    def save_monitoring_metrics(config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]) -> None:
        offline_monitoring.save(config, metric_type, metrics)

    @staticmethod
    def query_monitoring_metrics(
        config: RepoConfig,
        project: str,
        metric_type: str,
        filters: dict[str, Any] | None = None,
        start_date: date | None = None,
        end_date: date | None = None,
    ) -> list[dict[str, Any]]:
        return offline_monitoring.query(
            config, metric_type, project=project, filters=filters, start=start_date, end=end_date
        )

    @staticmethod
    def clear_monitoring_baseline(
        config: RepoConfig,
        project: str,
        feature_view_name: str | None = None,
        feature_name: str | None = None,
        data_source_type: str | None = None,
    ) -> None:
        columns = {"feature_view_name": feature_view_name, "feature_name": feature_name}
        offline_monitoring.clear_baseline(config, project, **columns, data_source_type=data_source_type)


def _histories(
    config: RepoConfig, views: list[FeatureView], names: dict[str, dict[str, str]], span: Span, *, known_at: bool
) -> list[History]:
    return [
        history_of(
            config, view, names=names[view.projection.name_to_use()], span=visible(span, view.ttl), known_at=known_at
        )
        for view in views
    ]


def _pulled(
    config: RepoConfig, data_source: DataSource, keys: list[str], features: list[str], times: list[str], span: Span
) -> pl.LazyFrame:
    """The rows of `span`, with the keys, features and times (UTC), or with all columns where no feature is named."""
    rows = place_of(config, data_source).scan(*span)
    schema = rows.collect_schema()
    if not set(keys) <= set(schema):
        raise FeastJoinKeysDuringMaterialization(data_source.path, set(keys), set(schema))
    columns = list(dict.fromkeys([*keys, *features, *times])) if features else list(schema)
    missing = [name for name in [*columns, *times] if name not in schema]
    if missing:
        raise DataError(
            f"{data_source.path} has no column {missing[0]!r} (it has {', '.join(schema)}): correct the view"
        )
    require_text_times(rows, times, data_source.path)
    rows = cut(rows.select(columns), times[0], *span, of=data_source.path)
    return rows.with_columns(utc(schema, name, data_source.path) for name in times)


def _dated(table: pa.Table, schema: pa.Schema, columns: list[str], view: str) -> pa.Table:
    """`table`, whose time columns have the types of `schema`; DataError when one of them holds no times."""
    for name in columns:
        values = pl.Series(name, pl.from_arrow(table.column(name)))
        moments = as_times(values, f"rows for feature view {view}")
        if table.schema.field(name).type != schema.field(name).type:
            place = table.column_names.index(name)
            table = table.set_column(place, schema.field(name), moments.to_arrow().cast(schema.field(name).type))
    return table


def _keyed(rows: pl.LazyFrame, keys: list[str]) -> pl.LazyFrame:
    """`rows`, with the key that Feast gives to a view without entities."""
    return rows if keys else rows.with_columns(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
