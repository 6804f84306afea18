"""The three drift checks: quiet on traffic like the training data, loud on shifted traffic, silent on too little."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from fti.model import drift
from fti.model.records import ModelInfo
from fti.project import Project, Task
from fti.projects.flights import project as flights
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelVersion
from inference_pipeline.batch import label_logged
from inference_pipeline.monitoring.drift import CHECKS, drift_asset
from inference_pipeline.monitoring.page import DAY, daily_distances, evidently_html
from inference_pipeline.monitoring.statistics import Verdict, log_loss_excess, performance_drift, ranking
from tests.inference_pipeline.world import END, TRAIN, World

PROJECT = replace(flights, monitor=replace(flights.monitor, window=timedelta(days=7), min_rows=300))


def info_of(task: Task, classes: tuple[str, ...] = (), **overall: float) -> ModelInfo:
    """That of a model with these figures on its test split."""
    reference = {"overall": overall}
    return ModelInfo(
        task=task, label="actual", numeric=(), categorical=(), classes=classes, reference_predictions=reference
    )


BINARY = info_of("binary", roc_auc=0.7)


def report(
    world: World, log: PredictionLog, *, project: Project = PROJECT, **config: Any
) -> tuple[dict[str, dg.AssetCheckEvaluation], dict[str, dg.MetadataValue]]:
    """Checks by name and the asset's metadata."""
    result = dg.materialize(
        [drift_asset(project)],
        resources=vars(world.stores) | {"prediction_log": log},
        run_config={"ops": {"flights__drift_report": {"config": {"html": False} | config}}},
    )
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    (event,) = result.asset_materializations_for_node("flights__drift_report")
    return checks, dict(event.metadata)


def as_logged(world: World, version: ModelVersion) -> pl.DataFrame:
    """The last three weeks of training rows, as if the service had answered them, on the days of the traffic."""
    dataset = world.stores.dataset_store.load(world.dataset_version)
    rows = dataset.splits["train"].filter(pl.col("event_timestamp") >= TRAIN + timedelta(days=7))
    probability = world.stores.model_registry.bundle(version).predict(rows)
    spread = pl.int_range(pl.len()) * (timedelta(days=7) / rows.height / timedelta(microseconds=1))
    return rows.drop("late", "known_at").select(
        pl.format("own-{}", pl.int_range(pl.len())).alias("request_id"),
        pl.exclude("event_timestamp"),
        (pl.lit(END - timedelta(days=7)) + pl.duration(microseconds=spread.cast(pl.Int64))).alias("event_timestamp"),
        pl.lit(END).alias("served_at"),
        pl.lit(version.version, pl.Int64).alias("model_version"),
        probability=pl.Series(probability),
    )


def test_training_rows_themselves_are_no_drift(world: World, champion: ModelVersion, log: PredictionLog) -> None:
    log.append("flights", as_logged(world, champion))
    checks, metadata = report(world, log)
    assert checks.keys() == CHECKS.keys()
    assert all(check.passed for check in checks.values())
    assert checks["no_data_drift"].metadata["decided"].value is True
    assert checks["no_prediction_drift"].metadata["decided"].value is True
    assert checks["no_performance_drift"].metadata["decided"].value is False
    assert "| feature | distance |" in metadata["most drifted"].value
    assert metadata["day by day"].value.startswith("![drift](data:image/png;base64,")


def test_shifted_features_are_drift_and_are_named(world: World, champion: ModelVersion, log: PredictionLog) -> None:
    rows = as_logged(world, champion)
    log.append("flights", rows.with_columns(pl.col(pl.Float32) * 3 + 20, pl.col("probability").sqrt()))
    checks, _ = report(world, log)
    assert not checks["no_data_drift"].passed
    assert not checks["no_prediction_drift"].passed
    description = checks["no_data_drift"].description or ""
    assert "features drifted" in description
    assert "most of all" in description
    assert checks["no_data_drift"].severity == dg.AssetCheckSeverity.WARN
    until = checks["no_data_drift"].metadata["until"].value
    assert until == f"{(log.newest('flights') or END) + timedelta(microseconds=1):%Y-%m-%dT%H:%M:%S.%f+00:00}"


def test_labels_decide_about_performance(world: World, records: pl.DataFrame, log: PredictionLog) -> None:
    log.append("flights", records.with_columns(probability=pl.lit(0.9)))
    label_logged(world.project, world.stores.lake, log, None)
    checks, metadata = report(world, log, until=END.isoformat())
    performance = checks["no_performance_drift"]
    assert not performance.passed
    assert performance.metadata["decided"].value is True
    assert performance.metadata["log loss"].value > performance.metadata["expected log loss"].value
    assert "ROC AUC" in (performance.description or "")
    assert metadata["labelled"].value > 300


def test_too_little_decides_nothing(world: World, records: pl.DataFrame, log: PredictionLog) -> None:
    checks, _ = report(world, log)
    assert all(check.passed and check.metadata["decided"].value is False for check in checks.values())
    log.append("flights", records.head(100))
    checks, _ = report(world, log)
    assert all(check.passed and check.metadata["decided"].value is False for check in checks.values())
    assert "100 predictions in the window, 300 are needed" in (checks["no_data_drift"].description or "")


def test_another_models_predictions_are_not_held_against_the_champion(
    world: World, records: pl.DataFrame, log: PredictionLog
) -> None:
    log.append("flights", records.with_columns(probability=pl.lit(0.9), model_version=pl.lit(99, pl.Int64)))
    checks, _ = report(world, log)
    assert checks["no_prediction_drift"].metadata["decided"].value is False
    assert checks["no_data_drift"].metadata["decided"].value is True


