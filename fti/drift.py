"""The drift decision's statistics: how far a window lies from the training data, against how far its own weeks did.

`reference` is made once, from the training split, and kept with the dataset. A numeric feature's distance is the
Kolmogorov-Smirnov distance of binned values (largest difference of the two cumulative shares; nulls are a bin of
their own), a categorical feature's is the total variation (half the summed difference of shares). The limit comes
from the distances that the training data's own weeks have, so a swing that the model has seen is not called drift.

How well a model does is judged by its `surprise`, against what its own probabilities promise, or by its RMSE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

NUM_BINS = 64
MAX_CATEGORIES = 200
BLOCK = "7d"
MIN_BLOCK_ROWS = 100
SMALLEST = 1e-6
"""Probabilities count as at least this, so that one sure error does not outweigh everything."""

Spec = Mapping[str, Any]
"""Histogram of one feature: `edges` or `values`, `shares`, and `block_distances` of the training weeks."""


def reference(
    frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str], time: str = "event_timestamp"
) -> dict[str, Any]:
    """Histogram of every feature, and the distances that the weeks of `frame` have from the whole. JSON-able."""
    blocks = _blocks(frame, time)
    features: dict[str, Any] = {}
    for name in [*numeric, *categorical]:
        bins = {"edges": _quantile_edges(frame[name])} if name in numeric else {"values": _categories(frame[name])}
        spec = {**bins, "shares": shares(frame[name], bins).tolist()}
        spec["block_distances"] = sorted(distance(block[name], spec) for block in blocks)
        features[name] = spec
    return {"rows": frame.height, "blocks": len(blocks), "features": features}


def compare(
    frame: pl.DataFrame, reference: Mapping[str, Any], *, quantile: float = 1.0, factor: float = 1.0
) -> pl.DataFrame:
    """Every feature's distance from `reference`: columns feature, distance, limit, drifted; most drifted first.

    The limit is `factor` times the `quantile` of the training weeks' own distances, and never below what a sample of
    this size shows by chance (the 1 % point of the two-sample Kolmogorov-Smirnov statistic).
    """
    chance = 1.63 * np.sqrt(1 / max(frame.height, 1) + 1 / max(reference["rows"], 1))
    rows = []
    for name, spec in reference["features"].items():
        own = spec["block_distances"]
        limit = max(factor * float(np.quantile(own, quantile)) if own else 0.0, float(chance))
        rows.append((name, distance(frame[name], spec), limit))
    table = pl.DataFrame(rows, schema={"feature": pl.String, "distance": pl.Float64, "limit": pl.Float64}, orient="row")
    return table.with_columns(drifted=pl.col("distance") > pl.col("limit")).sort(
        pl.col("distance") / pl.col("limit"), descending=True
    )


def shares(values: pl.Series, spec: Spec) -> np.ndarray:
    """Share of rows in each bin of `spec`; the last bin holds nulls (and, of categories, all that are not listed)."""
    if "edges" in spec:
        numbers = values.cast(pl.Float64).to_numpy()
        known = numbers[~np.isnan(numbers)]
        counts = np.bincount(np.searchsorted(spec["edges"], known, side="right"), minlength=len(spec["edges"]) + 1)
    else:
        listed = pl.Series(spec["values"], dtype=pl.String)
        found = values.cast(pl.String).replace_strict(listed, range(len(listed)), default=None, return_dtype=pl.Int64)
        known = found.drop_nulls().to_numpy()
        counts = np.bincount(known, minlength=len(listed))
    share: np.ndarray = np.append(counts, len(values) - len(known)) / max(len(values), 1)
    return share


def distance(values: pl.Series, spec: Spec) -> float:
    """Distance of `values` from the histogram `spec`, between 0 and 1."""
    difference = shares(values, spec) - np.asarray(spec["shares"])
    if "edges" in spec:
        return float(np.abs(np.cumsum(difference)).max())
    return float(np.abs(difference).sum() / 2)


def class_probabilities(predicted: np.ndarray) -> np.ndarray:
    """Probabilities [rows, classes] of a classifier; a binary one's [rows] are those of the second class."""
    return np.column_stack([1 - predicted, predicted]) if predicted.ndim == 1 else predicted


def class_codes(labels: Sequence[Any] | np.ndarray, classes: Sequence[Any]) -> np.ndarray:
    """Places of the labels in `classes`, -1 for one that is not there."""
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(label, -1) for label in labels], np.int64)


def surprise(probabilities: np.ndarray, codes: np.ndarray, smallest: float = SMALLEST) -> np.ndarray:
    """Log loss of each row of `probabilities` [rows, classes]; a class that the model does not know has none."""
    chosen = np.where(codes < 0, 0.0, probabilities[np.arange(len(codes)), codes])
    found: np.ndarray = -np.log(chosen.clip(smallest, 1 - smallest))
    return found


def expected_surprise(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (their entropy) and variance of each row's log loss, were the probabilities true."""
    p = probabilities.clip(SMALLEST, 1 - SMALLEST)
    logarithms = np.log(p)
    entropy = -(p * logarithms).sum(1)
    return entropy, np.maximum((p * logarithms**2).sum(1) - entropy**2, 0.0)


def error_between_days(values: np.ndarray, moments: pl.Series) -> float:
    """Standard error of the mean of `values`, taken from how its days differ: rows of one day are not independent."""
    rows = pl.DataFrame({"day": moments.dt.date(), "value": values - values.mean()})
    days = rows.group_by("day").agg(pl.col("value").sum())["value"].to_numpy()
    return float(np.sqrt((days**2).sum() * len(days) / max(len(days) - 1, 1)) / len(values))


def rmse_with_error(errors: np.ndarray, moments: pl.Series) -> tuple[float, float]:
    """Root mean squared error, and its standard error: the larger of rows' and days'."""
    squares = errors**2
    rmse = float(np.sqrt(squares.mean()))
    spread = max(float(squares.std()) / np.sqrt(len(squares)), error_between_days(squares, moments))
    return rmse, float(spread / (2 * rmse)) if rmse else 0.0


def _blocks(frame: pl.DataFrame, time: str) -> list[pl.DataFrame]:
    weeks = frame.with_columns(__week=pl.col(time).dt.truncate(BLOCK)).partition_by("__week", include_key=False)
    return [week for week in weeks if week.height >= MIN_BLOCK_ROWS]


def _quantile_edges(values: pl.Series) -> list[float]:
    numbers = values.cast(pl.Float64).drop_nulls().to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return []
    edges: list[float] = np.unique(np.quantile(numbers, np.linspace(0, 1, NUM_BINS + 1)[1:-1])).tolist()
    return edges


def _categories(values: pl.Series) -> list[str]:
    counts = values.cast(pl.String).drop_nulls().value_counts(sort=True).head(MAX_CATEGORIES)
    listed: list[str] = counts.to_series(0).to_list()
    return listed
