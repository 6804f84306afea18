"""The drift decision's statistics: how far a window lies from the training data, against how far its own weeks did.

`reference` is made once, from the training split, and kept with the dataset. A numeric feature's distance is the
Kolmogorov-Smirnov distance of binned values (largest difference of the two cumulative shares; nulls are a bin of
their own), a categorical feature's is the total variation (half the summed difference of shares). The limit comes
from the distances that the training data's own weeks have, so a swing that the model has seen is not called drift.
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


def _blocks(frame: pl.DataFrame, time: str) -> list[pl.DataFrame]:
    weeks = frame.with_columns(__week=pl.col(time).dt.truncate(BLOCK)).partition_by("__week", include_key=False)
    return [week for week in weeks if week.height >= MIN_BLOCK_ROWS]


def _quantile_edges(values: pl.Series) -> list[float]:
    numbers = values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    if not len(numbers):
        return []
    edges: list[float] = np.unique(np.quantile(numbers, np.linspace(0, 1, NUM_BINS + 1)[1:-1])).tolist()
    return edges


def _categories(values: pl.Series) -> list[str]:
    counts = values.cast(pl.String).drop_nulls().value_counts(sort=True).head(MAX_CATEGORIES)
    listed: list[str] = counts.to_series(0).to_list()
    return listed
