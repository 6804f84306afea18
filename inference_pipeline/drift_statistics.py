"""The three drift decisions as pure functions: features, predictions, performance."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from fti import drift
from fti.project import Monitor
from inference_pipeline.predict import PROBABILITY, TIME

SIGNIFICANCE = 2.0
"""Standard errors that an excess of log loss must have, beside being over the tolerance."""
EPSILON = 1e-6


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
    """Whether the probabilities of `logged` are spread otherwise than `reference`, by the swings of its own weeks."""
    if (verdict := too_few(logged.height, monitor, "predictions by the champion")) is not None:
        return verdict
    found = drift.compare(logged, reference, quantile=monitor.quantile, factor=monitor.factor).row(0, named=True)
    mean = float(logged[PROBABILITY].mean() or 0.0)  # type: ignore[arg-type]
    description = (
        f"The champion's probabilities lie {found['distance']:.3f} from those on its training rows "
        f"(limit {found['limit']:.3f}); their mean is {mean:.3f}."
    )
    return Verdict(not found["drifted"], True, description, found["distance"], found["limit"], {"mean": mean})


def performance_drift(labelled: pl.DataFrame, monitor: Monitor, reference_auc: float | None) -> Verdict:
    """Whether the log loss exceeds what the model's own probabilities promise.

    If the probabilities were right, the log loss would be their mean entropy. The excess must be over the tolerance
    and over twice its standard error, the larger of the binomial one and the one between days.
    """
    if (verdict := too_few(labelled.height, monitor, "labelled predictions by the champion")) is not None:
        return verdict
    loss, expected, error = log_loss_excess(labelled)
    excess, auc = loss - expected, roc_auc(labelled["actual"].to_numpy(), labelled[PROBABILITY].to_numpy())
    drifted = excess > monitor.performance_tolerance and excess > SIGNIFICANCE * error
    against = f", {reference_auc:.3f} on its test split" if reference_auc is not None else ""
    description = (
        f"Log loss {loss:.4f} on {labelled.height} labelled predictions where {expected:.4f} was to be expected: "
        f"{excess:+.4f} ± {error:.4f} (tolerance {monitor.performance_tolerance}). ROC AUC {auc:.3f}{against}."
    )
    details = {"log loss": loss, "expected log loss": expected, "standard error": error, "roc auc": auc}
    return Verdict(not drifted, True, description, excess, monitor.performance_tolerance, details)


def log_loss_excess(labelled: pl.DataFrame) -> tuple[float, float, float]:
    """Observed log loss, the one that the probabilities promise, and the standard error of their difference."""
    p = labelled[PROBABILITY].to_numpy().clip(EPSILON, 1 - EPSILON)
    actual = labelled["actual"].to_numpy().astype(float)
    loss = -(actual * np.log(p) + (1 - actual) * np.log(1 - p))
    expected = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    difference = loss - expected
    binomial = np.sqrt((p * (1 - p) * np.log(p / (1 - p)) ** 2).sum()) / len(p)
    days = labelled.select(pl.col(TIME).dt.date(), difference=pl.Series(difference - difference.mean()))
    by_day = days.group_by(TIME).agg(pl.col("difference").sum())["difference"].to_numpy()
    between = np.sqrt((by_day**2).sum() * len(by_day) / max(len(by_day) - 1, 1)) / len(p)
    return float(loss.mean()), float(expected.mean()), float(max(binomial, between))


def roc_auc(actual: np.ndarray, probability: np.ndarray) -> float:
    """Probability that a positive row outranks a negative one, ties counting half; 0.5 when a class is missing."""
    positives = int(actual.sum())
    negatives = len(actual) - positives
    if not positives or not negatives:
        return 0.5
    ranks = pl.Series(probability).rank("average").to_numpy()
    return float((ranks[actual == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
