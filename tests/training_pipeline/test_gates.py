from typing import Any

import numpy as np
import polars as pl
import pytest

from fti.gate import Floor, NoWorseThanChampion, SliceFloor, require_measurable
from training_pipeline.gates import check_names, verdicts
from training_pipeline.measure import calibration_error, expected_log_loss, reference_predictions, scores, slice_scores

GATES = (
    Floor(metric="roc_auc", minimum=0.7),
    NoWorseThanChampion(metric="log_loss", tolerance=0.01),
    SliceFloor(column="origin", metric="roc_auc", minimum=0.65, min_rows=100),
)


def evaluation(**changes: Any) -> dict[str, Any]:
    """An evaluation that passes every gate."""
    return {
        "metrics": {"challenger": {"roc_auc": 0.8, "log_loss": 0.4}, "champion": {"roc_auc": 0.8, "log_loss": 0.395}},
        "champion_version": 3,
        "champion_note": "",
        "slices": [
            {"column": "origin", "value": "EWR", "rows": 500, "roc_auc": 0.7},
            {"column": "origin", "value": "LGA", "rows": 20, "roc_auc": 0.3},
            {"column": "origin", "value": "JFK", "rows": 300, "roc_auc": None},
        ],
        **changes,
    }


def answers(**changes: Any) -> list[tuple[bool, str]]:
    return [(verdict.passed, verdict.description) for verdict in verdicts(GATES, evaluation(**changes))]


def test_checks_are_statements_that_should_be_true() -> None:
    assert check_names(GATES) == [
        "roc_auc_reaches_floor",
        "log_loss_no_worse_than_champion",
        "roc_auc_reaches_floor_in_every_origin",
    ]
    assert len(set(check_names((*GATES, *GATES)))) == 6


def test_a_good_challenger_passes_and_small_slices_do_not_count() -> None:
    assert [passed for passed, _ in answers()] == [True, True, True]


def test_a_failed_gate_says_measure_and_limit() -> None:
    metrics = {"challenger": {"roc_auc": 0.69, "log_loss": 0.41}, "champion": {"roc_auc": 0.8, "log_loss": 0.395}}
    slices = [{"column": "origin", "value": "EWR", "rows": 500, "roc_auc": 0.6}]
    assert answers(metrics=metrics, slices=slices) == [
        (False, "roc_auc 0.6900 on the test split does not reach the floor 0.7000."),
        (
            False,
            "log_loss 0.4100 on the test split is worse than the champion's 0.3950 (version 3) by more than 0.0100.",
        ),
        (
            False,
            "roc_auc 0.6000 of origin EWR (500 test rows), the lowest of 1 values, does not reach the floor 0.6500.",
        ),
    ]


def test_without_a_champion_nothing_is_worse() -> None:
    assert answers(champion_version=None)[1] == (True, "There is no champion yet to be worse than.")


def test_a_gate_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="a binary model has roc_auc"):
        require_measurable([Floor(metric="accuracy", minimum=0.5)], "binary")
    with pytest.raises(ValueError, match="less of it is better: choose r2"):
        require_measurable([Floor(metric="rmse", minimum=0.5)], "regression")


def test_scores_of_calibrated_probabilities() -> None:
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.05, 0.95, 40_000)
    labels = (random.random(40_000) < probabilities).astype(int)
    measured = scores(labels, probabilities)
    assert measured["roc_auc"] > 0.75
    assert measured["log_loss"] == pytest.approx(expected_log_loss(probabilities), abs=0.01)
    assert measured["calibration_error"] < 0.015
    assert calibration_error(labels, np.full(40_000, 0.9)) == pytest.approx(0.4, abs=0.01)


def test_slices_and_weeks_of_the_test_split() -> None:
    random = np.random.default_rng(1)
    start = pl.datetime(2024, 1, 1, time_zone="UTC")
    rows = pl.DataFrame({"probability": random.uniform(size=2000), "origin": ["A"] * 1999 + ["B"]}).with_columns(
        event_timestamp=start + pl.duration(minutes=pl.int_range(2000) * 10),
        late=(random.random(2000) < 0.5).astype(np.int8),
    )
    table = slice_scores(rows, rows["probability"].to_numpy(), ["origin"], "late")
    assert table["value"].to_list() == ["A", "B"]
    assert table["roc_auc"].is_null().to_list() == [False, True]
    reference = reference_predictions(rows, rows, rows["probability"].to_numpy(), "late")
    assert sum(week["rows"] for week in reference["weeks"]) == reference["overall"]["rows"] == 2000
    assert list(reference["predictions"]["features"]) == ["probability"]
