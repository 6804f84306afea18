"""`online_equals_offline`: passes on honest stores, fails when one of them holds another value."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.model.records import Manifest
from fti.projects.flights import project
from fti.stores.datasets.store import TrainingDataset
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake
from training_pipeline.judging.parity import differences, newest_entities, parity, verdict

SERVICE = project.features.service
START, END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 4, tzinfo=UTC)
NOON = datetime(2013, 1, 3, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def tables():
    return {source.name: source.read(START, END) for source in project.sources}


@pytest.fixture
def store(tmp_path, tables):
    """Three days of features in the lake, online until noon of the last: the replay's state in the middle of a day."""
    lake = Lake(str(tmp_path / "lake"))
    for view, rows in project.features.rows(tables, START, END).items():
        lake.write(f"flights/features/{view}", rows, time="event_timestamp", start=START, end=END)
    state = tmp_path / "feast"
    made = FeatureStore(
        Path(__file__).parents[2] / "feature_repo",
        str(state),
        lake.root,
        f"sqlite:///{state}/registry.db",
        str(state / "online.db"),
    )
    made.apply(project)
    return made


@pytest.fixture(scope="module")
def entities(tables):
    rows = project.label.rows(tables).with_columns(event_timestamp=pl.col("sched_dep") - timedelta(hours=2))
    manifest = Manifest(task="binary", label=project.label.name, numeric=(), categorical=())
    dataset = TrainingDataset("v", {"test": rows.sample(fraction=1, shuffle=True, seed=1)}, manifest)
    newest = newest_entities(dataset, [*project.service.request], 300)
    assert newest.height == 300
    assert newest["sched_dep"].min() > rows["sched_dep"].quantile(0.5)
    return newest


def test_stores_in_the_middle_of_a_day_are_equal(store, entities):
    store.materialize(SERVICE, START, NOON)
    found, moment = parity(store, SERVICE, entities)
    assert moment == store.newest_online(SERVICE)
    assert NOON - timedelta(hours=1) < moment <= NOON
    passed, description = verdict(SERVICE, found, moment, entities.height)
    assert passed, description
    assert store.online(SERVICE, entities)["origin_count_1d"].is_not_null().all()


def test_nothing_online_fails_with_a_sentence(store, entities):
    passed, description = verdict(SERVICE, *parity(store, SERVICE, entities), entities.height)
    assert not passed
    assert description == f"Nothing of {SERVICE} is online: materialize online_features first."


def test_a_value_that_was_tampered_with_is_named(store, entities):
    store.materialize(SERVICE, START, NOON)
    _, moment = parity(store, SERVICE, entities)
    lake = Lake(store.lake)
    rows = lake.load("flights/features/origin_weather").filter(pl.col("event_timestamp") <= moment)
    newest = rows.filter(pl.col("origin") == "EWR").sort("event_timestamp").tail(1)
    temp = newest["temp"].item()
    store.write_online(SERVICE, {"origin_weather": newest.with_columns(temp=pl.col("temp") + 1e-3)})
    found, _ = parity(store, SERVICE, entities)
    passed, description = verdict(SERVICE, found, moment, entities.height)
    assert not passed
    count = entities.filter(pl.col("origin") == "EWR").height
    assert f"origin_weather.temp in {count} rows, for example online {temp + 1e-3:.3f}"[:-1] in description
    assert f"offline {temp}" in description
    assert "origin EWR" in description
    assert "again with an earlier `start`" in description
    store.write_online(SERVICE, {"origin_weather": newest})
    assert parity(store, SERVICE, entities)[0] == []


def test_a_row_that_never_came_online_is_found(store, entities):
    store.materialize(SERVICE, START, NOON - timedelta(hours=6))
    store.materialize(SERVICE, NOON - timedelta(hours=2), NOON)
    found, _ = parity(store, SERVICE, entities)
    assert {difference.view for difference in found} >= {"flight_delays", "aircraft_delays"}


def test_null_and_nan_are_equal_to_themselves_only():
    number = pl.Float32
    online = pl.DataFrame({"a": [None, float("nan"), None, 1.0]}, schema={"a": number})
    offline = pl.DataFrame({"a": [None, float("nan"), float("nan"), 1.0 + 1e-7]}, schema={"a": number})
    (found,) = differences(online, offline, {"view": ["a"]}, pl.DataFrame({"key": [1, 2, 3, 4]}))
    assert found.count == 2
    assert found.example == "online None, offline nan (key 3)"
