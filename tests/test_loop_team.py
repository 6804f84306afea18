"""A team's state lives in a bucket, PostgreSQL and Redis: what a killed machine began, another one ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fti.local import servers
from fti.settings import Settings
from fti.storage.sql import transaction
from fti.stores import open_stores
from fti.stores.predictions.upload import LogUpload
from tests import team
from tests.redis_server import redis_server

pytestmark = [pytest.mark.loop, pytest.mark.process, pytest.mark.long]
REPOSITORY = Path(__file__).parents[1]
DEMO = "from fti.operations.demo import run; from fti.settings import Settings; run(Settings(), weeks=2, share=0.15)"
DEADLINE_SECONDS = 400


@pytest.fixture(scope="module")
def variables(s3, postgres):
    with redis_server() as url, pytest.MonkeyPatch.context() as patch:
        variables = team.variables(s3, postgres, url)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield variables


@pytest.fixture(scope="module")
def machines(variables, tmp_path_factory):
    """Settings of two machines, which have no folder in common."""
    root = tmp_path_factory.mktemp("team")
    return [
        Settings(home=root / name, projects="tests.small", service_port=servers.free_port("127.0.0.1"))
        for name in ("first", "second")
    ]


def demo(machine):
    environment = servers.environment(machine) | {
        "FTI_SERVICE_PORT": str(machine.service_port),
        "PYTHONPATH": str(REPOSITORY),
    }
    return subprocess.Popen([sys.executable, "-c", DEMO], cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)


def promotions_begun(machine):
    from sqlalchemy import func, select

    from fti.storage.schema import promotions

    with transaction(machine.database, write=False) as connection:
        return connection.execute(select(func.count()).select_from(promotions)).scalar()


@pytest.fixture(scope="module")
def figures(machines):
    """The demo, killed on the first machine in its first promotion, and run on the second."""
    first, second = machines
    child = demo(first)
    try:
        end = time.monotonic() + DEADLINE_SECONDS
        while not promotions_begun(first) and child.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(30)
    assert child.returncode == -signal.SIGKILL, "it ended before its first promotion"
    assert promotions_begun(first) == 1
    other = demo(second)
    assert other.wait(DEADLINE_SECONDS) == 0
    servers.stop("service-flights", first)
    servers.stop("service-flights", second)
    return json.loads((second.root / "demo.json").read_text())


def test_it_ends_as_on_one_machine(figures, loop):
    """`loop` is the same demo in a folder, never killed."""
    for name in ("first_model", "retrain", "rows_in", "feature_rows", "requests_served"):
        for told in ({"run_id", "version", "dataset_version", "reason"},):
            assert strip(figures[name], told) == strip(loop[name], told)
    assert [week["requests"] for week in figures["weeks"]] == [week["requests"] for week in loop["weeks"]]


def strip(value, names):
    return {key: part for key, part in value.items() if key not in names} if isinstance(value, dict) else value


def test_the_first_machine_sees_what_the_second_made(figures, machines):
    first, second = (open_stores(machine) for machine in machines)
    for stores in (first, second):
        registry, log = stores.model_registry, stores.prediction_log
        assert registry.journal("flights")["version"].to_list() == [1, 2]
        assert registry.champion("flights").version == 2
        assert log.read("flights").height == figures["requests_served"]
        assert log.read("flights")["request_id"].is_unique().all()
        assert registry.bundle(registry.champion("flights")).info.dataset_version == stores.dataset_store.latest(
            "flights"
        )
    table = "flights/features/origin_delays"
    assert first.lake.version(table) == second.lake.version(table)
    assert first.lake.load(table).equals(second.lake.load(table))
    assert first.prediction_log.labelled("flights").equals(second.prediction_log.labelled("flights"))
    service = "delay_model_v1"
    asked = first.lake.load(table).tail(5).select("origin", "event_timestamp")
    views = {"origin_delays": first.feature_store.feature_names(service)["origin_delays"]}
    assert views
    online = [stores.feature_store.newest_online(service) for stores in (first, second)]
    assert online[0] == online[1] is not None
    assert asked.height == 5


def test_nothing_that_lasts_lies_on_one_machine_alone(figures, machines):
    """What a home holds is a copy, or of the machine itself: ports, logs, checkpoints."""
    for machine in machines:
        LogUpload(open_stores(machine).prediction_log, quiet_seconds=0.0).once()
        LogUpload(open_stores(machine).prediction_log, quiet_seconds=0.0).once()
    third = open_stores(machines[0].model_copy(update={"home": machines[0].root.parent / "third"}))
    assert third.prediction_log.read("flights").height == figures["requests_served"]
    assert not [path for machine in machines for path in machine.root.rglob("*.db")]
    assert not [path for machine in machines for path in machine.root.rglob("*.ndjson")]
