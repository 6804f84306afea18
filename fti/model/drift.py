"""The drift decision's statistics: how far a window lies from the training data, against how far its own weeks did.

`reference` is made once, from the training split, and kept with the dataset: a histogram of every feature, and how far
its own weeks lie from it, so a swing that the model has seen is not called drift. A window is asked two things of each
feature: is it spread otherwise (`fti.model.histogram.distance`), and how many of its rows hold what training never had
(a number beyond its range, NaN, infinity, null, a new category)? Neither limit is below what chance alone shows in
samples of these sizes.

How well a model does is judged by its `log_losses`, against what its own probabilities promise, or by its RMSE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from fti.model import histogram
from fti.times import TIME

BLOCK = "7d"
MIN_BLOCK_ROWS = 100
DEVIATIONS = 3.9
"""A share that lies this many standard deviations off, at any of all cuts, does so by chance in a window of 1,000."""
SMALLEST_SHARE = 0.005
"""What fewer rows do is no drift, however surely it is no chance."""
SPREAD, NEW = "spread", "new values"
COLUMNS = {
    "feature": pl.String,
    "distance": pl.Float64,
    "limit": pl.Float64,
    "drifted": pl.Boolean,
    "of": pl.String,
}
SMALLEST = 1e-6
"""Probabilities count as at least this, so that one sure error does not outweigh everything."""

Spec = Mapping[str, Any]
"""One feature: its bins and their `shares` in training; of each training week its distance from the whole
(`block_distances`) and the share of its rows that no other week has alike (`block_outside`), which references of
versions before lack."""


def reference(
    frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str], time: str = TIME
) -> dict[str, Any]:
    """Histogram of every feature, and the distances that the weeks of `frame` have from the whole. JSON-able.

    Neighbouring weeks of fewer than 100 rows count as one.
    """
    blocks = _blocks(frame, time)
    features: dict[str, Any] = {}
    for name in [*numeric, *categorical]:
        own = [block[name] for block in blocks]
        spec = histogram.bins_of(frame[name], numeric=name in numeric)
        spec["shares"] = (histogram.counts(frame[name], spec) / max(frame.height, 1)).tolist()
        spec["block_distances"] = [distance(values, spec) for values in own]
        spec["block_outside"] = histogram.outside(own, spec)
        features[name] = spec
    rows = [block.height for block in blocks]
    return {"rows": frame.height, "blocks": len(blocks), "block_rows": rows, "features": features}


def compare(
    frame: pl.DataFrame, reference: Mapping[str, Any], *, quantile: float = 1.0, factor: float = 1.0
) -> pl.DataFrame:
    """Every feature's distance from `reference`: columns feature, distance, limit, drifted, of; most drifted first.

    `of` says what `distance` tells: how far the values are spread otherwise, or the share of rows whose value training
    never had, whichever is further over its limit. The limit is `factor` times the `quantile` of what the training
    weeks had, but at least what two samples of these sizes show by chance (once in 1,000), and half a percent.
    """
    rows = [(name, *_furthest(frame[name], spec, reference, quantile, factor)) for name, spec in _features(reference)]
    table = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    return table.sort(pl.col("distance") / pl.col("limit"), descending=True, maintain_order=True)


def distance(values: pl.Series, spec: Spec) -> float:
    """Distance of `values` from the histogram `spec`, between 0 and 1."""
    shares = histogram.counts(values, spec) / max(len(values), 1)
    return histogram.distance(_joined(shares, spec) - np.asarray(spec["shares"]), spec)


def _features(reference: Mapping[str, Any]) -> list[tuple[str, Spec]]:
    return list(reference["features"].items())


def _furthest(
    values: pl.Series, spec: Spec, reference: Mapping[str, Any], quantile: float, factor: float
) -> tuple[float, float, bool, str]:
    """Distance, limit, whether it is over, and of what: the one of both that is further over its limit."""
    rows, known_rows = max(len(values), 1), max(reference["rows"], 1)
    known = np.asarray(spec["shares"])
    shares = _joined(histogram.counts(values, spec) / rows, spec)
    pooled = (shares * rows + known * known_rows) / (rows + known_rows)
    far = histogram.distance(shares - known, spec)
    weeks = _weeks(spec, reference, known, rows)
    limits = [(far, max(_quantile(weeks, quantile, factor), chance(pooled, spec, rows, known_rows)), SPREAD)]
    if (share := sum(float(shares[at]) for at in histogram.open_bins(spec, len(shares)) if not known[at])) > 0:
        by_chance = chance_of_new(rows, known_rows)
        limits.append((share, max(_quantile(spec.get("block_outside", []), quantile, factor), by_chance), NEW))
    found, limit, of = max(limits, key=lambda one: one[0] / one[1])
    return found, limit, found > limit, of


def chance(shares: np.ndarray, bins: histogram.Bins, rows: int, known_rows: int) -> float:
    """What the distance of two samples of one distribution stays below, but for one pair in 1,000.

    Numbers: the cumulative share at the cut that varies most, at all cuts at once, which is the Kolmogorov-Smirnov
    limit (1.95) where half of the rows lie below one of the cuts. Categories: the total variation that these `shares`
    have on average, and four standard deviations.
    """
    scale = 1 / rows + 1 / known_rows
    if "values" in bins:
        variances = shares * (1 - shares) * scale
        several = max(int((shares > 0).sum()), 2)
        deviation = np.sqrt((1 - 2 / np.pi) * variances.sum() * several / (several - 1)) / 2
        found = expected(shares, bins, scale) + 4 * deviation
    else:
        below = np.cumsum(shares).clip(0, 1)
        found = DEVIATIONS * np.sqrt((below * (1 - below)).max() * scale)
    return max(float(found) + 1 / rows, SMALLEST_SHARE)


def expected(shares: np.ndarray, bins: histogram.Bins, scale: float) -> float:
    """Mean distance of samples from a distribution of these `shares`; `scale` is the sum of one over their rows."""
    if "values" in bins:
        return float(np.sqrt(2 / np.pi * shares * (1 - shares) * scale).sum() / 2)
    below = np.cumsum(shares).clip(0, 1)
    return float(1.74 * np.sqrt((below * (1 - below)).max() * scale))


def chance_of_new(rows: int, known_rows: int) -> float:
    """What the share of values that training never had stays below, but for one window in 1,000.

    Two numbers in as many as training had lie beyond its smallest and its largest; and that so many rows of one kind
    all lie in the window, none in training, has the chance (rows / all rows) ** many.
    """
    beyond = 2 * rows / known_rows
    all_here = np.log(1000) / np.log1p(known_rows / rows)
    return max(float(beyond + 4 * np.sqrt(beyond) + all_here) / rows, SMALLEST_SHARE)


def _weeks(spec: Spec, reference: Mapping[str, Any], shares: np.ndarray, rows: int) -> list[float]:
    """Distances of the training weeks; those of fewer rows than the window without what so few show more by chance."""
    own = spec["block_distances"]
    sizes = reference.get("block_rows")
    if sizes is None:
        return list(own)
    usual = expected(shares, spec, 1 / rows)
    return [
        max(far - max(expected(shares, spec, 1 / size) - usual, 0.0), 0.0) for far, size in zip(own, sizes, strict=True)
    ]


def _quantile(weeks: Sequence[float], quantile: float, factor: float) -> float:
    return factor * float(np.quantile(weeks, quantile)) if len(weeks) else 0.0


def _joined(shares: np.ndarray, spec: Spec) -> np.ndarray:
    """As the reference has them: those of versions before count null among the other categories."""
    if len(shares) == len(spec["shares"]):
        return shares
    joined: np.ndarray = np.append(shares[:-2], shares[-2:].sum())
    return joined


def class_probabilities(predicted: np.ndarray) -> np.ndarray:
    """Probabilities [rows, classes] of a classifier; a binary one's [rows] are those of the second class."""
    return np.column_stack([1 - predicted, predicted]) if predicted.ndim == 1 else predicted


