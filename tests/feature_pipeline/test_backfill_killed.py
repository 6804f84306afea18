"""`fti backfill` killed while it writes features, and again while it brings them online, ends as if it never was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import pytest

from fti.operations.backfill import run
from fti.settings import Settings
from fti.stores import Stores, open_stores
from tests import team
from tests.contract.machines import DAYS, START, project
from tests.lakes import contents
from tests.redis_server import redis_server

pytestmark = [pytest.mark.process, pytest.mark.long]
REPOSITORY = Path(__file__).parents[2]
LAST = START.date() + timedelta(days=DAYS - 1)
SERVICE = project.features.service
DEADLINE_SECONDS = 300


@pytest.fixture(autouse=True)
def projects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTI_PROJECTS", "tests.contract.daily")


@pytest.fixture(params=["folder", "team"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Begins a fresh place for state: none beside the home, or a team's bucket, PostgreSQL and Redis."""
    if request.param == "folder":
        yield lambda: None
        return
    s3, postgres = request.getfixturevalue("s3"), request.getfixturevalue("postgres")
    with ExitStack() as stack:

        def fresh() -> None:
            url = stack.enter_context(redis_server())
            for name, value in team.variables(s3, postgres, url).items():
                monkeypatch.setenv(name, value)

        yield fresh


def backfill(home: Path) -> Stores:
    """The whole command in this process; the stores that it leaves."""
    settings = Settings(home=home)
    run(settings, "machines", (START.date(), LAST), chunk_days=1, again=False)
    return open_stores(settings)


def killed(home: Path, reached: Callable[[], bool]) -> None:
    """The command in a process of its own, killed without warning at a moment of its work."""
    command = [sys.executable, "-m", "fti.cli", "backfill", "machines", "--chunk-days", "1", "--to", str(LAST)]
    environment = os.environ | {"FTI_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + DEADLINE_SECONDS
        while not reached() and child.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert child.returncode == -signal.SIGKILL, "it ended before the moment came"


def feature_days(home: Path) -> list[date]:
    return open_stores(Settings(home=home)).lake.days("machines/features/machine_load")


def test_killed_twice_it_ends_as_one_that_never_was(tmp_path: Path, place: Callable[[], None]) -> None:
    place()
    whole = backfill(tmp_path / "whole")
    wanted = contents(whole.lake), dict(whole.feature_store._backend.scan(b""))

    place()
    home = tmp_path / "killed"
    killed(home, lambda: len(feature_days(home)) >= 4)
    assert 4 <= len(feature_days(home)) < DAYS

    store = open_stores(Settings(home=home)).feature_store
    store.apply(project)
    killed(home, lambda: store.newest_online(SERVICE) is not None)
    assert len(feature_days(home)) == DAYS

    another = tmp_path / "another machine" if Settings(home=home).storage_uri else home
    again = backfill(another)
    assert (contents(again.lake), dict(again.feature_store._backend.scan(b""))) == wanted
    end = START + timedelta(days=DAYS)
    assert set(again.feature_store.missing_online(SERVICE, START, end).values()) == {0}
