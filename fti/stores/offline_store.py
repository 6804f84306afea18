"""A Feast offline store on polars, named in `feature_store.yaml` by its path.

It reads `FileSource`s of Parquet: a file, a folder or a glob; a relative path lies below the configured `root`. Where
Feast's own file stores drop or reorder rows, a join here answers every entity row, duplicates too, in its order.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import polars as pl
import pyarrow as pa
from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.infra.offline_stores.file_source import FileSource, SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig

from fti.errors import DataError, NotReadyError
from fti.stores.point_in_time import History, aware, between, latest, point_in_time_join, require, utc

TIME = "event_timestamp"


class PolarsOfflineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`offline_store:` in `feature_store.yaml`."""

    type: Literal["fti.stores.offline_store.PolarsOfflineStore"] = "fti.stores.offline_store.PolarsOfflineStore"
    root: str = "."
    """Folder that relative source paths start from: the lake."""


class PolarsRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """A query that runs when its result is asked for."""

    def __init__(
        self,
        query: Callable[[], pl.DataFrame],
        *,
        metadata: RetrievalMetadata | None = None,
        on_demand: list[OnDemandFeatureView] | None = None,
        full_names: bool = False,
    ) -> None:
        self._query = query
        self._metadata = metadata
        self._on_demand = on_demand or []
        self._full_names = full_names

    @property
    def full_feature_names(self) -> bool:
        return self._full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def to_polars(self) -> pl.DataFrame:
        """The result as a polars frame; on-demand feature views are run by Feast on Arrow."""
        return pl.DataFrame(self.to_arrow()) if self._on_demand else self._query()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._query().to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._query().to_arrow()

    def persist(
        self, storage: SavedDatasetFileStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Write the result to the Parquet file of `storage`."""
        path = Path(storage.file_options.uri)
        if path.exists() and not allow_overwrite:
            raise DataError(f"{path} exists already: choose another path or allow overwriting")
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self.to_polars().write_parquet(aside)
        os.replace(aside, path)


class PolarsOfflineStore(OfflineStore):  # type: ignore[misc]
    """Feast's offline store interface on polars; known-at joins are always on where a source has a creation time."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | pl.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **_: Any,
    ) -> PolarsRetrievalJob:
        """`entity_df` (pandas or polars) with its features as known at its `event_timestamp`."""
        rows = entity_frame(entity_df)
        span = span_of(rows)
        histories = [
            history_of(
                config, view, names=_features(view, feature_refs, full_feature_names), span=visible(span, view.ttl)
            )
            for view in feature_views
        ]
        return PolarsRetrievalJob(
            lambda: point_in_time_join(rows, histories, TIME),
            metadata=RetrievalMetadata(feature_refs, [name for name in rows.columns if name != TIME], *span),
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
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
        start_date: datetime,
        end_date: datetime,
    ) -> PolarsRetrievalJob:
        """The newest row of each entity with `start_date <= time <= end_date`."""
        history = _history(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column
        )
        return PolarsRetrievalJob(lambda: latest(between(history, start_date, end_date)).collect())

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
        """Every row with `start_date <= time <= end_date`."""
        history = _history(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column
        )
        return PolarsRetrievalJob(lambda: require(between(history, start_date, end_date)).collect())

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """A source may be declared before its first rows exist, so only its kind is checked."""
        _file_source(data_source)


Span = tuple[datetime | None, datetime | None]
"""First and last moment, both included; none is open."""


def span_of(rows: pl.DataFrame) -> Span:
    """First and last moment at which the entity rows ask."""
    moments = rows.select(utc(rows.schema, TIME)).to_series()
    return cast(Span, (moments.min(), moments.max()))


def visible(span: Span, ttl: timedelta | None) -> Span:
    """When rows happened that are in force at some moment of `span`: a TTL before it at most, any time without one."""
    return (span[0] - ttl if span[0] and ttl else None), span[1]


def history_of(
    config: RepoConfig,
    view: FeatureView,
    *,
    names: dict[str, str],
    span: Span = (None, None),
) -> History:
    """The history of a feature view, in the view's own column names, from the files that `span` touches."""
    source = _file_source(view.batch_source)
    mapping = source.field_mapping
    rows = scan(config, source, *span)
    present = rows.collect_schema()
    asking = view.projection.join_key_map
    return History(
        name=view.name,
        rows=rows.rename({old: new for old, new in mapping.items() if old in present}),
        keys={entity.name: asking.get(entity.name, entity.name) for entity in view.entity_columns},
        features=names,
        time=mapping.get(source.timestamp_field, source.timestamp_field),
        created=mapping.get(source.created_timestamp_column, source.created_timestamp_column) or None,
        ttl=view.ttl or timedelta(0),
    )


def scan(config: RepoConfig, source: FileSource, start: datetime | None, end: datetime | None) -> pl.LazyFrame:
    """The rows of `source`. Files named by a UTC day (`2013-01-31.parquet`) outside `[start, end]` are not opened."""
    path = Path(source.path)
    if "://" in source.path:
        return pl.scan_parquet(source.path)
    path = path if path.is_absolute() else _root(config) / path
    if not path.is_dir():
        if not path.exists() and not any(mark in source.path for mark in "*?["):
            raise NotReadyError(f"{path}: no rows yet. Materialize the project's features first.")
        return pl.scan_parquet(path)
    files = sorted(name for name in os.listdir(path) if name.endswith(".parquet"))
    if not files:
        raise NotReadyError(f"{path}: no rows yet. Materialize the project's features first.")
    first = aware(start).date().isoformat() if start else ""
    last = aware(end).date().isoformat() if end else "~"
    chosen = [name for name in files if not name[:1].isdigit() or first <= name[:10] <= last]
    return pl.scan_parquet([path / name for name in chosen]) if chosen else pl.scan_parquet(path / files[0]).head(0)


def entity_frame(entity_df: pd.DataFrame | pl.DataFrame | str | None) -> pl.DataFrame:
    """The entity dataframe as a polars frame."""
    if entity_df is None or isinstance(entity_df, str):
        raise ValueError("the polars offline store takes its entity rows as a pandas or polars frame, not as SQL")
    rows = entity_df if isinstance(entity_df, pl.DataFrame) else pl.from_pandas(entity_df)
    if TIME not in rows.columns:
        raise ValueError(f"the entity rows need a column {TIME!r}, the moment at which features are asked for")
    return rows


def _features(view: FeatureView, refs: list[str], full_names: bool) -> dict[str, str]:
    name = view.projection.name_to_use()
    own = [feature for owner, feature in (ref.split(":", 1) for ref in refs) if owner == name]
    return {feature: f"{name}__{feature}" if full_names else feature for feature in own}


def _history(
    config: RepoConfig,
    source: DataSource,
    keys: list[str],
    features: list[str],
    time: str,
    created: str | None,
) -> History:
    rows = scan(config, _file_source(source), None, None)
    same = dict(zip(features, features, strict=True))
    return History(
        name=source.name,
        rows=rows,
        keys=dict(zip(keys, keys, strict=True)),
        features=same,
        time=time,
        created=created or None,
    )


def _file_source(source: DataSource | None) -> FileSource:
    if not isinstance(source, FileSource):
        raise DataError(f"the polars offline store reads FileSource, not {type(source).__name__}")
    return source


def _root(config: RepoConfig) -> Path:
    root = Path(config.offline_store.root)
    return root if root.is_absolute() or config.repo_path is None else Path(config.repo_path) / root
