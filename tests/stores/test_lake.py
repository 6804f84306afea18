"""The lake replaces whole days and reads only what was asked for; in a folder and in a bucket."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from fti.errors import NotReadyError
from fti.stores.lake import store as lake_module
from fti.stores.lake.store import Lake
from tests.s3_server import moto_server, new_bucket

START = datetime(2013, 3, 9, tzinfo=UTC)


@pytest.fixture(scope="module", params=["folder", "s3"])
def endpoint(request):
    if request.param == "folder":
        yield None
        return
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def lake(endpoint, tmp_path):
    return Lake(new_bucket(endpoint) if endpoint else str(tmp_path))


@pytest.fixture
def local(tmp_path):
    return Lake(str(tmp_path))


def names(lake, table="p/raw/x"):
    """Period -> name of its file."""
    return {file.period: file.name for file in lake.version(table).files if not file.segment}


def hourly(hours, value=1):
    times = [START + timedelta(hours=hour) for hour in hours]
    return pl.DataFrame({"at": times, "value": value}, schema={"at": pl.Datetime("us", "UTC"), "value": pl.Int64})


def write(lake, rows, days):
    return lake.write("p/raw/x", rows, time="at", start=START, end=START + timedelta(days=days))


def test_rows_come_back_by_day_and_a_day_without_rows_is_present(lake):
    days = [date(2013, 3, 9), date(2013, 3, 10), date(2013, 3, 11)]
    assert write(lake, hourly([47, 1, 0, 23]), days=3) == days
    assert lake.days("p/raw/x") == days
    assert lake.read("p/raw/x").collect().equals(hourly([0, 1, 23, 47]))


def test_only_days_that_differ_are_written(lake):
    write(lake, hourly(range(48)), days=2)
    files = names(lake)
    assert write(lake, hourly(range(24), value=2), days=1) == [date(2013, 3, 9)]
    assert write(lake, pl.concat([hourly(range(24), 2), hourly(range(24, 48))]).reverse(), days=2) == []
    assert names(lake)["2013-03-10"] == files["2013-03-10"]
    assert names(lake)["2013-03-09"] != files["2013-03-09"]
    assert [lake.write_static("p/raw/y", hourly([1])) for _ in range(2)] == [True, False]
    assert lake.version("p/raw/y").number == 1


def test_a_file_that_is_broken_is_written_again(local):
    write(local, hourly(range(24, 48)), days=2)
    (local.blobs.path / "p/raw/x" / names(local)["2013-03-10"]).write_bytes(b"PAR1 not")
    assert write(local, hourly(range(24, 48)).reverse(), days=2) == [date(2013, 3, 10)]
    assert local.load("p/raw/x").height == 24


def test_a_day_written_again_replaces_itself_and_no_other(lake):
    write(lake, hourly(range(72)), days=3)
    write(lake, hourly(range(24), value=2), days=1)
    rows = lake.read("p/raw/x").collect()
    assert rows.height == 72
    assert rows["value"].to_list() == [2] * 24 + [1] * 48


def test_reading_a_range_opens_the_days_it_touches(lake):
    write(lake, hourly(range(96)), days=4)
    rows = lake.read("p/raw/x", start=START + timedelta(days=1, hours=3), end=START + timedelta(days=2)).collect()
    assert rows.equals(hourly(range(24, 48)))
    assert lake.read("p/raw/x", start=START + timedelta(days=9)).collect().equals(hourly([]))


def test_rows_outside_the_range_are_refused_and_nothing_is_written(lake):
    with pytest.raises(ValueError, match="2 rows lie outside"):
        write(lake, hourly([0, 24, 25]), days=1)
    with pytest.raises(NotReadyError, match="Materialize its asset first"):
        lake.read("p/raw/x")


def test_a_table_without_days_is_replaced_whole(lake):
    lake.write_static("p/raw/y", pl.DataFrame({"a": [1, 2]}))
    lake.write_static("p/raw/y", pl.DataFrame({"a": [3]}))
    assert lake.read("p/raw/y", start=START).collect()["a"].to_list() == [3]
    assert lake.days("p/raw/y") == []


KEY = ("name", "at")


def named(hours, value, name="a"):
    return hourly(hours, value).with_columns(name=pl.lit(name)).select("name", "at", "value")


def upsert(lake, rows, **options):
    lake.upsert("p/raw/x", rows, key=KEY, time="at", **options)


def test_rows_of_a_segment_replace_those_of_their_key_and_the_day_file_stays(lake):
    write(lake, named(range(48), 1), days=2)
    before = names(lake)["2013-03-10"]
    upsert(lake, named([30, 30, 50], 2))
    upsert(lake, named([30], 3))
    upsert(lake, named([30], 4, name="b"))
    rows = lake.load("p/raw/x")
    assert rows["at"].is_sorted()
    assert rows.filter(pl.col("value") > 1).rows() == [
        ("a", START + timedelta(hours=30), 3),
        ("b", START + timedelta(hours=30), 4),
        ("a", START + timedelta(hours=50), 2),
    ]
    assert rows.height == 50
    assert lake.days("p/raw/x") == [date(2013, 3, 9), date(2013, 3, 10), date(2013, 3, 11)]
    assert names(lake)["2013-03-10"] == before
    assert lake.load("p/raw/x", start=START + timedelta(days=2)).height == 1


def test_a_full_segment_is_closed(lake, monkeypatch):
    monkeypatch.setattr(lake_module, "SEGMENT_ROWS", 3)
    for hour in range(5):
        upsert(lake, named([hour, hour + 6], hour))
    upsert(lake, named([0], 9))
    assert [file.segment for file in lake.version("p/raw/x").segments] == [1, 2, 3]
    assert lake.load("p/raw/x").height == 10
    assert lake.load("p/raw/x")["value"][0] == 9


def test_folding_changes_no_row(lake):
    write(lake, named(range(48), 1), days=2)
    upsert(lake, named([1, 30, 50], 2))
    before = lake.load("p/raw/x")
    folds = lake.compact("p/raw/x")
    assert [(fold.num_keys, fold.num_rows) for fold in folds.values()] == [(24, 24), (24, 24), (1, 1)]
    assert lake.version("p/raw/x").segments == []
    assert lake.load("p/raw/x").equals(before)
    assert lake.compact("p/raw/x") == {}


def test_a_day_written_again_takes_the_place_of_the_segments_it_knew(lake):
    upsert(lake, named([1, 30], 1))
    known = lake.version("p/raw/x")
    upsert(lake, named([31], 2))
    write_options = {"time": "at", "start": START, "end": START + timedelta(days=2)}
    lake.write("p/raw/x", named([1, 2], 3), **write_options, superseded=known)
    assert lake.load("p/raw/x")["value"].to_list() == [3, 3, 1, 2]
    lake.write("p/raw/x", named([1, 2], 3), **write_options)
    assert lake.load("p/raw/x")["value"].to_list() == [3, 3]


def test_rows_that_are_gone_are_nowhere(lake):
    write(lake, named(range(24), 1), days=1)
    upsert(lake, named([3, 5], 2))
    upsert(lake, named([4], 2), gone=named([3, 7], 0).select(KEY))
    rows = lake.load("p/raw/x")
    assert rows["at"].dt.hour().to_list() == [hour for hour in range(24) if hour not in (3, 7)]
    assert rows.filter(pl.col("value") == 2)["at"].dt.hour().to_list() == [4, 5]


def test_readers_and_a_folder_at_work_at_once_see_every_row_once(lake):
    write(lake, named(range(24), 0), days=1)
    done = threading.Event()

    def fold():
        while not done.is_set():
            lake.compact("p/raw/x")

    with ThreadPoolExecutor(1) as pool:
        folder = pool.submit(fold)
        try:
            for value in range(1, 60):
                upsert(lake, named([value % 24], value))
                rows = lake.load("p/raw/x")
                assert rows.height == 24
                assert rows["value"].max() == value
        finally:
            done.set()
        folder.result()


def test_a_read_that_has_begun_sees_the_rows_of_its_beginning(lake):
    write(lake, named(range(24), 0), days=1)
    upsert(lake, named([3], 1))
    rows = lake.read("p/raw/x")
    lake.compact("p/raw/x")
    upsert(lake, named(range(20), 2))
    assert rows.collect()["value"].to_list() == [0, 0, 0, 1] + [0] * 20


FOLDING = """
import sys
from fti.stores.lake.store import Lake
print("ready", flush=True)
while True:
    Lake(sys.argv[1]).compact("p/raw/x")
"""


@pytest.mark.process
def test_a_compaction_that_is_killed_loses_and_doubles_nothing(lake):
    write(lake, named(range(24), 0), days=1)
    value = 0
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", FOLDING, lake.root], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        for _ in range(25):
            value += 1
            upsert(lake, named([value % 24], value))
        child.kill()
        child.wait(10)
        child.stdout.close()
        rows = lake.load("p/raw/x")
        assert rows.height == 24
        assert rows["value"].sort().to_list() == list(range(max(value - 24, -1) + 1, value + 1))
    lake.compact("p/raw/x")
    assert lake.load("p/raw/x").equals(rows)


def test_a_key_without_its_time_is_refused(lake):
    with pytest.raises(ValueError, match="must be part of the key"):
        lake.upsert("p/raw/x", named([1], 1), key=("name",), time="at")
