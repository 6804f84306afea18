"""Distribution statistics of tables: by column for a whole frame, by day for Dagster's plots over partitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl

NUM_BINS = 24
NUM_TOP = 6
TAILS = (0.005, 0.995)
"""Quantiles between which a histogram has its bins."""
QUARTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}


@dataclass(frozen=True, kw_only=True)
class ColumnProfile:
    """What one column holds. Numbers and times have `histogram`, text has `top`; the rest has counts only."""

    name: str
    dtype: str
    num_rows: int
    num_nulls: int
    statistics: dict[str, Any] = field(default_factory=dict)
    """`mean`, `std`, `min`, `q25`, `median`, `q75`, `max` of a numeric column that has values; the least and the
    largest of whole numbers and decimals are exact, the others are floats."""
    histogram: tuple[int, ...] = ()
    """Rows in bins of equal width."""
    edges: tuple[Any, Any] | None = None
    """Where the first bin begins and the last one ends; of times the first and the last."""
    top: tuple[tuple[str, int], ...] = ()
    """Most frequent values with their rows."""
    num_unique: int | None = None

    @property
    def null_share(self) -> float:
        return self.num_nulls / self.num_rows if self.num_rows else 0.0


def profile(rows: pl.DataFrame, columns: Sequence[str] | None = None) -> list[ColumnProfile]:
    """A profile of every column, or of `columns`."""
    return [_profile(rows[name]) for name in columns or rows.columns]


def by_partition(rows: pl.DataFrame, begins: pl.Expr) -> dict[date, dict[str, float]]:
    """First day of a partition, as `begins` tells it -> rows, the share of nulls over all columns, and the mean of
    every numeric column that has one."""
    if not rows.height:
        return {}
    numeric = [name for name, dtype in rows.schema.items() if dtype.is_numeric()]
    found = (
        rows.group_by(begins.alias("__day"))
        .agg(
            pl.len().alias("__rows"),
            (pl.sum_horizontal(pl.all().null_count()) / (pl.len() * rows.width)).alias("__nulls"),
            *(pl.col(name).mean().cast(pl.Float64).fill_nan(None) for name in numeric),
        )
        .sort("__day")
    )
    return {
        row["__day"]: {"num_rows": row["__rows"], "null_share": row["__nulls"]}
        | {f"mean_{name}": row[name] for name in numeric if row[name] is not None}
        for row in found.iter_rows(named=True)
    }


def _profile(values: pl.Series) -> ColumnProfile:
    known = values.drop_nulls()
    plain = ColumnProfile(
        name=values.name, dtype=str(values.dtype), num_rows=len(values), num_nulls=len(values) - len(known)
    )
    if values.dtype.is_numeric():
        found = _numbers(known.cast(pl.Float64).drop_nans())
        if len(known) and not values.dtype.is_float():
            found["statistics"] |= {"min": known.min(), "max": known.max()}
        return replace(plain, **found)
    if isinstance(values.dtype, pl.Datetime) and len(known):
        histogram, _ = _histogram(known.dt.epoch("us").cast(pl.Float64).to_numpy())
        return replace(plain, histogram=tuple(histogram.tolist()), edges=(known.min(), known.max()))
    if values.dtype == pl.String or values.dtype == pl.Boolean or isinstance(values.dtype, pl.Categorical | pl.Enum):
        return replace(plain, **_texts(known))
    return plain


def _numbers(values: pl.Series) -> dict[str, Any]:
    """Statistics of all values; the histogram of those that are finite."""
    if not len(values):
        return {}
    statistics = {name: _float(values.quantile(share, "linear")) for name, share in QUARTILES.items()}
    statistics = {"mean": _float(values.mean()), "std": _float(values.std()), **statistics}
    finite = values.filter(values.is_finite())
    if not len(finite):
        return {"statistics": statistics}
    histogram, edges = _histogram(finite.to_numpy())
    return {"statistics": statistics, "histogram": tuple(histogram.tolist()), "edges": edges}


def _histogram(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Rows in `NUM_BINS` bins, and their edges. Values beyond `TAILS` are counted in the outermost bins: a few far
    ones would leave the others no room. One bin when there is no width to divide."""
    low, high = (float(edge) for edge in np.quantile(values, TAILS, method="nearest"))
    with np.errstate(over="ignore"):
        width = (high - low) / NUM_BINS
    if not np.isfinite(width) or low + width == low or high - width == high:
        return np.array([len(values)]), (low, high)
    places = np.clip((np.clip(values, low, high) - low) / width, 0, NUM_BINS - 1).astype(np.int64)
    return np.bincount(places, minlength=NUM_BINS), (low, high)


def _texts(values: pl.Series) -> dict[str, Any]:
    counted = values.cast(pl.String).value_counts().sort("count", values.name, descending=[True, False])
    return {"top": tuple(counted.head(NUM_TOP).iter_rows()), "num_unique": counted.height}


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