def test_the_page_to_read_is_written(world: World, records: pl.DataFrame, log: PredictionLog) -> None:
    log.append("flights", records.with_columns(pl.lit(None, pl.Float32).alias("temp")))
    _, metadata = report(world, log, html=True)
    page = Path(str(metadata["page"].value).removeprefix("file://"))
    assert page.is_relative_to(log.root)
    assert b"<html" in page.read_bytes()[:2000].lower()


def test_columns_that_the_page_cannot_take_are_left_out() -> None:
    random = np.random.default_rng(1)
    plain = pl.DataFrame({"plain": random.normal(size=100), "kind": random.choice(["a", "b"], 100)})
    odd = plain.with_columns(
        endless=pl.lit(float("inf")), huge=pl.col("plain") * 1e300, empty=pl.lit(None, pl.Float64), one=pl.lit(1.0)
    )
    numeric = ["plain", "endless", "huge", "empty", "one"]
    page = evidently_html(odd, odd, numeric=numeric, categorical=["kind"])
    assert page is not None
    assert b"<html" in page[:2000].lower()
    assert evidently_html(odd, odd, numeric=["empty"], categorical=[]) is None


def labelled(probability: np.ndarray, actual: np.ndarray) -> pl.DataFrame:
    days = pl.Series(np.arange(len(actual)) % 7).cast(pl.Int64)
    return pl.DataFrame({"probability": probability, "actual": actual}).with_columns(
        event_timestamp=pl.lit(END) - pl.duration(days=days)
    )


def test_a_calibrated_model_has_no_excess_and_a_shifted_one_has() -> None:
    random = np.random.default_rng(3)
    probability = random.beta(1, 6, 4000)
    actual = (random.random(4000) < probability).astype(int)
    loss, expected, error = log_loss_excess(labelled(probability, actual), BINARY)
    assert abs(loss - expected) < 3 * error
    assert performance_drift(labelled(probability, actual), PROJECT.monitor, BINARY).passed
    worse = (random.random(4000) < np.sqrt(probability)).astype(int)
    assert not performance_drift(labelled(probability, worse), PROJECT.monitor, BINARY).passed


def several(random: np.random.Generator, sharpness: float) -> pl.DataFrame:
    """Labelled predictions of three classes; the truth follows the probabilities raised to `sharpness`."""
    probabilities = random.dirichlet([1.0, 1.0, 1.0], 4000)
    true = probabilities**sharpness
    true /= true.sum(1, keepdims=True)
    codes = (random.random(4000)[:, None] > true.cumsum(1)).sum(1)
    said = pl.Series("probabilities", probabilities.tolist())
    names = np.array(["a", "b", "c"])
    rows = labelled(probabilities.max(1), codes)
    return rows.with_columns(said, actual=pl.Series(names[codes]), label=pl.Series(names[probabilities.argmax(1)]))


def test_probabilities_of_several_classes_are_held_to_their_promise() -> None:
    info = info_of("multiclass", ("a", "b", "c"), macro_f1=0.5)
    right = performance_drift(several(np.random.default_rng(3), 1.0), PROJECT.monitor, info)
    assert right.passed
    assert "Macro F1" in right.description
    assert "0.500 on its test split" in right.description
    assert abs(right.statistic) < 3 * right.details["standard error"]
    wrong = performance_drift(several(np.random.default_rng(3), 0.3), PROJECT.monitor, info)
    assert not wrong.passed
    fewer = replace(info, classes=("a", "b", "x"))
    assert not performance_drift(several(np.random.default_rng(3), 1.0), PROJECT.monitor, fewer).passed


def test_numbers_are_held_to_the_error_of_the_test_split() -> None:
    random = np.random.default_rng(4)
    info = info_of("regression", rmse=2.0, rmse_error=0.02)

    def judged(spread: float, rows: int) -> Verdict:
        actual = random.normal(0, 10, rows)
        said = pl.Series("prediction", actual + random.normal(0, spread, rows))
        found = labelled(np.zeros(rows), actual).with_columns(said)
        return performance_drift(found, replace(PROJECT.monitor, performance_tolerance=0.1), info)

    assert judged(2.0, 4000).passed
    assert not judged(2.4, 4000).passed
    assert judged(2.1, 4000).passed, "less than the tolerance"
    assert judged(2.3, 300).statistic > 0.1
    few = judged(2.3, 300)
    assert few.passed == (few.statistic <= max(0.1, 2 * few.details["standard error"]))
    assert not performance_drift(labelled(np.zeros(300), np.ones(300)), PROJECT.monitor, info_of("regression")).decided


@pytest.mark.parametrize(
    ("actual", "probability", "expected"),
    [([0, 1], [0.1, 0.9], 1.0), ([0, 1], [0.9, 0.1], 0.0), ([0, 1, 1], [0.5] * 3, 0.5), ([1, 1], [0.1, 0.2], 0.5)],
)
def test_roc_auc(actual: list[int], probability: list[float], expected: float) -> None:
    rows = pl.DataFrame({"actual": actual, "probability": probability})
    assert ranking(rows, BINARY) == ("ROC AUC", expected)


def test_a_feature_may_be_called_day() -> None:
    hours = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 8), "10m", closed="left", eager=True)
    rows = pl.DataFrame({"event_timestamp": hours, "day": hours.dt.day().cast(pl.Float64)})
    reference = drift.reference(rows, numeric=["day"], categorical=[])
    found = daily_distances(rows, reference, ["day"])
    assert found.columns == [DAY, "day"]
    assert found.height == 7
    assert found["day"].min() > 0  # type: ignore[operator]
