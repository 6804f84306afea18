"""Online features equal offline features, the newest row wins, nothing falls between windows."""

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.errors import NotReadyError
from fti.projects.flights import project
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake

REPO = Path(__file__).parents[2] / "feature_repo"
SERVICE = project.features.service
START = datetime(2013, 1, 1, tzinfo=UTC)
END = datetime(2013, 1, 9, tzinfo=UTC)
NOON = datetime(2013, 1, 8, 12, tzinfo=UTC)


def feature_store(root, lake, online):
    return FeatureStore(REPO, f"{root}/feast", lake, f"sqlite:///{root}/feast/registry.db", online)


@pytest.fixture(scope="module")
def tables():
    return {source.name: source.read(START, END) for source in project.sources}


@pytest.fixture(scope="module")
def lake(tmp_path_factory, tables):
    """A lake with eight days of features."""
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    for view, rows in project.features.rows(tables, START, END).items():
        lake.write(f"flights/features/{view}", rows, time="event_timestamp", start=START, end=END)
    return lake


@pytest.fixture(scope="module")
def registered(tmp_path_factory, lake):
    """A registered feature store, its online tables empty."""
    root = tmp_path_factory.mktemp("registered")
    feature_store(root, lake.root, str(root / "online.db")).apply(project)
    return root


@pytest.fixture
def store(tmp_path, registered, lake, online_path):
    shutil.copytree(registered / "feast", tmp_path / "feast")
    return feature_store(tmp_path, lake.root, online_path)


def empty(store, view):
    """Take a view offline, the way Feast does when a view is deleted."""
    online = store.feast._get_provider().online_store
    online.update(store.feast.config, [store.feast.get_feature_view(view)], [], [], [], partial=False)


@pytest.fixture(scope="module")
def requests(tables):
    """1,000 departures, with keys that nobody has seen and an aircraft not yet assigned among them."""
    rows = project.label.rows(tables).select(project.service.request.keys()).sample(1000, seed=1)
    strange = rows.head(3).with_columns(
        dest=pl.lit("ZZZ"), tailnum=pl.lit(None, pl.String), flight=pl.lit(-1, pl.Int64)
    )
    return pl.concat([rows.tail(997), strange])


def moment(requests, now):
    return requests.with_columns(event_timestamp=pl.lit(now, pl.Datetime("us", "UTC")))


@pytest.mark.parametrize("now", [NOON, NOON + timedelta(minutes=37), END])
def test_online_features_equal_offline_features(store, requests, now):
    store.materialize(SERVICE, START, now)
    asked = moment(requests, now)
    online = store.online(SERVICE, asked)
    offline = store.historical(SERVICE, asked).drop(asked.columns)
    assert online.columns == [*offline.columns, "missing_views", "stale_views"]
    assert online.drop("missing_views", "stale_views").equals(offline)
    assert online["origin_count_1d"].is_not_null().all()


def test_what_is_missing_is_named(store, requests):
    store.materialize(SERVICE, START, NOON)
    strange = store.online(SERVICE, moment(requests, NOON).tail(1))
    assert strange["missing_views"].to_list() == [["dest_delays", "flight_delays", "aircraft_delays", "route_facts"]]
    assert strange.select(pl.col("^(dest|flight|aircraft|route)_.*$").is_null().all()).row(0) == (True,) * 36


def test_values_that_outlived_their_ttl_are_stale_online_and_null_as_offline(store, requests):
    store.materialize(SERVICE, START, NOON)
    one = requests.head(1)
    for hours, gone in ((6, False), (8, True)):
        online = store.online(SERVICE, moment(one, NOON + timedelta(hours=hours)))
        assert online["missing_views"].to_list() == [[]]
        assert ("origin_weather" in online["stale_views"][0]) == gone
        assert online["temp"].is_null().all() == gone
    assert store.online(SERVICE, one)["temp"].is_not_null().all()


def test_two_hour_windows_in_any_order_end_where_one_window_does(store, requests, tmp_path, registered, lake):
    windows = [NOON - timedelta(hours=2 * step) for step in range(1, 12)]
    for start in [*windows[1::2], *windows[::2]]:
        store.materialize(SERVICE, start, start + timedelta(hours=2))
    shutil.copytree(registered / "feast", tmp_path / "other" / "feast")
    other = feature_store(tmp_path / "other", lake.root, str(tmp_path / "other.db"))
    other.materialize(SERVICE, min(windows), NOON)
    assert store.online(SERVICE, requests).equals(other.online(SERVICE, requests))


