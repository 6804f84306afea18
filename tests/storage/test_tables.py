"""A table's versions: all of a commit or nothing, no row lost among writers and cleaners, no number used twice."""

import io
import multiprocessing
import os
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from fti.errors import ConflictError, DataError
from fti.storage import tables
from fti.storage.blobs import open_blobs
from fti.storage.tables import TableLog, Version
from fti.stores.lake.store import Lake

NOW = timedelta(0)
START = datetime(2024, 1, 1, tzinfo=UTC)


def parquet(value):
    buffer = io.BytesIO()
    pl.DataFrame({"value": [value]}).write_parquet(buffer)
    return buffer.getvalue()


def add(log, period, value=0):
    """Commit one more file."""
    return log.commit(lambda base: [*base.files, log.put(parquet(value), period=period, rows=1)])


@pytest.fixture
def log(blobs):
    return TableLog(blobs.at("p/raw/x"))


def test_versions_follow_each_other_and_old_ones_can_be_read(log):
    assert log.newest() == Version()
    first, second = add(log, "2024-01-01"), add(log, "2024-01-02")
    assert (first.number, second.number) == (1, 2)
    assert log.newest() == second
    assert log.at(1) == first
    assert log.commit(lambda base: None) == second
    tables._newest.clear()
    assert log.newest() == second
    log.blobs.delete(tables.NEWEST)
    tables._newest.clear()
    assert log.newest() == second


def test_a_writer_that_comes_second_sees_the_first(log):
    seen = []

    def change(base):
        seen.append(base.number)
        if len(seen) == 1:
            add(log, "2024-01-01")
        return [*base.files, log.put(parquet(1), period="2024-01-02", rows=1)]

    assert [file.period for file in log.commit(change).files] == ["2024-01-01", "2024-01-02"]
    assert seen == [0, 1]


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_number_that_was_cleaned_up_is_not_used_again(log, number):
    """A writer sleeps over its commit while others commit and clean up: it must not land where nobody looks."""
    for day in range(number):
        add(log, f"2024-01-0{day + 1}")
    seen = []

    def change(base):
        seen.append(base.number)
        if len(seen) == 1:
            for day in range(5):
                add(log, f"2024-02-0{day + 1}")
            log.clean(NOW)
        return [*base.files, log.put(parquet(1), period="2024-03-01", rows=1)]

    version = log.commit(change)
    assert seen == [number, number + 5]
    tables._newest.clear()
    assert log.newest() == version
    assert len(version.files) == number + 6


def test_a_cleaner_frees_what_nobody_can_name(log):
    add(log, "2024-01-01")
    kept = log.commit(lambda base: [log.put(parquet(2), period="2024-01-01", rows=1)])
    log.keep(kept)
    for value in range(3, 6):
        log.commit(lambda base, value=value: [log.put(parquet(value), period="2024-01-01", rows=1)])
    unborn = log.put(parquet(9), period="2024-01-01", rows=1)
    assert log.clean(timedelta(hours=1)) == 0
    assert log.clean(NOW) == 2
    assert {blob.key for blob in log.blobs.entries(recursive=False)} == {
        file.name for file in (*log.at(4).files, *log.at(5).files, *kept.files, unborn)
    }
    assert log.kept(2) == kept
    with pytest.raises(ConflictError, match="no longer there"):
        log.keep(Version(1, kept.files, "x"))
    assert log.clean(NOW, NOW) == 1
    assert not log.blobs.exists(unborn.name)


