"""Metrics of predictions on labelled rows, by task, as pure functions.

What `predicted` is, `fti.model.bundle.ModelBundle.predict` says. A metric that the rows do not define, because
they hold one class only, is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from fti.model import drift, prediction
from fti.model.prediction import Outcome
from fti.model.target import Target
from fti.project.gate import METRICS
from fti.times import TIME

BINARY = Target()
CALIBRATION_BINS = 15
MAX_SLICES = 500
"""Values of one column that are measured, those with the most rows."""

Scores = dict[str, float | None]


def scores(labels: np.ndarray, predicted: np.ndarray, outcome: Outcome = BINARY) -> Scores:
    """All metrics of the task."""
    task = outcome.task
    if task == "regression":
        return _regression_scores(labels, predicted)
    if task == "multiclass":
        return _multiclass_scores(drift.class_codes(labels, outcome.classes), predicted)
    return _binary_scores(labels, predicted)


def _binary_scores(labels: np.ndarray, probabilities: np.ndarray) -> Scores:
    from sklearn import metrics

    both = 0 < labels.sum() < len(labels)
    return {
        "roc_auc": float(metrics.roc_auc_score(labels, probabilities)) if both else None,
        "pr_auc": float(metrics.average_precision_score(labels, probabilities)) if both else None,
        "log_loss": float(metrics.log_loss(labels, probabilities, labels=[0, 1])),
        "brier": float(metrics.brier_score_loss(labels, probabilities, labels=[0, 1])),
        "calibration_error": calibration_error(labels, probabilities),
    }


def _multiclass_scores(codes: np.ndarray, probabilities: np.ndarray) -> Scores:
    """Of ROC AUC the mean over the classes that occur, each against the rest."""
    from sklearn import metrics

    best = probabilities.argmax(1)
    present = [code for code in np.unique(codes) if code >= 0 and (codes == code).sum() < len(codes)]
    areas = [metrics.roc_auc_score(codes == code, probabilities[:, code]) for code in present]
    return {
        "macro_f1": float(metrics.f1_score(codes, best, average="macro", zero_division=0)),
        "accuracy": float(metrics.accuracy_score(codes, best)),
        "log_loss": float(drift.log_losses(probabilities, codes, float(np.finfo(float).eps)).mean()),
        "roc_auc": float(np.mean(areas)) if areas else None,
    }


def _regression_scores(labels: np.ndarray, values: np.ndarray) -> Scores:
    from sklearn import metrics

    return {
        "rmse": float(metrics.root_mean_squared_error(labels, values)),
        "mae": float(metrics.mean_absolute_error(labels, values)),
        "r2": float(metrics.r2_score(labels, values)) if labels.min() < labels.max() else None,
    }


def prior(labels: np.ndarray, rows: int, outcome: Outcome) -> np.ndarray:
    """What a model predicts for `rows` rows that knows the training labels and nothing else: their mean, or the shares
    of their classes."""
    if outcome.task != "multiclass":
        return np.full(rows, float(labels.mean()))
    codes = drift.class_codes(labels, outcome.classes)
    return np.tile(np.bincount(codes, minlength=len(outcome.classes)) / len(codes), (rows, 1))


def calibration_table(labels: np.ndarray, probabilities: np.ndarray) -> pl.DataFrame:
    """Mean probability and share of label 1 in bins of equally many rows: predicted, observed, rows."""
    order = np.argsort(probabilities, kind="stable")
    bins = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    return pl.DataFrame(
        {
            "predicted": [float(probabilities[part].mean()) for part in bins],
            "observed": [float(labels[part].mean()) for part in bins],
            "rows": [len(part) for part in bins],
        }
    )


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: mean distance of predicted from observed, weighted by rows (Naeini et al. 2015, with
    equally filled bins)."""
    table = calibration_table(labels, probabilities)
    distance = (table["predicted"] - table["observed"]).abs().to_numpy()
    return float(np.average(distance, weights=table["rows"].to_numpy()))


def expected_log_loss(predicted: np.ndarray) -> float:
    """Log loss that the probabilities promise: their mean entropy. More than this is a miscalibrated model."""
    return float(drift.expected_log_loss(drift.class_probabilities(predicted))[0].mean())


def slice_scores(
    rows: pl.DataFrame, predicted: np.ndarray, columns: Sequence[str], label: str, outcome: Outcome = BINARY
) -> pl.DataFrame:
    """Metrics by value of each column: column, value, rows, for binary labels positive_share, the metrics."""
    task, labels = outcome.task, rows[label].to_numpy()
    found: list[dict[str, Any]] = []
    for column in columns:
        groups = rows.select(column).with_row_index("place").group_by(column).agg("place", pl.len())
        for value, places, number in groups.sort("len", column, descending=[True, False]).head(MAX_SLICES).iter_rows():
            own = labels[places]
            share = {"positive_share": float(own.mean())} if task == "binary" else {}
            measured = scores(own, predicted[places], outcome)
            found.append({"column": column, "value": str(value), "rows": number, **share, **measured})
    shares = {"positive_share": pl.Float64} if task == "binary" else {}
    schema = {"column": pl.String, "value": pl.String, "rows": pl.Int64, **shares}
    table = pl.DataFrame(found, schema={**schema, **dict.fromkeys(METRICS[task], pl.Float64)})
    return table.sort("column", "rows", descending=[False, True], maintain_order=True)


def reference_predictions(
    train: pl.DataFrame, rows: pl.DataFrame, predicted: np.ndarray, label: str, outcome: Outcome = BINARY
) -> dict[str, Any]:
    """What monitoring compares with: `predictions`, `overall`.

    The spread of predictions (a `fti.model.drift.reference`) is taken from `train`, which holds `event_timestamp` and
    the prediction's columns: its many weeks tell what an ordinary week is. How well the model does is taken from
    `rows`, which it has not seen, with what it `predicted` for them.
    """
    return {
        "predictions": drift.reference(train, **prediction.WATCHED[outcome.task], time=TIME),
        "overall": _performance(rows[label].to_numpy(), predicted, rows[TIME], outcome),
    }


def _performance(labels: np.ndarray, predicted: np.ndarray, moments: pl.Series, outcome: Outcome) -> dict[str, Any]:
    task = outcome.task
    found = {"start": moments.min().isoformat(), "rows": len(labels), **scores(labels, predicted, outcome)}  # type: ignore[union-attr]
    if task == "regression":
        return {**found, "rmse_error": drift.rmse_with_error(predicted - labels, moments)[1]}
    share = {"positive_share": float(labels.mean())} if task == "binary" else {}
    return {**found, **share, "expected_log_loss": expected_log_loss(predicted)}
