"""Events: a streamed day ends with the features of the batch, whatever the order, the duplicates and the corrections."""

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest

from feature_pipeline.ingest import table, write_source
from feature_pipeline.stream.apply import Applier
from feature_pipeline.stream.checkpoint import Checkpoint
from feature_pipeline.stream.consumer import Consumer
from feature_pipeline.transform import make_features, raw_tables, write_features
from fti.projects.flights import project
from fti.stores.event_log import LocalEventLog
from fti.stores.feature_store import FeatureStore
from fti.stores.lake import Lake

REPO = Path(__file__).parents[2] / "feature_repo"
SERVICE = project.features.service
FIRST, DAY, END = (datetime(2013, 1, day, tzinfo=UTC) for day in (1, 5, 6))
KEYS = {
    "flights": ["carrier", "flight", "origin", "sched_dep"],
    "weather": ["origin", "time_hour"],
}


class World:
    """A lake with the days before `DAY`, a feature store, and the consumer over them."""

    def __init__(self, root):
        self.root = root
        self.lake = Lake(str(root / "lake"))
        state = root / "feast"
        self.store = FeatureStore(
            REPO, str(state), self.lake.root, f"sqlite:///{state}/registry.db", str(state / "online.db")
        )
        self.store.apply(project)
        fill(self.lake, FIRST, DAY)
        self.log = LocalEventLog(root / "events")
        self.sent = 0
        self.start()

    def start(self):
        """A consumer that remembers only what is on disk."""
        checkpoint = Checkpoint(self.root / "checkpoint.db")
        log = LocalEventLog(self.root / "events", start=checkpoint.facts()["position"])
        self.consumer = Consumer(log, Applier(project, self.lake, self.store), checkpoint)

    def send(self, events):
        self.log.append([event if isinstance(event, bytes) else orjson.dumps(event) for event in events])

    def drain(self):
        while self.consumer.step():
            pass
        return self.consumer.checkpoint.facts()

    def features(self, view, since=DAY, until=END):
        rows = self.lake.load(f"flights/features/{view}", start=since, end=until)
        return canonical(rows, [*self.store.schemas(SERVICE)[view].keys, "event_timestamp"])


def canonical(rows, key):
    return rows.sort(key)


def fill(lake, start, end):
    """What the batch does for `[start, end)`."""
    for source in project.sources:
        rows = source.read(FIRST if source.timestamp is None else start, end).select(source.schema.keys())
        write_source(lake, project, source, rows, start, end)
    views = make_features(project, raw_tables(project, lake, start, end), start, end)
    write_features(lake, project, views, start, end)


def row(values):
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def events_of(start, end):
    """Each flight when it is scheduled, when it has departed and when it has landed; each hour of weather. By time."""
    found = []
    for values in project.source("flights").read(start, end).iter_rows(named=True):
        name = "-".join(str(values[key]) for key in KEYS["flights"])
        scheduled = values | dict.fromkeys(("dep", "arr", "dep_delay", "arr_delay", "air_time"))
        departed = values | dict.fromkeys(("arr", "arr_delay", "air_time"))
        found.append((values["sched_dep"] - timedelta(hours=3), f"{name}-0", "flights", scheduled))
        if values["dep"]:
            found.append((values["dep"], f"{name}-1", "flights", departed))
        if values["arr"]:
            found.append((values["arr"], f"{name}-2", "flights", values))
    for values in project.source("weather").read(start, end).iter_rows(named=True):
        name = f"{values['origin']}-{values['time_hour']}"
        found.append((values["time_hour"] + timedelta(hours=1), name, "weather", values))
    found.sort(key=lambda event: (event[0], event[1]))
    return [{"id": name, "source": source, "row": row(values)} for _, name, source, values in found]


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """A lake in which the batch has made the day."""
    lake = Lake(str(tmp_path_factory.mktemp("batch")))
    fill(lake, FIRST, END)
    return lake


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def same_as_batch(world, batch):
    for source in project.sources:
        if source.streamed:
            ours, theirs = (lake.load(table(project, source), start=DAY, end=END) for lake in (world.lake, batch))
            assert canonical(ours, KEYS[source.name]).equals(canonical(theirs, KEYS[source.name]))
    for view, schema in world.store.schemas(SERVICE).items():
        theirs = batch.load(f"flights/features/{view}", start=DAY, end=END)
        assert world.features(view).equals(canonical(theirs, [*schema.keys, "event_timestamp"])), view


def test_a_streamed_day_ends_as_the_batch_does(world, batch):
    history = {path: path.read_bytes() for path in Path(world.lake.root).rglob("*.parquet")}
    events = events_of(DAY, END)
    for start in range(0, len(events), 400):
        world.send(events[start : start + 400])
        assert world.consumer.step()
    same_as_batch(world, batch)
    assert all(path.read_bytes() == content for path, content in history.items())
    assert world.consumer.checkpoint.facts()["applied"] == len(events)