def class_codes(labels: Sequence[Any] | np.ndarray, classes: Sequence[Any]) -> np.ndarray:
    """Places of the labels in `classes`, -1 for one that is not there."""
    places = {name: place for place, name in enumerate(classes)}
    return np.array([places.get(label, -1) for label in labels], np.int64)


def log_losses(probabilities: np.ndarray, codes: np.ndarray, smallest: float = SMALLEST) -> np.ndarray:
    """Log loss of each row of `probabilities` [rows, classes]; a class that the model does not know has none."""
    chosen = np.where(codes < 0, 0.0, probabilities[np.arange(len(codes)), codes])
    found: np.ndarray = -np.log(chosen.clip(smallest, 1 - smallest))
    return found


def expected_log_loss(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    """Weeks, of which each is joined with the next ones until it has enough rows."""
    weeks = frame.sort(time).with_columns(__week=pl.col(time).dt.truncate(BLOCK))
    blocks: list[pl.DataFrame] = []
    for week in weeks.partition_by("__week", include_key=False, maintain_order=True):
        if blocks and blocks[-1].height < MIN_BLOCK_ROWS:
            blocks[-1] = pl.concat([blocks[-1], week])
        else:
            blocks.append(week)
    if len(blocks) > 1 and blocks[-1].height < MIN_BLOCK_ROWS:
        blocks[-2:] = [pl.concat(blocks[-2:])]
    return blocks
