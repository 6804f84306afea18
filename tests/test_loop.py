"""The whole loop on a small slice of the year: everything `fti demo` does, over real processes and real HTTP."""

from typing import Any

import dagster as dg
import pytest

from fti.local.dagster_home import dagster_home
from fti.settings import Settings
from fti.stores import open_stores

pytestmark = [pytest.mark.loop, pytest.mark.long]


def num_runs(settings: Settings) -> tuple[int, int]:
    """Runs that Dagster and MLflow know."""
    client = open_stores(settings).model_registry.client
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        return instance.get_runs_count(), len(
            client.search_runs([client.get_experiment_by_name("flights").experiment_id])
        )


def test_a_drift_led_to_one_retraining_and_a_swap(loop: dict[str, Any], loop_settings: Settings) -> None:
    assert loop["weeks"][0]["failed"], "the first week should have drifted"
    assert loop["retrain"]["outcome"] == "promoted"
    assert "no_" in loop["retrain"]["reason"]
    registry = open_stores(loop_settings).model_registry
    journal = registry.journal("flights")
    assert journal["version"].to_list() == [1, 2]
    assert journal["previous"].to_list() == [None, 1]
    champion = registry.champion("flights")
    assert champion is not None
    assert champion.version == 2
    assert registry.by_alias("flights", "previous").version == 1


def test_the_retraining_says_who_asked_and_why(loop: dict[str, Any], loop_settings: Settings) -> None:
    with dg.DagsterInstance.from_config(str(dagster_home(loop_settings))) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={"fti/trigger": "drift"}))
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags["fti/reason"] == loop["retrain"]["reason"]


def test_every_request_is_in_the_log_once_by_the_champion_of_its_time(
    loop: dict[str, Any], loop_settings: Settings
) -> None:
    log = open_stores(loop_settings).prediction_log.read("flights")
    assert log.height == loop["requests_served"]
    assert log["request_id"].is_duplicated().sum() == 0
    assert sorted(log["model_version"].unique()) == [1, 2]
    assert log.sort("event_timestamp")["model_version"].is_sorted()


def test_metrics_come_from_rows_after_training(loop: dict[str, Any]) -> None:
    ranges = loop["first_model"]["ranges"]
    assert ranges["train"][1] < ranges["validation"][0] < ranges["validation"][1] < ranges["test"][0]
    assert set(loop["first_model"]["test"]) >= {"challenger", "baseline", "prior"}


def test_a_second_run_does_nothing_again(loop: dict[str, Any], loop_settings: Settings) -> None:
    from fti.operations.demo import run

    stores = open_stores(loop_settings)
    before, runs_before = stores.prediction_log.read("flights"), num_runs(loop_settings)
    again = run(loop_settings, weeks=2, share=0.15)
    assert num_runs(loop_settings) == runs_before
    assert stores.prediction_log.read("flights").equals(before)
    assert stores.model_registry.journal("flights").height == 2
    for figure in ("rows_in", "feature_rows", "requests_served", "weeks", "first_model", "new_model", "retrain"):
        assert again[figure] == loop[figure], figure
