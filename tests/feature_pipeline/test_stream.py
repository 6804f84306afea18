"""Events: a streamed day has the features of the batch at its end, after disorder, duplicates and corrections too."""

import dataclasses
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import orjson
import polars as pl
import pytest

from feature_pipeline.batch.ingest import ingest, table, write_source
from feature_pipeline.batch.transform import make_features, raw_tables
from feature_pipeline.stream.apply import Applier
from feature_pipeline.stream.checkpoint import Checkpoint
from feature_pipeline.stream.consumer import Consumer
from fti.projects.flights import project
from fti.stores.events.log import LocalEventLog
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake

REPO = Path(__file__).parents[2] / "feature_repo"
SERVICE = project.features.service
FIRST, DAY, END = (datetime(2013, 1, day, tzinfo=UTC) for day in (1, 5, 6))
KEYS = {
    "flights": ["carrier", "flight", "origin", "sched_dep"],
    "weather": ["origin", "time_hour"],
}


class World:
    """A lake with the days before `DAY`, a feature store, and the consumer over them."""

    def __init__(self, root, history):
        self.root = root
        shutil.copytree(history, root / "lake")
        self.lake = Lake(str(root / "lake"))
        state = root / "feast"
        self.store = FeatureStore(
            REPO, str(state), self.lake.root, f"sqlite:///{state}/registry.db", str(state / "online.db")
        )
        self.log = LocalEventLog(root / "events")
        self.sent = 0
        self.start()

    def start(self):
        """A consumer that remembers only what is on disk."""
        checkpoint = Checkpoint(f"sqlite:///{self.root}/fti.db", project.name)
        log = LocalEventLog(self.root / "events", start=checkpoint.facts()["position"])
        self.consumer = Consumer(log, Applier(project, self.lake, self.store, checkpoint), checkpoint)

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
    for view, rows in make_features(project, raw_tables(project, lake, start, end), start, end).items():
        lake.write(f"flights/features/{view}", rows, time="event_timestamp", start=start, end=end)


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


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """The folder of a lake in which the batch has made the days before it."""
    lake = Lake(str(tmp_path_factory.mktemp("history")))
    fill(lake, FIRST, DAY)
    return lake.root


@pytest.fixture
def world(tmp_path, history):
    return World(tmp_path, history)


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


