"""Metrics of predicted probabilities, as pure functions of labels (0 or 1) and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from fti import drift

HIGHER_IS_BETTER = {"roc_auc": True, "pr_auc": True, "log_loss": False, "brier": False, "calibration_error": False}
"""Every metric of `scores`, and whether more of it is better."""
CALIBRATION_BINS = 15
WEEK = "7d"
PROBABILITY = "probability"


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """All metrics; needs both labels."""
    from sklearn import metrics

    return {
        "roc_auc": float(metrics.roc_auc_score(labels, probabilities)),
        "pr_auc": float(metrics.average_precision_score(labels, probabilities)),
        "log_loss": float(metrics.log_loss(labels, probabilities, labels=[0, 1])),
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "calibration_error": calibration_error(labels, probabilities),
    }


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


def expected_log_loss(probabilities: np.ndarray) -> float:
    """Log loss that the probabilities promise: their mean entropy. More than this is surprise."""
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return float(np.mean(-(p * np.log(p) + (1 - p) * np.log1p(-p))))


def slice_scores(rows: pl.DataFrame, columns: Sequence[str], label: str) -> pl.DataFrame:
    """Metrics by value of each column: column, value, rows, positive_share, the metrics (null where a slice has one
    label only). `rows` holds `probability`."""
    found: list[dict[str, Any]] = []
    for column in columns:
        for (value,), part in rows.partition_by(column, as_dict=True).items():
            labels, probabilities = part[label].to_numpy(), part[PROBABILITY].to_numpy()
            both = 0 < labels.sum() < len(labels)
            measured = scores(labels, probabilities) if both else dict.fromkeys(HIGHER_IS_BETTER)
            share = float(labels.mean())
            found.append(
                {"column": column, "value": str(value), "rows": part.height, "positive_share": share, **measured}
            )
    schema = {"column": pl.String, "value": pl.String, "rows": pl.Int64, "positive_share": pl.Float64}
    table = pl.DataFrame(found, schema={**schema, **dict.fromkeys(HIGHER_IS_BETTER, pl.Float64)})
    return table.sort("column", "rows", descending=[False, True])


def reference_predictions(train: pl.DataFrame, rows: pl.DataFrame, label: str, time: str) -> dict[str, Any]:
    """What monitoring compares with: see `fti.stores.model_bundle.ModelBundle`.

    The spread of probabilities is taken from `train`, whose many weeks tell what an ordinary week is; how well the
    model does is taken from `rows`, which it has not seen.
    """
    weeks = rows.sort(time).group_by_dynamic(time, every=WEEK)
    return {
        "probability": drift.reference(train, numeric=[PROBABILITY], categorical=[], time=time),
        "overall": _performance(rows, label, time),
        "weeks": [_performance(week, label, time) for _, week in weeks],
    }


def _performance(rows: pl.DataFrame, label: str, time: str) -> dict[str, Any]:
    labels, probabilities = rows[label].to_numpy(), rows[PROBABILITY].to_numpy()
    both = 0 < labels.sum() < len(labels)
    measured = scores(labels, probabilities) if both else {}
    return {
        "start": rows[time].min().isoformat(),  # type: ignore[union-attr]
        "rows": rows.height,
        "positive_share": float(labels.mean()),
        "roc_auc": measured.get("roc_auc"),
        "log_loss": measured.get("log_loss"),
        "expected_log_loss": expected_log_loss(probabilities),
    }
