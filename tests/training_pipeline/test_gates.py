from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from fti.model.records import Evaluation
from fti.model.target import Target
from fti.project.gate import Floor, NoWorseThanBaseline, NoWorseThanChampion, SliceFloor, require_measurable
from training_pipeline.judging.evaluate import thinned
from training_pipeline.judging.gates import check_names, verdicts
from training_pipeline.judging.measure import (
    calibration_error,
    expected_log_loss,
    prior,
    reference_predictions,
    scores,
    slice_scores,
)

GATES = (
    Floor(metric="roc_auc", minimum=0.7),
    NoWorseThanChampion(metric="log_loss", tolerance=0.01),
    SliceFloor(column="origin", metric="roc_auc", minimum=0.65, min_rows=100),
)


PASSES = Evaluation(
    run_id="r",
    dataset_version="d",
    task="binary",
    metrics={"challenger": {"roc_auc": 0.8, "log_loss": 0.4}, "champion": {"roc_auc": 0.8, "log_loss": 0.395}},
    champion_version=3,
    slices=(
        {"column": "origin", "value": "EWR", "rows": 500, "roc_auc": 0.7},
        {"column": "origin", "value": "LGA", "rows": 20, "roc_auc": 0.3},
        {"column": "origin", "value": "JFK", "rows": 300, "roc_auc": None},
    ),
)
"""Passes every gate."""


def answers(**changes: Any) -> list[tuple[bool, str]]:
    return [(verdict.passed, verdict.description) for verdict in verdicts(GATES, replace(PASSES, **changes))]


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


def against_baseline(metric: str, own: float | None, theirs: float | None, tolerance: float = 0.02) -> tuple[bool, str]:
    gate = NoWorseThanBaseline(metric=metric, tolerance=tolerance, relative=True)
    metrics = {"challenger": {metric: own}, "baseline": {metric: theirs}, "prior": {metric: 0.5}}
    (verdict,) = verdicts([gate], replace(PASSES, metrics=metrics))
    return verdict.passed, verdict.description


@pytest.mark.parametrize(
    ("metric", "own", "theirs", "passed"),
    [
        ("macro_f1", 0.785, 0.8, True),
        ("macro_f1", 0.783, 0.8, False),
        ("rmse", 10.19, 10.0, True),
        ("rmse", 10.21, 10.0, False),
        ("r2", 0.8985, 0.9, True),
        ("r2", 0.897, 0.9, False),
        ("r2", -0.51, -0.5, True),  # 2 % of 1.5 is 0.03
        ("r2", -0.54, -0.5, False),
        ("rmse", 0.0, 0.0, True),
        ("log_loss", 0.012, 0.004, True),  # 2 % of the prior's 0.5 is 0.01
        ("log_loss", 0.411, 0.4, False),
    ],
)
def test_a_relative_tolerance_is_a_share_of_the_baselines_value(
    metric: str, own: float, theirs: float, passed: bool
) -> None:
    assert against_baseline(metric, own, theirs)[0] == passed


def test_a_relative_gate_says_what_its_tolerance_is() -> None:
    assert against_baseline("rmse", 10.5, 10.0)[1] == (
        "rmse 10.5000 on the test split is worse than the baseline's 10.0000 by more than 2.0% (0.2)."
    )
    assert "2.0% of what it leaves unexplained (0.002)" in against_baseline("r2", 0.5, 0.9)[1]
    assert "2.0% of the prior's (0.01)" in against_baseline("log_loss", 0.5, 0.4)[1]


def test_an_undefined_metric_fails_its_gate_with_a_sentence() -> None:
    for passed, sentence in (
        against_baseline("roc_auc", None, None),
        answers(metrics={"challenger": {"roc_auc": None, "log_loss": 1.0}, "champion": {"log_loss": 1.0}})[0],
    ):
        assert not passed
        assert sentence == "roc_auc is undefined on the test split, which holds one label only: make the split longer."


def test_one_class_leaves_ranks_undefined_and_the_rest_measured() -> None:
    binary = scores(np.ones(4, int), np.full(4, 0.25))
    assert (binary["roc_auc"], binary["pr_auc"]) == (None, None)
    assert binary["log_loss"] == pytest.approx(np.log(4))
    several = scores(np.array(["b", "b"]), np.array([[0.2, 0.8], [0.6, 0.4]]), Target("multiclass", ("a", "b")))
    assert several == {
        "macro_f1": pytest.approx(1 / 3),
        "accuracy": 0.5,
        "log_loss": pytest.approx(-np.log([0.8, 0.4]).mean()),
        "roc_auc": None,
    }
    assert scores(np.ones(3), np.zeros(3), Target("regression")) == {"rmse": 1.0, "mae": 1.0, "r2": None}


def test_scores_of_several_classes_are_scikit_learns() -> None:
    from sklearn import metrics

    random, classes = np.random.default_rng(2), ["a", "b", "c", "never"]
    labels = random.choice(classes[:3], 500)
    probabilities = random.dirichlet([1, 1, 1, 0.1], 500)
    measured = scores(labels, probabilities, Target("multiclass", tuple(classes)))
    best = np.array(classes)[probabilities.argmax(1)]
    assert measured["macro_f1"] == pytest.approx(metrics.f1_score(labels, best, average="macro", zero_division=0))
    assert measured["accuracy"] == pytest.approx(metrics.accuracy_score(labels, best))
    assert measured["log_loss"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=classes))
    areas = [metrics.roc_auc_score(labels == name, probabilities[:, place]) for place, name in enumerate("abc")]
    assert measured["roc_auc"] == pytest.approx(np.mean(areas))


def test_the_prior_knows_the_training_labels_only() -> None:
    assert prior(np.array([1.0, 2.0, 6.0]), 2, Target("regression")).tolist() == [3.0, 3.0]
    several = Target("multiclass", ("a", "b", "c"))
    assert prior(np.array(["b", "a", "b", "b"]), 1, several).tolist() == [[0.25, 0.75, 0.0]]


def test_scores_of_calibrated_probabilities() -> None:
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.05, 0.95, 40_000)
    labels = (random.random(40_000) < probabilities).astype(int)
    measured = scores(labels, probabilities)
    assert measured["roc_auc"] > 0.75
    assert measured["log_loss"] == pytest.approx(expected_log_loss(probabilities), abs=0.01)
    assert measured["calibration_error"] < 0.015
    assert calibration_error(labels, np.full(40_000, 0.9)) == pytest.approx(0.4, abs=0.01)


def test_slices_and_the_reference_of_the_test_split() -> None:
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
    assert reference["overall"]["rows"] == 2000
    assert list(reference["predictions"]["features"]) == ["probability"]


@pytest.mark.parametrize(
    ("most", "left"), [(4, [0, 3, 6, 9]), (9, [0, 2, 4, 6, 8]), (10, [*range(10)]), (99, [*range(10)])]
)
def test_rows_are_thinned_evenly(most: int, left: list[int]) -> None:
    assert thinned(pl.DataFrame({"at": range(10)}), most)["at"].to_list() == left
    assert thinned(pl.DataFrame({"at": []}), most).is_empty()