def test_rows_on_the_edge_of_a_window_are_written(store, lake):
    edge = lake.read("flights/features/origin_weather").select(pl.col("event_timestamp").max()).collect().item()
    written = store.materialize(SERVICE, edge, edge)
    assert written["origin_weather"] == 3
    assert store.missing_online(SERVICE, edge, edge)["origin_weather"] == 0


def test_what_never_came_online_is_counted(store, lake):
    store.materialize(SERVICE, START, NOON)
    newest = lake.read("flights/features/carrier_delays").filter(pl.col("event_timestamp") <= NOON).collect()
    newest = newest.sort("event_timestamp").unique("carrier", keep="last")
    older = newest.with_columns(pl.col("event_timestamp") - pl.when(carrier="UA").then(timedelta(microseconds=1)))
    for view in ("origin_delays", "carrier_delays"):
        empty(store, view)
    store.write_online(SERVICE, {"carrier_delays": newest.filter(pl.col("carrier") != "UA")})
    store.write_online(SERVICE, {"carrier_delays": older.filter(pl.col("carrier") == "UA")})
    missing = store.missing_online(SERVICE, START, NOON)
    assert {view: count for view, count in missing.items() if count} == {"origin_delays": 3, "carrier_delays": 1}


@pytest.mark.parametrize("most", [3, 2_000_000])
def test_batches_of_few_rows_end_where_one_batch_does(store, requests, monkeypatch, most):
    monkeypatch.setattr("fti.stores.features.materialization.MOST_ENTITIES", most)
    store.materialize(SERVICE, START, NOON)
    expected = store.online(SERVICE, requests)
    for view in store.feature_names(SERVICE):
        empty(store, view)
    assert store.newest_online(SERVICE) is None
    small = replace(store, batch_rows=500)
    small.materialize(SERVICE, START, NOON)
    assert small.online(SERVICE, requests).equals(expected)
    assert set(small.missing_online(SERVICE, START, NOON).values()) == {0}


def test_recorded_materialization_survives_registration_and_an_emptied_store_starts_over(store):
    assert store.materialized_until(SERVICE) is None
    store.materialize(SERVICE, START, NOON, record=True)
    store.apply(project)
    assert store.materialized_until(SERVICE) == NOON
    empty(store, "origin_weather")
    assert store.materialized_until(SERVICE) is None


def test_a_reader_sees_all_views_of_one_moment_while_another_thread_writes(store, requests):
    store.materialize(SERVICE, START, NOON - timedelta(days=1))
    one, answers, stop = requests.head(1), [], threading.Event()

    def read():
        while not stop.is_set():
            answers.append(store.online(SERVICE, one))

    reader = threading.Thread(target=read)
    reader.start()
    for hour in range(0, 24, 2):
        end = NOON - timedelta(hours=22 - hour)
        store.materialize(SERVICE, end - timedelta(hours=2), end)
    stop.set()
    reader.join()
    assert len(answers) > 10
    assert all(answer.columns == answers[0].columns and answer.height == 1 for answer in answers)
    assert not answers[0].equals(store.online(SERVICE, one))


def test_an_unregistered_service_says_what_to_do(store):
    with pytest.raises(NotReadyError, match="'nothing_v1' is not registered"):
        store.online("nothing_v1", pl.DataFrame({"origin": ["EWR"]}))


def test_the_transform_makes_exactly_the_registered_views(store, tables):
    views = project.features.rows(tables, NOON, END)
    schemas = store.schemas(SERVICE)
    assert set(views) == set(schemas)
    for view, rows in views.items():
        declared = {**schemas[view].keys, **schemas[view].features, "event_timestamp": pl.Datetime("us", "UTC")}
        assert dict(rows.schema) == declared, view
    names = [name for features in store.feature_names(SERVICE).values() for name in features]
    assert len(names) == len(set(names)) == 86


@pytest.mark.process
def test_feast_apply_works_by_hand(tmp_path):
    repo = shutil.copytree(REPO, tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    feast = Path(sys.executable).with_name("feast")
    for command, expected in ((["apply"], "flight_delays"), (["feature-services", "list"], SERVICE)):
        done = subprocess.run([feast, *command], cwd=repo, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout
    assert (tmp_path / ".fti" / "feast" / "registry.db").exists()
