"""Histograms of a column: in which bins a feature's values lie, and how far two samples of it are apart.

A bin of numbers is one value or the open interval between two neighbouring ones, so what all rows share, the one
value of a constant or the zeros of a flag, is told apart from what lies just beside it. Missing values, NaN and the
infinite ones have bins of their own, as have numbers beyond the smallest and the largest that training had.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from fti.values import as_numbers, as_texts

NUM_QUANTILES = 63
MAX_CATEGORIES = 200
MIN_CATEGORY_ROWS = 5
"""Categories of fewer rows are counted together: which of them a sample has is chance."""

Bins = Mapping[str, Any]
"""`points`, the values between which numbers are counted, or `values`, the categories. References made by versions
before have `edges` in place of `points`."""


def bins_of(column: pl.Series, *, numeric: bool) -> dict[str, Any]:
    """Bins for numbers, at the quantiles of `column`, or for its frequent categories. JSON-able."""
    if not numeric:
        found = as_texts(column).drop_nulls().rename("value").value_counts()
        frequent = found.filter(pl.col("count") >= MIN_CATEGORY_ROWS).sort("count", "value", descending=[True, False])
        return {"values": frequent["value"].head(MAX_CATEGORIES).to_list()}
    numbers = _finite(column)
    if not len(numbers):
        return {"points": []}
    places = np.linspace(0, 1, NUM_QUANTILES + 2)
    return {"points": np.unique(np.quantile(numbers, places, method="inverted_cdf")).tolist()}


def counts(column: pl.Series, bins: Bins) -> np.ndarray:
    """Rows in each bin. The last one holds nulls.

    Of numbers: -infinity, below the first point, at it, between it and the next, ..., above the last one, infinity,
    NaN, null. Of categories: each of them, all others, null (NaN is null).
    """
    if "values" in bins:
        listed = pl.Series(bins["values"], dtype=pl.String)
        texts = as_texts(column)
        others = len(listed)
        found = texts.replace_strict(listed, range(others), default=others, return_dtype=pl.Int64)
        found = found.set(texts.is_null(), others + 1)
        return np.bincount(found.to_numpy(), minlength=others + 2)
    if "edges" in bins:
        return _counts_between(column, bins["edges"])
    numbers = as_numbers(column).drop_nulls().to_numpy()
    finite = numbers[np.isfinite(numbers)]
    points = bins["points"]
    place = np.searchsorted(points, finite, side="left") + np.searchsorted(points, finite, side="right")
    inner = np.bincount(place, minlength=2 * len(points) + 1)
    infinite = int((numbers == -np.inf).sum()), int((numbers == np.inf).sum()), int(np.isnan(numbers).sum())
    return np.concatenate([infinite[:1], inner, infinite[1:], [column.null_count()]])


def distance(difference: np.ndarray, bins: Bins) -> float:
    """Distance of two samples, between 0 and 1, from the `difference` of their shares in each bin.

    Of numbers the Kolmogorov-Smirnov distance, the largest difference of the cumulative shares; of categories the
    total variation, half of the summed differences.
    """
    if "values" in bins:
        return float(np.abs(difference).sum() / 2)
    return float(np.abs(np.cumsum(difference)).max())


def open_bins(bins: Bins, number: int) -> list[int]:
    """Places of the bins, of `number` in all, for values that training may not have had at all."""
    if "edges" in bins:
        return []
    return sorted({at % number for at in ([-2, -1] if "values" in bins else [0, 1, -4, -3, -2, -1])})


def outside(blocks: list[pl.Series], bins: Bins) -> list[float]:
    """Share of rows of each block whose value no other block has: a category, a missing one, or a number that lies
    beyond all others; [] of fewer than two blocks."""
    if len(blocks) < 2:
        return []
    table = np.array([counts(block, bins) for block in blocks])
    places = list(range(table.shape[1])) if "values" in bins else [0, -3, -2, -1]
    own = np.where(table == table.sum(0), table, 0)[:, places].sum(1)
    if "points" in bins:
        own = own + _beyond_others([_finite(block) for block in blocks])
    rows = np.array([max(len(block), 1) for block in blocks])
    shares: list[float] = (own / rows).tolist()
    return shares


def _beyond_others(blocks: list[np.ndarray]) -> np.ndarray:
    """Numbers of each block that lie below or above all numbers of the others."""
    least = np.array([block.min() if len(block) else np.inf for block in blocks])
    most = np.array([block.max() if len(block) else -np.inf for block in blocks])
    found = []
    for place, block in enumerate(blocks):
        others = np.arange(len(blocks)) != place
        found.append(int(((block < least[others].min()) | (block > most[others].max())).sum()))
    return np.array(found)


def _finite(column: pl.Series) -> np.ndarray:
    numbers = as_numbers(column).drop_nulls().to_numpy()
    found: np.ndarray = numbers[np.isfinite(numbers)]
    return found


def _counts_between(column: pl.Series, edges: list[float]) -> np.ndarray:
    """Of a reference made before there were points: intervals that hold their lower edge; NaN is null."""
    numbers = as_numbers(column).to_numpy()
    known = numbers[~np.isnan(numbers)]
    inner = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
    return np.append(inner, len(column) - len(known))
