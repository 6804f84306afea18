"""Backfills: chunks, killed ones that go on, and late data that makes exactly the days again that read it."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_pipeline.batch.chunks import chunks, spans
from fti.stores.lake.store import Lake
from tests.feature_pipeline.tiny import DAY, SCHEMA, START, backfill, journal, project, source
from tests.lakes import contents, path_of
from tests.views import with_view

REPOSITORY = Path(__file__).parents[2]
DEADLINE_SECONDS = 60
CHILD = """
import sys
from fti.stores.lake.store import Lake
from tests.feature_pipeline.tiny import backfill
backfill(Lake(sys.argv[1]))
"""


def files(lake):
    """Bytes of every file; what a killed writer left aside is hidden, and nobody reads it."""
    found = (file for file in Path(lake.root).rglob("*") if file.is_file() and not file.name.startswith("."))
    return {str(file.relative_to(lake.root)): file.read_bytes() for file in found}


def changed(before, after):
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The lake of an uninterrupted backfill."""
    lake = Lake(str(tmp_path_factory.mktemp("whole")))
    backfill(lake)
    return lake


@pytest.fixture
def lake(whole, tmp_path):
    """A copy of it."""
    for name, data in files(whole).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return Lake(str(tmp_path))


def test_ranges_are_cut_and_joined():
    assert [(a.day, b.day) for a, b in chunks(START, START + 5 * DAY, 2)] == [(1, 3), (3, 5), (5, 6)]
    assert list(chunks(START, START, 2)) == []
    days = [date(2024, 1, day) for day in (5, 1, 2, 9)]
    assert [(a.day, b.day) for a, b in spans(days)] == [(1, 3), (5, 6), (9, 10)]
    assert spans([]) == []


def test_chunks_of_any_size_write_the_same_bytes(whole, tmp_path):
    lake = Lake(str(tmp_path))
    backfill(lake, chunk_days=77)
    assert contents(lake) == contents(whole)
    assert not journal(lake).stale(journal(lake).days())


def test_a_backfill_that_is_done_makes_and_writes_nothing(lake):
    before = {file: file.stat().st_mtime_ns for file in Path(lake.root).rglob("*.parquet")}
    raw, made = backfill(lake)
    assert not any(chunk.days_written for chunk in raw)
    assert all(chunk.done for chunk in made)
    _, again = backfill(lake, again=True)
    assert not any(chunk.done or chunk.days_written for chunk in again)
    assert {file: file.stat().st_mtime_ns for file in Path(lake.root).rglob("*.parquet")} == before


@pytest.mark.process
def test_a_killed_backfill_goes_on_and_ends_with_the_same_bytes(whole, tmp_path):
    lake, seed = Lake(str(tmp_path)), random.randrange(10**6)
    moments, killed = random.Random(seed), []
    expected = len(contents(whole))
    for share in (0.05, 0.4, 0.75):  # of the files that a whole backfill leaves
        child = subprocess.Popen([sys.executable, "-c", CHILD, lake.root], cwd=REPOSITORY)
        wait_for_files(child, lake, int(expected * (share + moments.uniform(0, 0.2))))
        os.kill(child.pid, signal.SIGKILL)
        child.wait(DEADLINE_SECONDS)
        killed.append(len(contents(lake)))
    assert any(0 < number < expected for number in killed), f"no kill in the middle, seed {seed}"
    _, made = backfill(lake)
    assert any(chunk.done for chunk in made), f"everything was made again, seed {seed}"
    assert contents(lake) == contents(whole), f"seed {seed}"


def wait_for_files(child, lake, number):
    end = time.monotonic() + DEADLINE_SECONDS
    while len(list(Path(lake.root).rglob("*.parquet"))) < number and child.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)


# --- late data ---------------------------------------------------------------------------------------------------


def arrives_late(monkeypatch, folder, *moments):
    """From now on the source has rows of these moments too."""
    columns = {"machine": ["m1"] * len(moments), "read_at": moments, "load": [99] * len(moments)}
    pl.DataFrame(columns, schema=SCHEMA).write_parquet(folder / "late.parquet")
    monkeypatch.setenv("TINY_LATE", str(folder / "late.parquet"))


def test_a_late_row_makes_the_days_again_that_read_it_and_no_other(lake, monkeypatch, tmp_path_factory):
    day, before = date(2024, 3, 10), contents(lake)
    midnight = START + (day - START.date())
    arrives_late(monkeypatch, tmp_path_factory.mktemp("late"), midnight + timedelta(hours=23, minutes=50))
    raw, _ = backfill(lake, start=midnight, end=midnight + DAY)
    assert [chunk.days_written for chunk in raw] == [(day,)]
    stale = journal(lake).late(journal(lake).days())
    assert stale == {day + timedelta(days=number): ["readings 2024-03-10"] for number in (1, 2)}
    for first, last in spans(stale):
        backfill(lake, start=first, end=last)
    assert not journal(lake).stale(journal(lake).days())
    days = {
        Path(name).name.partition("~")[0]
        for name in changed(before, contents(lake))
        if name.startswith("tiny/features")
    }
    assert days == {"2024-03-10", "2024-03-11", "2024-03-12"}

    afresh = Lake(str(tmp_path_factory.mktemp("afresh")))
    backfill(afresh)
    assert contents(afresh) == contents(lake)


def test_the_same_rows_read_again_change_nothing(lake):
    raw, made = backfill(lake, start=START + 50 * DAY, end=START + 60 * DAY)
    assert not any(chunk.days_written for chunk in raw)
    assert all(chunk.done for chunk in made)
    assert journal(lake).late(journal(lake).days()) == {}


def test_a_day_of_features_that_is_damaged_is_made_again(lake):
    before = contents(lake)
    broken = path_of(lake, "tiny/features/newest_load", "2024-02-01")
    broken.write_bytes(broken.read_bytes()[:100])
    day = date(2024, 2, 1)
    assert journal(lake).late([day]) == {day: ["newest_load is not as it was written"]}
    _, made = backfill(lake, start=START + 30 * DAY, end=START + 35 * DAY, chunk_days=1)
    assert [chunk.done for chunk in made] == [True, False, True, True, True]
    assert contents(lake) == before


def test_other_code_makes_every_day_again_and_is_no_late_data(lake):
    used = with_view(project, "newest_load", then=lambda rows: rows.with_columns(pl.col("last_load") * 2))
    days = journal(lake).days()
    assert set(journal(lake, used).stale(days)) == set(days)
    assert journal(lake, used).late(days) == {}
    _, made = backfill(lake, used)
    assert sum(len(chunk.days_written) for chunk in made) == len(days)


def test_a_bad_chunk_stops_the_range_after_the_good_ones(tmp_path):
    def read(start, end):
        rows = source.read(start, end)
        return rows.drop("load") if start >= START + 40 * DAY else rows

    lake = Lake(str(tmp_path))
    used = dataclasses.replace(project, sources=(dataclasses.replace(source, read=read),))
    raw, made = backfill(lake, used, chunk_days=20)
    assert "column 'load' breaks 'is present'" in raw[-1].verdict.problems[0]
    assert len(raw) == 3
    assert lake.days("tiny/raw/readings")[-1] == (START + 39 * DAY).date()
    assert "lacks" in made[-1].problems[0]
    assert len(lake.days("tiny/features/newest_load")) == 40
