"""The three drift decisions as pure functions: features, predictions, performance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from fti.model import drift
from fti.model.prediction import LABEL, PREDICTION, PROBABILITIES, PROBABILITY, Outcome
from fti.model.records import ModelInfo
from fti.model.target import LABEL_TYPES
from fti.project import Monitor
from fti.times import TIME

SIGNIFICANCE = 2.0
"""Standard errors that an excess must have, beside being over the tolerance."""


@dataclass(frozen=True)
class Verdict:
    """The answer to one drift question. What could not be decided counts as passed, and says so."""

    passed: bool
    decided: bool
    description: str
    statistic: float = 0.0
    limit: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)


def undecided(reason: str) -> Verdict:
    """No answer, for `reason`."""
    return Verdict(passed=True, decided=False, description=f"Decided nothing: {reason}")


def too_few(rows: int, monitor: Monitor, what: str) -> Verdict | None:
    """No answer when there are fewer than `monitor.min_rows` rows."""
    if rows >= monitor.min_rows:
        return None
    return undecided(f"{rows} {what} in the window, {monitor.min_rows} are needed.")


def feature_table(logged: pl.DataFrame, reference: Mapping[str, Any], monitor: Monitor) -> pl.DataFrame:
    """Every feature's distance from the training data and its limit, most drifted first; without rows, no rows."""
    present = {name: spec for name, spec in reference["features"].items() if name in logged.columns}
    if logged.is_empty():
        present = {}
    known = {**reference, "features": present}
    return drift.compare(logged, known, quantile=monitor.quantile, factor=monitor.factor)


def data_drift(table: pl.DataFrame, rows: int, monitor: Monitor) -> Verdict:
    """Whether too many features of `feature_table` lie further from the training data than its own weeks."""
    if table.is_empty():
        return undecided("no logged feature is known to the training dataset.")
    drifted = table.filter("drifted")["feature"].to_list()
    share = len(drifted) / table.height
    passed = share <= monitor.max_drifted_share
    description = (
        f"{len(drifted)} of {table.height} features drifted ({share:.0%}, limit {monitor.max_drifted_share:.0%}) "
        f"over {rows} predictions" + (f"; most of all {', '.join(drifted[:3])}" if drifted else "") + "."
    )
    return too_few(rows, monitor, "predictions") or Verdict(
        passed, True, description, share, monitor.max_drifted_share, {"drifted features": len(drifted)}
    )


def prediction_drift(logged: pl.DataFrame, reference: Mapping[str, Any], monitor: Monitor) -> Verdict:
    """Whether the predictions of `logged` are spread otherwise than `reference`, by the swings of its own weeks."""
    if (verdict := too_few(logged.height, monitor, "predictions by the champion")) is not None:
        return verdict
    found = drift.compare(logged, reference, quantile=monitor.quantile, factor=monitor.factor).row(0, named=True)
    column, values = found["feature"], logged[found["feature"]]
    what = {PROBABILITY: "probabilities", LABEL: "labels", PREDICTION: "predictions"}[column]
    mean = float(values.mean() or 0.0) if values.dtype.is_numeric() else None
    description = (
        f"The champion's {what} lie {found['distance']:.3f} from those on its training rows "
        f"(limit {found['limit']:.3f})" + (f"; their mean is {mean:.4g}." if mean is not None else ".")
    )
    details = {"column": column} | ({"mean": mean} if mean is not None else {})
    return Verdict(not found["drifted"], True, description, found["distance"], found["limit"], details)


def performance_drift(labelled: pl.DataFrame, monitor: Monitor, info: ModelInfo) -> Verdict:
    """Whether the champion, whose `info` is given, does worse than it should on predictions whose label is known."""
    if (verdict := too_few(labelled.height, monitor, "labelled predictions by the champion")) is not None:
        return verdict
    overall = info.reference_predictions.get("overall", {})
    labelled = labelled.with_columns(pl.col("actual").cast(LABEL_TYPES[info.task], strict=False)).drop_nulls("actual")
    if info.task == "regression":
        return error_drift(labelled, monitor, overall)
    return surprise_drift(labelled, monitor, info, overall)


