"""The retrain sensor: once per episode, with a cooldown and a budget, on evaluations that Dagster really stored."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from fti.projects.flights import project as flights
from inference_pipeline.monitoring.retrain import Evaluation, Retrain, decide, retrain_sensor

DAY = timedelta(days=1)
START = datetime(2013, 12, 1, tzinfo=UTC)
PROJECT = replace(
    flights,
    monitor=replace(
        flights.monitor,
        retrain_on=("no_performance_drift", "no_data_drift"),
        cooldown=10 * DAY,
        max_retrains_per_30_days=2,
        retrain_validation=timedelta(days=7),
        retrain_test=timedelta(days=14),
    ),
)
CHECKS = ("no_data_drift", "no_prediction_drift", "no_performance_drift")


def history(verdicts: str, check: str = "no_data_drift") -> list[Evaluation]:
    """One evaluation a day, oldest first in `verdicts` ("p" passed, "f" failed); newest first in the answer."""
    made = [Evaluation(check, verdict == "p", START + day * DAY, "so") for day, verdict in enumerate(verdicts)]
    return made[::-1]


@pytest.mark.parametrize(
    ("verdicts", "retrained", "reason"),
    [
        ("", [], "No drift report has decided anything yet"),
        ("ppp", [], "No drift"),
        ("ffp", [], "No drift"),
        ("ppf", [2], "Same episode"),
        ("ppff", [3], "Same episode"),
        ("fpf", [5], "Same episode"),
        ("ppfff", [2], "the cooldown lasts until 2013-12-13"),
        ("pfpf", [1], "the cooldown lasts until 2013-12-12"),
        ("f" * 25, [-5, 10], "the budget is used: 2 retrainings within 30 days"),
    ],
)
def test_when_not_to_retrain(verdicts: str, retrained: Sequence[int], reason: str) -> None:
    decision = decide(history(verdicts), [START + day * DAY for day in retrained], PROJECT.monitor)
    assert not isinstance(decision, Retrain)
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("verdicts", "retrained", "since", "until"),
    [
        ("f", [], 0, 0),
        ("ppfff", [], 2, 4),
        ("ppf" + "p" * 9 + "f", [2], 12, 12),
        ("f" * 12, [0], 1, 11),
        ("f" * 30, [-20, 10], 11, 29),
    ],
)
def test_when_to_retrain(verdicts: str, retrained: Sequence[int], since: int, until: int) -> None:
    decision = decide(history(verdicts), [START + day * DAY for day in retrained], PROJECT.monitor)
    assert isinstance(decision, Retrain)
    assert (decision.since, decision.until) == (START + since * DAY, START + until * DAY)
    assert decision.reason == "no_data_drift: so"


def test_the_first_named_check_gives_the_reason() -> None:
    evaluations = history("f", "no_data_drift") + history("f", "no_performance_drift")
    decision = decide(evaluations, [], PROJECT.monitor)
    assert isinstance(decision, Retrain)
    assert decision.check == "no_performance_drift"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


def evaluate(instance: dg.DagsterInstance, day: float, *, failed: Sequence[str] = (), decided: bool = True) -> None:
    """A real run of an asset with the drift report's key whose checks say what they are told to."""
    until = (START + day * DAY).isoformat()

    @dg.asset(
        key=PROJECT.key("drift_report"),
        check_specs=[dg.AssetCheckSpec(n, asset=PROJECT.key("drift_report")) for n in CHECKS],
    )
    def drift_report() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            check_results=[
                dg.AssetCheckResult(
                    check_name=name,
                    passed=name not in failed,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=f"{name} told so",
                    metadata={"decided": decided, "until": until},
                )
                for name in CHECKS
            ]
        )

    assert dg.materialize([drift_report], instance=instance).success


@dg.op
def nothing() -> None: ...


@dg.job(name="flights_training")
def training() -> None:
    nothing()


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[list[dg.RunRequest], str, str | None]:
    """Run requests, skip message and cursor of one evaluation, as the daemon makes it."""
    repository = dg.Definitions(jobs=[training], sensors=[retrain_sensor(PROJECT)]).get_repository_def()
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository)
    data = repository.get_sensor_def("flights_retrain_on_drift").evaluate_tick(context)
    return list(data.run_requests or []), data.skip_message or "", data.cursor


def test_a_drift_is_answered_by_one_retraining(instance: dg.DagsterInstance) -> None:
    assert "No drift report" in tick(instance)[1]
    evaluate(instance, 0)
    assert "No drift" in tick(instance)[1]
    evaluate(instance, 1, failed=["no_prediction_drift"])
    assert "No drift" in tick(instance)[1]
    evaluate(instance, 2, failed=["no_data_drift"])
    (request,), _, cursor = tick(instance)
    assert request.tags["fti/trigger"] == "drift"
    assert request.tags["fti/reason"] == "no_data_drift: no_data_drift told so"
    config = request.run_config["ops"]["flights__training_dataset"]["config"]
    assert config == {"until": (START + 2 * DAY).isoformat(), "validation_days": 7.0, "test_days": 14.0}
    assert json.loads(cursor or "")[0]["until"] == config["until"]
    assert "Same episode" in tick(instance, cursor)[1]
    evaluate(instance, 3, failed=["no_data_drift"])
    assert "cooldown" in tick(instance, cursor)[1]


def test_a_lost_cursor_requests_nothing_twice(instance: dg.DagsterInstance) -> None:
    evaluate(instance, 0, failed=["no_data_drift"])
    (request,), _, _ = tick(instance)
    (again,), _, _ = tick(instance)
    assert again.run_key == request.run_key
    training.execute_in_process(instance=instance, tags=dict(request.tags))
    assert "Same episode" in tick(instance)[1]


def test_it_waits_for_a_training_that_runs(instance: dg.DagsterInstance) -> None:
    evaluate(instance, 0, failed=["no_data_drift"])
    run = instance.create_run_for_job(training, status=dg.DagsterRunStatus.STARTED)
    assert "already under way" in tick(instance)[1]
    instance.report_run_failed(run)
    assert tick(instance)[0]


def test_what_decided_nothing_neither_starts_nor_ends_an_episode(instance: dg.DagsterInstance) -> None:
    evaluate(instance, 0, failed=["no_data_drift"])
    evaluate(instance, 1, decided=False)
    (request,), _, _ = tick(instance)
    assert request.tags["fti/until"] == START.isoformat()


def test_it_runs_by_default_and_not_too_often() -> None:
    sensor = retrain_sensor(PROJECT)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.minimum_interval_seconds == 30
    assert sensor.job_name == "flights_training"
