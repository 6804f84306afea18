"""Pictures of studies and evaluations, as PNG bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from training_pipeline.judging.measure import calibration_table
from training_pipeline.judging.tables import new_figure, plain, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SLICES = 20
MAX_CLASSES = 20
ANNOTATED_CLASSES = 12
OTHER = "all others"
NUM_PERIODS = 60
"""Points of a curve over time."""


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
        roc.plot(false_positives, true_positives, label=name)
        recall.plot(found, precision, label=name)
        calibration_curve(calibration, name, labels, probabilities)
    roc.plot([0, 1], [0, 1], ":", color="gray")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    recall.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    frame_calibration(calibration, "Calibration")
    return png(figure)


def calibration_curve(axes: Axes, name: str, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """One model's observed shares by predicted probability."""
    table = calibration_table(labels, probabilities)
    axes.plot(table["predicted"], table["observed"], "o-", markersize=3, label=name)


def frame_calibration(axes: Axes, title: str) -> None:
    """The diagonal of a model that is right, and names."""
    axes.plot([0, 1], [0, 1], ":", color="gray")
    axes.set(xlabel="predicted", ylabel="observed", title=title)
    axes.legend()


def multiclass(codes: np.ndarray, models: Mapping[str, np.ndarray], classes: Sequence[str]) -> dict[str, bytes]:
    """Confusion matrix and precision and recall by class of the challenger; calibration of every model's most probable
    class. `codes` are the places of the true classes, `models` the probabilities [rows, classes]."""
    best = models["challenger"].argmax(1)
    figure = new_figure(5, 4)
    axes = figure.subplots()
    for name, probabilities in models.items():
        calibration_curve(axes, name, probabilities.argmax(1) == codes, probabilities.max(1))
    frame_calibration(axes, "Calibration of the most probable class")
    table = confusion_table(codes, best, classes)
    return {"confusion.png": confusion(table), "classes.png": by_class(table), "calibration.png": png(figure)}


def confusion_table(codes: np.ndarray, best: np.ndarray, classes: Sequence[str]) -> pl.DataFrame:
    """Rows by true class (column `class`) and predicted class (a column each), the classes with the most rows first;
    over `MAX_CLASSES`, the rest is one."""
    number = len(classes)
    counts = np.zeros((number, number), np.int64)
    np.add.at(counts, (codes, best), 1)
    order = np.argsort(-counts.sum(1), kind="stable")
    names = [str(classes[place]) for place in order]
    counts = counts[np.ix_(order, order)]
    if number > MAX_CLASSES:
        names = [*names[: MAX_CLASSES - 1], OTHER]
        folded = np.minimum(np.arange(number), MAX_CLASSES - 1)
        rows = np.zeros((MAX_CLASSES, MAX_CLASSES), np.int64)
        np.add.at(rows, (folded[:, None], folded[None, :]), counts)
        counts = rows
    return pl.DataFrame({"class": names, **{f"{place}": counts[:, place] for place in range(len(names))}})


def confusion(table: pl.DataFrame) -> bytes:
    """Shares of the predicted classes, by true class."""
    names, counts = [plain(name) for name in table["class"]], table.drop("class").to_numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = new_figure(2.5 + 0.4 * len(names), 1.8 + 0.4 * len(names))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    if len(names) <= ANNOTATED_CLASSES:
        for row, column in np.ndindex(*shares.shape):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{shares[row, column]:.0%}", ha="center", va="center", color=color, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true", title="Share of the true class's rows")
    return png(figure)


def by_class(table: pl.DataFrame) -> bytes:
    """Precision and recall of every class. What was folded into one counts as right within itself."""
    counts = table.drop("class").to_numpy()
    right, places = np.diag(counts), np.arange(table.height)
    figure = new_figure(6, 1.2 + 0.35 * table.height)
    axes = figure.subplots()
    axes.barh(places - 0.2, right / np.maximum(counts.sum(0), 1), 0.4, label="precision")
    axes.barh(places + 0.2, right / np.maximum(counts.sum(1), 1), 0.4, label="recall")
    names = [f"{plain(name)} ({rows})" for name, rows in zip(table["class"], counts.sum(1), strict=True)]
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), title="Classes of the test split (rows)")
    axes.legend()
    return png(figure)


def regression(labels: np.ndarray, predicted: np.ndarray, moments: pl.Series) -> dict[str, bytes]:
    """Predicted against actual, errors over time, and how the errors are spread."""
    return {
        "predicted.png": predicted_against_actual(labels, predicted),
        "residuals.png": errors_over_time(predicted - labels, moments),
        "errors.png": spread_of_errors(predicted - labels),
    }


def predicted_against_actual(labels: np.ndarray, predicted: np.ndarray) -> bytes:
    """Where the rows lie, darker where there are more."""
    figure = new_figure(5, 4.2)
    axes = figure.subplots()
    ends = [float(min(labels.min(), predicted.min())), float(max(labels.max(), predicted.max()))]
    image = axes.hexbin(labels, predicted, gridsize=40, bins="log", mincnt=1, cmap="Blues")
    axes.plot(ends, ends, ":", color="gray")
    figure.colorbar(image, ax=axes, label="rows")
    axes.set(xlabel="actual", ylabel="predicted", title="Predicted against actual")
    return png(figure)


def errors_over_time(errors: np.ndarray, moments: pl.Series) -> bytes:
    """Mean error and the span of its middle 80 %, in periods of equally many rows."""
    order = moments.arg_sort().to_numpy()
    parts = [part for part in np.array_split(order, min(NUM_PERIODS, max(len(order) // 10, 1))) if len(part)]
    times = [moments[int(part[len(part) // 2])] for part in parts]
    low, high = (np.array([np.quantile(errors[part], share) for part in parts]) for share in (0.1, 0.9))
    figure = new_figure(7, 3)
    axes = figure.subplots()
    axes.fill_between(times, low, high, alpha=0.25, label="80 % of the rows")
    axes.plot(times, [errors[part].mean() for part in parts], label="mean")
    axes.axhline(0, linestyle=":", color="gray")
    axes.set(ylabel="predicted - actual", title="Errors over time")
    axes.legend()
    figure.autofmt_xdate()
    return png(figure)


def spread_of_errors(errors: np.ndarray) -> bytes:
    """Histogram of the errors, less the outermost 0.5 % on either side."""
    low, high = np.quantile(errors, [0.005, 0.995])
    figure = new_figure(5, 3)
    axes = figure.subplots()
    axes.hist(errors[(errors >= low) & (errors <= high)], bins=50)
    axes.axvline(0, linestyle=":", color="gray")
    axes.set(xlabel="predicted - actual", ylabel="rows", title="Errors, the middle 99 %")
    return png(figure)


def slices(table: pl.DataFrame, metric: str) -> bytes:
    """One metric by slice, the largest slices."""
    shown = table.drop_nulls(metric).sort("rows", descending=True).head(MAX_SLICES)
    names = [
        plain(f"{column} {value} ({rows})") for column, value, rows in shown.select("column", "value", "rows").rows()
    ]
    figure = new_figure(6, 1 + 0.25 * len(names))
    axes = figure.subplots()
    axes.barh(names[::-1], shown[metric].to_numpy()[::-1])
    if len(names):
        lowest = float(shown[metric].min())  # type: ignore[arg-type]
        axes.set_xlim(left=max(0.0, lowest - 0.05) if lowest >= 0 else lowest * 1.05)
    axes.set(xlabel=metric, title="Slices of the test split (rows)")
    return png(figure)
