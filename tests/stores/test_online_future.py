"""Rows ahead of the clock: refused when they are written, and those that are there already give way to any other."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fti.errors import DataError
from tests.stores.test_online_store import HOUR, NOON, driver, moods, read, store_at, trips, write

FUTURE = datetime(2199, 1, 1, tzinfo=UTC)
NEVER_TOO_LATE = 10**10


def opened(folder, online_path, max_ahead_seconds=None):
    """The store; with `max_ahead_seconds`, it takes rows as far ahead."""
    store = store_at(folder, online_path, [driver, trips, moods])
    if max_ahead_seconds is not None:
        store.config.online_store.max_ahead_seconds = max_ahead_seconds
    return store


def row(count):
    return {"driver": ["ann"], "count": [count], "mean": [0.0]}


def written_frame(store, count, moment):
    """FTI's own way in."""
    micros = pl.Series([moment]).dt.epoch("us")
    rows = pl.DataFrame(row(count)).with_columns(event_ts=micros, created_ts=pl.lit(None, pl.Int64))
    store._get_provider().online_store.write(store.config, store.get_feature_view("trips"), rows)


@pytest.mark.parametrize("moment", [FUTURE, datetime.now(UTC) + timedelta(days=2), datetime(9999, 12, 31, tzinfo=UTC)])
def test_a_row_ahead_of_the_clock_is_refused_and_the_one_that_is_there_stays(tmp_path, online_path, moment):
    store = opened(tmp_path, online_path)
    write(store, "trips", row(1))
    for way in (lambda: write(store, "trips", row(2), moment), lambda: written_frame(store, 2, moment)):
        with pytest.raises(DataError, match=r"view test_trips: a row of .* ahead of the clock .*max_ahead_seconds"):
            way()
    several = pl.DataFrame({"driver": ["bob", "ann"], "count": [5, 2], "mean": [0.0, 0.0]}).to_pandas()
    with pytest.raises(DataError, match="ahead of the clock"):
        store.write_to_online_store("trips", several.assign(event_timestamp=[NOON, moment]))
    assert read(store, ["trips:count"], driver=["ann", "bob"])["count"] == [1, None]


def test_clocks_may_differ_by_less_than_the_bound(tmp_path, online_path):
    store = opened(tmp_path, online_path)
    write(store, "trips", row(1), datetime.now(UTC) + HOUR)
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [1]
    with pytest.raises(DataError, match="over 0:00:00 ahead"):
        write(opened(tmp_path, online_path, 0), "trips", row(2), datetime.now(UTC) + HOUR)


@pytest.mark.parametrize("way", ["push", "frame"])
@pytest.mark.parametrize("moment", [NOON, datetime(2013, 1, 1, tzinfo=UTC)])
def test_a_row_of_2199_that_is_there_already_does_not_win(tmp_path, online_path, way, moment):
    old = opened(tmp_path, online_path, NEVER_TOO_LATE)
    write(old, "moods", {"driver": ["ann"], "mood": ["calm"], "happy": [True]})
    write(old, "trips", row(999), FUTURE)
    store = opened(tmp_path, online_path)
    put = written_frame if way == "frame" else lambda own, count, at: write(own, "trips", row(count), at)
    put(store, 1, moment)
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [1]
    put(store, 2, moment + HOUR)
    put(store, 3, moment - HOUR)
    found = read(store, ["trips:count", "moods:mood"], driver=["ann"])
    assert (found["count"], found["mood"]) == ([2], ["calm"])
    backend = store._get_provider().online_store.backend(store.config)
    (newest,) = [backend.newest([view]) for view in _views(store)]
    assert list(newest.values()) == [int((moment + HOUR).timestamp() * 1_000_000)]


def _views(store):
    from fti.stores.features.online.sections import view_id
    from fti.stores.features.online.store import table_name

    return [view_id(table_name(store.config, store.get_feature_view("trips")))]
