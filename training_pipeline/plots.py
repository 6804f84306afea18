"""Pictures of studies and evaluations, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from training_pipeline.measure import calibration_table
from training_pipeline.tables import new_figure, png

MAX_SLICES = 20


def study_history(table: pl.DataFrame) -> bytes:
    """Validation loss by trial, and the best so far."""
    trials = table.drop_nulls("validation loss").sort("trial")
    figure = new_figure(5, 3)
    axes = figure.subplots()
    axes.plot(trials["trial"], trials["validation loss"], "o", label="trial")
    axes.step(trials["trial"], trials["validation loss"].cum_min(), where="post", label="best so far")
    axes.set(xlabel="trial", ylabel="validation loss")
    axes.legend()
    return png(figure)


def curves(labels: np.ndarray, models: Mapping[str, np.ndarray]) -> bytes:
    """ROC curve, precision and recall, and calibration of each model's probabilities."""
    from sklearn import metrics

    figure = new_figure(12, 3.8)
    roc, recall, calibration = figure.subplots(1, 3)
    for name, probabilities in models.items():
        false_positives, true_positives, _ = metrics.roc_curve(labels, probabilities)
        precision, found, _ = metrics.precision_recall_curve(labels, probabilities)
        table = calibration_table(labels, probabilities)
        roc.plot(false_positives, true_positives, label=name)
        recall.plot(found, precision, label=name)
        calibration.plot(table["predicted"], table["observed"], "o-", markersize=3, label=name)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], ":", color="gray")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    recall.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    calibration.set(xlabel="predicted", ylabel="observed", title="Calibration")
    calibration.legend()
    return png(figure)


def slices(table: pl.DataFrame, metric: str = "roc_auc") -> bytes:
    """One metric by slice, the largest slices."""
    shown = table.drop_nulls(metric).sort("rows", descending=True).head(MAX_SLICES)
    names = [f"{column} {value} ({rows})" for column, value, rows in shown.select("column", "value", "rows").rows()]
    figure = new_figure(6, 1 + 0.25 * len(names))
    axes = figure.subplots()
    axes.barh(names[::-1], shown[metric].to_numpy()[::-1])
    if len(names):
        axes.set_xlim(left=max(0.0, float(shown[metric].min()) - 0.05))  # type: ignore[arg-type]
    axes.set(xlabel=metric, title="Slices of the test split (rows)")
    return png(figure)