def test_a_damaged_manifest_is_told_and_deleting_it_brings_the_version_before_back(log):
    first = add(log, "2024-01-01")
    add(log, "2024-01-02")
    key = tables._manifest(2)
    whole = log.blobs.read(key)
    for place in random.Random(1).sample(range(len(whole) - 1), 25):
        log.blobs.write(key, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        tables._newest.clear()
        with pytest.raises(DataError, match=r"000000000002.json is damaged\. Delete it"):
            log.newest()
    log.blobs.write(key, whole[:40])
    with pytest.raises(DataError, match="is damaged"):
        log.newest()
    log.blobs.delete(key)
    assert log.newest() == first


def test_a_reader_of_a_write_of_thirty_days_sees_all_or_nothing(blobs):
    lake = Lake(blobs.uri)
    end = START + timedelta(days=30)

    def write(value):
        times = pl.datetime_range(START, end, "6h", closed="left", eager=True, time_zone="UTC", time_unit="us")
        rows = pl.DataFrame({"at": times, "value": [value] * len(times)})
        lake.write("p/raw/x", rows, time="at", start=START, end=end)

    def read():
        seen = set()
        while True:
            values = lake.load("p/raw/x")["value"].unique().to_list()
            assert len(values) == 1
            seen |= set(values)
            if 3 in seen:
                return seen

    write(0)
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for value in range(1, 4):
            write(value)
        for reader in readers:
            assert 3 in reader.result(60)


def _writer(uri, name, rounds):
    lake = Lake(uri)
    for number in range(rounds):
        row = {"name": [f"{name}-{number}"], "at": [START + timedelta(hours=number % 48)], "value": [number]}
        rows = pl.DataFrame(row, schema_overrides={"at": pl.Datetime("us", "UTC")})
        lake.upsert("p/raw/x", rows, key=("name", "at"), time="at")


def _caretaker(uri, until):
    lake, log = Lake(uri), TableLog(open_blobs(uri).at("p/raw/x"))
    while not until.is_set():
        lake.compact("p/raw/x")
        log.clean(timedelta(seconds=2))


@pytest.mark.process
@pytest.mark.parametrize("rounds", [50])
def test_eight_writers_a_compactor_and_a_cleaner_lose_no_row(tmp_path, rounds):
    context = multiprocessing.get_context("spawn")
    until = context.Event()
    caretaker = context.Process(target=_caretaker, args=(str(tmp_path), until))
    writers = [context.Process(target=_writer, args=(str(tmp_path), name, rounds)) for name in range(8)]
    for process in (caretaker, *writers):
        process.start()
    for process in writers:
        process.join(300)
    until.set()
    caretaker.join(60)
    assert [process.exitcode for process in (*writers, caretaker)] == [0] * 9
    rows = Lake(str(tmp_path)).load("p/raw/x")
    assert rows.height == 8 * rounds
    assert rows["name"].n_unique() == 8 * rounds
    log = TableLog(open_blobs(str(tmp_path)).at("p/raw/x"))
    assert log.newest().number > 8 * rounds
    assert len(os.listdir(tmp_path / "p/raw/x/_versions")) < 8 * rounds


def test_writers_at_once_in_a_bucket_lose_no_row(s3, blobs):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda name: _writer(blobs.uri, name, 5), range(3)))
    assert Lake(blobs.uri).num_rows("p/raw/x") == 15


def test_a_table_of_the_layout_before_is_adopted(tmp_path):
    folder = tmp_path / "p/raw/x"
    folder.mkdir(parents=True)
    at = pl.Series("at", [START, START + timedelta(hours=1)], dtype=pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"id": [1, 2], "at": at})
    rows.write_parquet(folder / "2024-01-01.parquet")
    facts = {"fti.key": '["id", "at"]', "fti.time": "at"}
    rows.tail(1).write_parquet(folder / "2024-01-01~000001.parquet", metadata=facts)
    lake = Lake(str(tmp_path))
    assert lake.load("p/raw/x").equals(rows)
    assert lake.days("p/raw/x") == [date(2024, 1, 1)]
    assert lake.version("p/raw/x").number == 1
    assert lake.write("p/raw/x", rows, time="at", start=START, end=START + timedelta(days=1)) == [date(2024, 1, 1)]
    assert lake.write("p/raw/x", rows, time="at", start=START, end=START + timedelta(days=1)) == []