def surprise_drift(labelled: pl.DataFrame, monitor: Monitor, outcome: Outcome, overall: Mapping[str, Any]) -> Verdict:
    """Whether the log loss exceeds what the model's own probabilities promise.

    If the probabilities were right, the log loss would be their mean entropy. The excess must be over the tolerance
    and over twice its standard error, the larger of the one that the probabilities imply and the one between days.
    """
    loss, expected, error = log_loss_excess(labelled, outcome)
    excess = loss - expected
    drifted = excess > monitor.performance_tolerance and excess > SIGNIFICANCE * error
    name, quality = ranking(labelled, outcome)
    known = overall.get(name.lower().replace(" ", "_"))
    against = f", {known:.3f} on its test split" if known is not None else ""
    description = (
        f"Log loss {loss:.4f} on {labelled.height} labelled predictions where {expected:.4f} was to be expected: "
        f"{excess:+.4f} ± {error:.4f} (tolerance {monitor.performance_tolerance}). {name} {quality:.3f}{against}."
    )
    details = {"log loss": loss, "expected log loss": expected, "standard error": error, name.lower(): quality}
    return Verdict(not drifted, True, description, excess, monitor.performance_tolerance, details)


def error_drift(labelled: pl.DataFrame, monitor: Monitor, overall: Mapping[str, Any]) -> Verdict:
    """Whether the RMSE exceeds the test split's by more than the tolerance, a share of it, and by more than twice the
    standard error of the difference."""
    if not overall.get("rmse"):
        return undecided("the RMSE on the champion's test split is not known, or 0. Materialize evaluation.")
    errors = (labelled[PREDICTION] - labelled["actual"]).to_numpy()
    rmse, own_error = drift.rmse_with_error(errors, labelled[TIME])
    excess = rmse / overall["rmse"] - 1
    error = float(np.hypot(own_error, overall["rmse_error"])) / overall["rmse"]
    drifted = excess > monitor.performance_tolerance and excess > SIGNIFICANCE * error
    description = (
        f"RMSE {rmse:.4g} on {labelled.height} labelled predictions, {overall['rmse']:.4g} on the test split: "
        f"{excess:+.1%} ± {error:.1%} (tolerance {monitor.performance_tolerance:.1%}). "
        f"Mean error {errors.mean():+.4g}."
    )
    details = {"rmse": rmse, "rmse of the test split": overall["rmse"], "standard error": error}
    return Verdict(not drifted, True, description, excess, monitor.performance_tolerance, details)


def log_loss_excess(labelled: pl.DataFrame, outcome: Outcome) -> tuple[float, float, float]:
    """Observed log loss, the one that the probabilities promise, and the standard error of their difference."""
    probabilities, codes = probabilities_and_codes(labelled, outcome)
    loss = drift.log_losses(probabilities, codes)
    expected, variance = drift.expected_log_loss(probabilities)
    implied = float(np.sqrt(variance.sum()) / len(loss))
    between = drift.error_between_days(loss - expected, labelled[TIME])
    return float(loss.mean()), float(expected.mean()), max(implied, between)


def probabilities_and_codes(labelled: pl.DataFrame, outcome: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Logged probabilities [rows, classes], and the places of what came true."""
    if outcome.task == "binary":
        return drift.class_probabilities(labelled[PROBABILITY].to_numpy()), labelled["actual"].to_numpy().astype(int)
    codes = drift.class_codes(labelled["actual"].to_list(), outcome.classes)
    return np.array(labelled[PROBABILITIES].to_list()), codes


def ranking(labelled: pl.DataFrame, outcome: Outcome) -> tuple[str, float]:
    """How well the model tells the classes apart: ROC AUC of two (0.5 when one is missing), macro F1 of several."""
    from sklearn import metrics

    actual = labelled["actual"].to_list()
    if outcome.task == "binary":
        both = len(set(actual)) == 2
        return "ROC AUC", float(metrics.roc_auc_score(actual, labelled[PROBABILITY].to_list())) if both else 0.5
    said = labelled[LABEL].to_list()
    return "Macro F1", float(metrics.f1_score(actual, said, average="macro", zero_division=0))
