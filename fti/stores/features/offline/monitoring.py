"""Feast's data-quality monitoring on the offline store: statistics of columns, and the files they are kept in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from feast.monitoring.monitoring_utils import (
    MONITORING_DIR,
    MONITORING_PARQUET_FILES,
    empty_categorical_metric,
    empty_numeric_metric,
    monitoring_parquet_meta,
    normalize_monitoring_row,
)
from feast.repo_config import RepoConfig

from fti.files import aside, file_lock
from fti.times import UTC_TIME

_QUANTILES = {"p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_MOMENT = UTC_TIME
_TYPES: dict[str, Any] = {
    **dict.fromkeys(["computed_at", "max_event_timestamp", "started_at", "completed_at"], _MOMENT),
    **dict.fromkeys(["row_count", "null_count", "total_row_count", "total_features"], pl.Int64),
    **dict.fromkeys(["features_with_nulls", "total_feature_views"], pl.Int64),
    **dict.fromkeys(["null_rate", "avg_null_rate", "max_null_rate", "mean", "stddev", *_QUANTILES], pl.Float64),
    **dict.fromkeys(["min_val", "max_val"], pl.Float64),
    "metric_date": pl.Date,
    "is_baseline": pl.Boolean,
}
"""Types of the columns that are no text."""


def metrics(
    rows: pl.LazyFrame, columns: Sequence[tuple[str, str]], *, histogram_bins: int, top_n: int
) -> list[dict[str, Any]]:
    """Feast's metrics of each (column, "numeric" or "categorical") that `rows` have; the rows stream through."""
    present = set(rows.collect_schema())
    kinds: dict[str, Callable[[str], dict[str, Any]]] = {
        "numeric": lambda name: _numeric(rows, name, histogram_bins),
        "categorical": lambda name: _categorical(rows, name, top_n),
    }
    return [kinds[kind](name) for name, kind in columns if name in present and kind in kinds]


def _numeric(rows: pl.LazyFrame, name: str, bins: int) -> dict[str, Any]:
    value = pl.col(name).cast(pl.Float64).fill_nan(None)
    found = rows.select(
        row_count=pl.len(),
        null_count=value.null_count(),
        mean=value.mean(),
        stddev=value.std(),
        min_val=value.min(),
        max_val=value.max(),
        **{quantile: value.quantile(share, "linear") for quantile, share in _QUANTILES.items()},
    )
    metric: dict[str, Any] = empty_numeric_metric(name) | found.collect(engine="streaming").row(0, named=True)
    metric["null_rate"] = metric["null_count"] / metric["row_count"] if metric["row_count"] else 0.0
    if metric["min_val"] is not None:
        metric["histogram"] = _histogram(rows.select(value=value), metric["min_val"], metric["max_val"], bins)
    return metric


def _histogram(values: pl.LazyFrame, low: float, high: float, bins: int) -> dict[str, Any]:
    """`bins` bins of equal width from `low` to `high`, the last one closed, as numpy makes them."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    width = (high - low) / bins
    place = ((pl.col("value") - low) / width).floor().clip(0, bins - 1).cast(pl.Int64)
    counted = values.drop_nulls().group_by(place.alias("bin")).len().collect(engine="streaming")
    counts = dict(counted.iter_rows())
    edges = [low + width * edge for edge in range(bins)] + [high]
    return {"bins": edges, "counts": [counts.get(number, 0) for number in range(bins)], "bin_width": width}


def _categorical(rows: pl.LazyFrame, name: str, top_n: int) -> dict[str, Any]:
    counted = rows.group_by(pl.col(name).alias("value")).agg(count=pl.len()).collect(engine="streaming")
    valid = counted.drop_nulls("value").sort(["count", "value"], descending=[True, False])
    total = int(counted["count"].sum())
    nulls = total - int(valid["count"].sum())
    metric: dict[str, Any] = empty_categorical_metric(name) | {"row_count": total, "null_count": nulls}
    metric["null_rate"] = nulls / total if total else 0.0
    if valid.height:
        rest = int(valid["count"][top_n:].sum())
        metric["histogram"] = {
            "values": valid.head(top_n).to_dicts(),
            "other_count": rest,
            "unique_count": valid.height,
        }
    return metric


# --- where metrics are kept: Parquet files beside the feature repository, as Feast's file stores keep them ----------


def ensure(config: RepoConfig) -> None:
    """Make the files that are missing, empty."""
    for kind in MONITORING_PARQUET_FILES:
        with _edited(config, kind) as (rows, write):
            if rows is None:
                write(_frame([], kind))


def save(config: RepoConfig, kind: str, records: Sequence[Mapping[str, Any]]) -> None:
    """Add `records` of `kind` (Feast's "feature", "feature_view", "job", ...) in place of those of the same keys."""
    _, _, keys = monitoring_parquet_meta(kind)
    with _edited(config, kind) as (rows, write):
        old = _frame([], kind) if rows is None else rows
        write(pl.concat([old, _frame(records, kind)]).unique(keys, keep="last", maintain_order=True))


def query(
    config: RepoConfig,
    kind: str,
    *,
    project: str,
    filters: Mapping[str, Any] | None = None,
    start: date | None = None,
    end: date | None = None,
) -> list[dict[str, Any]]:
    """The records of a project between two days, oldest first; an empty `project` is any."""
    path = _path(config, kind)
    rows = pl.read_parquet(path, glob=False) if path.exists() else _frame([], kind)
    wanted = {"project_id": project or None, **(filters or {})}
    rows = rows.filter(pl.col(name) == value for name, value in wanted.items() if value is not None)
    if start is not None:
        rows = rows.filter(pl.col("metric_date") >= start)
    if end is not None:
        rows = rows.filter(pl.col("metric_date") <= end)
    return [normalize_monitoring_row(record) for record in rows.sort("metric_date", maintain_order=True).to_dicts()]


def clear_baseline(config: RepoConfig, project: str, **columns: str | None) -> None:
    """No feature metric of `project` with these values is a baseline any more."""
    wanted = [pl.col(name) == value for name, value in {"project_id": project, **columns}.items() if value is not None]
    with _edited(config, "feature") as (rows, write):
        if rows is not None:
            write(rows.with_columns(is_baseline=pl.col("is_baseline") & ~pl.all_horizontal(wanted)))


@contextmanager
def _edited(config: RepoConfig, kind: str) -> Iterator[tuple[pl.DataFrame | None, Callable[[pl.DataFrame], None]]]:
    """The records of `kind`, if there are, and how to replace them; one process at a time, by a rename."""
    path = _path(config, kind)

    def write(rows: pl.DataFrame) -> None:
        with aside(path) as own:
            rows.write_parquet(own)

    with file_lock(path.with_name(f".{path.name}.lock")):
        yield (pl.read_parquet(path, glob=False) if path.exists() else None), write


def _path(config: RepoConfig, kind: str) -> Path:
    name: str = monitoring_parquet_meta(kind)[0]
    return Path(config.repo_path or ".") / str(MONITORING_DIR) / name


def _frame(records: Sequence[Mapping[str, Any]], kind: str) -> pl.DataFrame:
    _, columns, _ = monitoring_parquet_meta(kind)
    values = [{name: _flat(record.get(name)) for name in columns} for record in records]
    return pl.DataFrame(values, schema={name: _TYPES.get(name, pl.String) for name in columns})


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else value
