"""A materialization that is killed anywhere and made again ends as one that never was."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fti.projects.flights import project
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake

pytestmark = pytest.mark.process
REPO = Path(__file__).parents[2] / "feature_repo"
SERVICE = project.features.service
START, END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 3, tzinfo=UTC)
ROWS = 300
"""A batch, so small that there are many."""
CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from fti.stores.features.store import FeatureStore

repo, root, lake, online, start, end, rows = sys.argv[1:]
store = FeatureStore(Path(repo), root, lake, f"sqlite:///{root}/registry.db", online, int(rows))
store.online_events("delay_model_v1", __import__("polars").DataFrame(
    schema=dict.fromkeys(["origin", "dest", "carrier", "tailnum"], __import__("polars").String) | {"flight": int}))
print("ready", flush=True)
store.materialize("delay_model_v1", datetime.fromisoformat(start), datetime.fromisoformat(end))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    tables = {source.name: source.read(START, END) for source in project.sources}
    for view, rows in project.features.rows(tables, START, END).items():
        lake.write(f"flights/features/{view}", rows, time="event_timestamp", start=START, end=END)
    return lake


def open_store(root, lake, online):
    return FeatureStore(REPO, str(root), lake.root, f"sqlite:///{root}/registry.db", online, ROWS)


def everything(store):
    return dict(store._backend.scan(b""))


def test_killed_in_the_middle_and_made_again(tmp_path, lake, online_path):
    whole = open_store(tmp_path / "whole", lake, str(tmp_path / "whole.db"))
    whole.apply(project)
    begun = time.perf_counter()
    whole.materialize(SERVICE, START, END)
    seconds = time.perf_counter() - begun
    expected = everything(whole)
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    store = open_store(tmp_path / "killed", lake, online_path)

    seen = kill_at(store, online_path, len(expected) * random.Random().uniform(0.1, 0.5), 20 * seconds + 60)
    assert 0 < len(seen) < len(expected)
    store.materialize(SERVICE, START, END)
    assert everything(store) == expected
    assert set(store.missing_online(SERVICE, START, END).values()) == {0}
    assert replace(store, batch_rows=10**6).materialize(SERVICE, START, END)
    assert everything(store) == expected


def kill_at(store, online_path, entities, deadline):
    """Start a materialization in a process of its own, kill it when so many entities are online; what is there then."""
    arguments = [REPO, store.root, store.lake, online_path, START.isoformat(), END.isoformat(), ROWS]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        end = time.monotonic() + deadline
        while len(everything(store)) < entities and child.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert child.returncode == -signal.SIGKILL
    return everything(store)