def test_duplicates_and_disorder_end_as_the_batch_does(world, batch):
    """Events of a flight keep their order, those of different flights do not; a third comes twice, some much later."""
    random.seed(3)
    events = events_of(DAY, END)
    late = {name for name in {event["id"][:-2] for event in events} if random.random() < 0.1}
    delayed = [event for event in events if event["id"][:-2] in late]
    prompt = [event for event in events if event["id"][:-2] not in late]
    blocks = [prompt[start : start + 300] for start in range(0, len(prompt), 300)]
    world.send(blocks[0])
    world.drain()
    for block in blocks[1:]:
        world.send(block + random.sample(block, len(block) // 3))
    world.send(delayed)
    world.send(random.sample(events, len(events) // 3))
    facts = world.drain()
    assert facts["applied"] == len(events)
    assert facts["duplicates"] >= len(events) // 3
    same_as_batch(world, batch)


def corrections(start, end, number):
    """Landed flights whose real times were ten minutes earlier than was told first."""
    landed = project.source("flights").read(start, end).filter(pl.col("arr").is_not_null()).head(number)
    earlier = [pl.col(name) - timedelta(minutes=10) for name in ("dep", "arr")]
    minutes = [pl.col(name) - 10 for name in ("dep_delay", "arr_delay")]
    return landed.with_columns(earlier + minutes)


def test_a_correction_takes_the_old_feature_rows_away_offline_and_online(world, batch):
    """Rows of a folded day too: what the batch makes of the corrected raw rows is what is there."""
    world.store.materialize(SERVICE, FIRST, DAY)
    world.send(events_of(DAY, END))
    world.drain()
    old = corrections(DAY - timedelta(days=2), DAY, 5)
    new = corrections(DAY, END, 60)
    for number, values in enumerate(pl.concat([old, new]).iter_rows(named=True)):
        world.send([{"id": f"correction-{number}", "source": "flights", "row": row(values)}])
    facts = world.drain()
    assert facts["rejected"] == 0
    start = DAY - timedelta(days=2)
    tables = raw_tables(project, world.lake, start, END)
    for view, rows in make_features(project, tables, start, END).items():
        keys = list(world.store.schemas(SERVICE)[view].keys)
        stored = world.features(view, since=start)
        assert stored.equals(canonical(rows, [*keys, "event_timestamp"])), view
        online_is_newest(world, view, keys)


def online_is_newest(world, view, keys):
    """Every entity of the lake has the values of its newest row online."""
    rows = world.lake.load(f"flights/features/{view}").sort("event_timestamp")
    newest = rows.unique(keys, keep="last", maintain_order=True)
    names = world.store.feature_names(SERVICE)[view]
    filler = {"origin": "EWR", "dest": "IAH", "carrier": "UA", "flight": 1, "tailnum": "N14228"}
    others = [pl.lit(value).alias(name) for name, value in filler.items() if name not in keys]
    found = world.store.online(SERVICE, newest.select(keys).with_columns(others))
    assert found.select(names).equals(newest.select(names)), view


def test_a_batch_that_was_applied_but_not_recorded_comes_again_and_changes_nothing(world, batch):
    events = events_of(DAY, END)
    world.send(events)
    lines = [orjson.dumps(event) for event in events]
    world.consumer.applier.apply(lines[:900])  # then the process dies
    world.start()
    world.drain()
    same_as_batch(world, batch)
    assert world.consumer.checkpoint.facts()["applied"] == len(events)


class Died(Exception):
    """The process ended here."""


class Death:
    """Ends the process, as far as a test in it can, at the n-th rename or removal of a file from now on."""

    left = None

    def __call__(self, event, _):
        if self.left is not None and event in ("os.rename", "os.remove"):
            self.left -= 1
            if not self.left:
                self.left = None
                raise Died


@pytest.fixture(scope="module")
def death():
    hook = Death()
    sys.addaudithook(hook)
    return hook


def test_a_death_at_any_write_loses_and_doubles_nothing(world, batch, death):
    """Between the writes of a batch, and while a correction folds a day."""
    world.store.materialize(SERVICE, FIRST, DAY)
    events = events_of(DAY, END)
    undone = corrections(DAY, END, 3)
    wrong = [
        {"id": f"wrong-{n}", "source": "flights", "row": row(v)} for n, v in enumerate(undone.iter_rows(named=True))
    ]
    right = project.source("flights").read(DAY, END).join(undone, on=KEYS["flights"], how="semi")
    again = [
        {"id": f"right-{n}", "source": "flights", "row": row(v)} for n, v in enumerate(right.iter_rows(named=True))
    ]
    blocks = [(2, events[:1000]), (9, events[1000:2000]), (17, events[2000:]), (5, wrong), (12, again)]
    for writes, block in blocks:
        world.send(block)
        death.left = writes
        with pytest.raises(Died):
            world.drain()
        world.start()
    world.drain()
    same_as_batch(world, batch)
    for view, schema in world.store.schemas(SERVICE).items():
        online_is_newest(world, view, list(schema.keys))
    assert world.consumer.checkpoint.facts()["applied"] == len(events) + 6


def test_compaction_keeps_every_row_while_events_come(world, batch):
    from feature_pipeline.stream.compact import compacted_events_asset

    events = events_of(DAY, END)
    asset = compacted_events_asset(project)
    for start in range(0, len(events), 700):
        world.send(events[start : start + 700])
        world.consumer.step()
        result = dg.materialize([asset], resources={"lake": world.lake}, selection=[asset])
        (check,) = result.get_asset_check_evaluations()
        assert check.passed
    assert not any(world.lake.version(view).segments for view in world.lake.tables("flights/features"))
    world.send(random.sample(events, 100))
    world.drain()
    same_as_batch(world, batch)


def test_joins_go_on_while_events_come_and_are_compacted(world):
    events = events_of(DAY, END)
    asked = project.source("flights").read(DAY, END).select(*project.service.request)
    asked = asked.with_columns(event_timestamp=pl.col("sched_dep") - timedelta(hours=2)).head(50)

    def stream():
        for start in range(0, len(events), 200):
            world.send(events[start : start + 200])
            world.consumer.step()
            for view in world.lake.tables("flights/features"):
                world.lake.compact(view)

    with ThreadPoolExecutor(1) as pool:
        streaming = pool.submit(stream)
        while not streaming.done():
            assert world.store.historical(SERVICE, asked).height == 50
        streaming.result()


def test_what_is_no_event_is_set_aside_and_the_rest_goes_on(world):
    good = events_of(DAY, END)[:50]
    wrong = [
        b"{",
        orjson.dumps({"id": "1", "source": "nobody", "row": {}}),
        orjson.dumps({"id": "2", "source": "weather", "row": {"origin": "EWR", "time_hour": "yesterday"}}),
        orjson.dumps({"id": "3", "source": "weather", "row": {"origin": None, "time_hour": "2013-01-05T01:00:00Z"}}),
        orjson.dumps({"id": "4", "source": "weather", "row": {"colour": 1}}),
    ]
    world.send([*wrong[:3], *good, *wrong[3:]])
    facts = world.drain()
    assert (facts["applied"], facts["rejected"]) == (50, 5)
    reasons = [found["reason"] for found in reversed(world.consumer.checkpoint.rejected())]
    assert [reason.split(":")[0] for reason in reasons[1:]] == ["source", "row.time_hour", "row.origin", "row.colour"]


def test_a_row_that_breaks_an_expectation_is_set_aside_with_the_reason(world):
    """Each event is judged by itself: a bad row neither hides nor replaces the good one before it."""
    good = events_of(DAY, END)[:40]
    flights = [event for event in good if event["source"] == "flights"]
    bad = [
        {**flights[n], "id": f"bad-{n}", "row": flights[n]["row"] | {"origin": "XXX", "distance": n}} for n in (0, 1)
    ]
    worse = {**flights[2], "id": "bad-2", "row": flights[2]["row"] | {"distance": 7}}
    world.send([*good, *bad, worse])
    facts = world.drain()
    assert (facts["applied"], facts["rejected"]) == (43, 3)
    set_aside = {found["id"]: found["reason"] for found in world.consumer.checkpoint.rejected()}
    assert "origin" in set_aside["bad-0"]
    assert "distance" in set_aside["bad-2"]
    rows = world.lake.load("flights/raw/flights", start=DAY, end=END)
    assert rows.height == len(flights)
    assert rows["distance"].min() > 10


def test_a_batch_run_over_a_streamed_day_is_taken_over(world, batch):
    """The batch replaces the day while the stream goes on; the rows that the source lacks go, later events stay."""
    events = events_of(DAY, END)
    world.send([*events[:1500], invented()])
    world.drain()
    fill(world.lake, DAY, END)
    assert world.lake.version("flights/raw/flights").segments == []
    world.consumer.applier.follow()
    world.send(events[1500:])
    world.drain()
    same_as_batch(world, batch)


def test_a_row_that_comes_while_the_batch_reads_its_source_stays(world):
    source = project.source("weather")
    rows = source.read(DAY, END)

    def read(start, end):
        values = row(rows.row(0, named=True) | {"temp": 77.0})
        world.send([{"id": "while-reading", "source": "weather", "row": values}])
        world.drain()
        return rows

    world.send(events_of(DAY, END)[:100])
    world.drain()
    for chunk in ingest(world.lake, project, dataclasses.replace(source, read=read), DAY, END, chunk_days=31):
        assert not chunk.verdict.problems
    stored = world.lake.load("flights/raw/weather", start=DAY, end=END)
    assert stored.height == rows.height
    assert stored["temp"].max() == 77.0
    world.consumer.applier.follow()
    values = world.features("origin_weather")
    assert values["temp"].max() == 77.0
    assert values.height == rows.filter(pl.col("time_hour") < END - timedelta(hours=1)).height + 3


def invented():
    values = project.source("flights").read(DAY, END).row(0, named=True) | {"flight": 9999}
    return {"id": "invented", "source": "flights", "row": row(values)}
