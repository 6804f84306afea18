"""`dagster dev` with its daemon: a drift leads to a retraining run that nobody asked for by hand."""

import json
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fti.definitions import build
from fti.local import servers
from fti.local.dagster_home import dagster_home
from fti.project.loading import load_projects
from fti.settings import Settings
from fti.stores import open_stores

pytestmark = [pytest.mark.loop, pytest.mark.long]

DEADLINE_SECONDS = 240


@pytest.fixture(scope="module")
def dagster(loop: dict[str, Any], loop_settings: Settings) -> Iterator[servers.Server]:
    """`dagster dev` on the loop's state."""
    server = servers.servers(loop_settings, ())[0]
    servers.start(server, loop_settings)
    try:
        servers.wait_ready(server, loop_settings)
        yield server
    finally:
        servers.stop(server.name, loop_settings)


def ask(server: servers.Server, query: str) -> dict[str, Any]:
    """The data of a GraphQL answer."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{server.url}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, Any] = json.load(response)["data"]
    return found


def drift_again(settings: Settings) -> None:
    """Log a week of traffic whose features lie far from any, then monitor it as the hourly schedule does."""
    (project,) = load_projects(settings.project_modules)
    log = open_stores(settings).prediction_log
    newest = log.newest(project.name)
    assert newest is not None
    later = timedelta(days=14)
    rows = log.read(project.name, newest - timedelta(days=7)).with_columns(
        pl.col("event_timestamp", "sched_dep", "sched_arr", "served_at") + later,
        pl.col("request_id") + "|later",
        pl.col(pl.Float32) + 50,
    )
    log.append(project.name, rows)
    with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
        result = build(settings).resolve_job_def(f"{project.name}_monitoring").execute_in_process(instance=instance)
    assert result.success
    assert not all(check.passed for check in result.get_asset_check_evaluations())


def test_the_daemon_retrains_on_drift_by_itself(dagster: servers.Server, loop_settings: Settings) -> None:
    drift_again(loop_settings)
    query = (
        '{ runsOrError(filter: {tags: [{key: "fti/trigger", value: "drift"}]}) { ... on Runs { results { status } } } }'
    )
    deadline = time.monotonic() + DEADLINE_SECONDS
    statuses: list[str] = []
    while time.monotonic() < deadline:
        statuses = [run["status"] for run in ask(dagster, query)["runsOrError"]["results"]]
        if len(statuses) == 2 and statuses[0] in ("SUCCESS", "FAILURE"):
            break
        time.sleep(2)
    assert statuses == ["SUCCESS", "SUCCESS"]
    assert open_stores(loop_settings).model_registry.journal("flights").height == 3


def test_schedules_and_sensor_are_running(dagster: servers.Server) -> None:
    found = ask(
        dagster,
        "{ repositoriesOrError { ... on RepositoryConnection { nodes {"
        " schedules { name scheduleState { status } } sensors { name sensorState { status } } } } } }",
    )["repositoriesOrError"]["nodes"][0]
    schedules = {schedule["name"]: schedule["scheduleState"]["status"] for schedule in found["schedules"]}
    sensors = {sensor["name"]: sensor["sensorState"]["status"] for sensor in found["sensors"]}
    assert {"flights_daily_features", "flights_hourly_compaction", "flights_monthly_retraining"} < schedules.keys()
    assert sensors.keys() == {"flights_retrain_on_drift", "flights_late_data"}
    assert set(schedules.values()) | set(sensors.values()) == {"RUNNING"}
    daemons = ask(dagster, "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }")
    healthy = {d["daemonType"]: d["healthy"] for d in daemons["instance"]["daemonHealth"]["allDaemonStatuses"]}
    assert healthy["SENSOR"]
    assert healthy["SCHEDULER"]
