"""A long history lies by month: late data makes exactly its months again, a backfill that was cut short goes on, and
lineage and training datasets name months."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from itertools import chain, takewhile

import polars as pl
import pytest

from feature_pipeline.batch.chunks import chunks
from feature_pipeline.batch.ingest import ingest
from feature_pipeline.batch.pending import mark, pending, settle
from feature_pipeline.batch.quarantine import set_aside
from feature_pipeline.batch.transform import make_range
from fti.errors import DataError
from fti.operations.lineage import changed_periods
from fti.stores.lake.store import Lake
from fti.versions.fingerprint import recorded
from tests.feature_pipeline import tiny
from tests.feature_pipeline.tiny import DAY, SCHEMA, SCHEMAS, START, backfill, journal
from tests.lakes import periods
from training_pipeline.dataset.manifest import raw_fingerprints

MIDDLE = START + timedelta(days=13)
END = START + timedelta(days=190)
label = dataclasses.replace(tiny.project.label, sources=("readings",))
monthly = dataclasses.replace(
    tiny.project, label=label, partition_by="month", partitions_start=MIDDLE, partitions_end=END
)
RAW = "tiny/raw/readings"
VIEWS = [f"tiny/features/{view}" for view in SCHEMAS]


def fill(lake, used=monthly, **options):
    return backfill(lake, used, used.partitions_start, used.partitions_end, **options)


@pytest.fixture
def lake(tmp_path):
    lake = Lake(str(tmp_path))
    fill(lake)
    return lake


@pytest.fixture
def late(tmp_path_factory, monkeypatch):
    """The source has one more row, at noon of the day that is given."""

    def add(day):
        path = tmp_path_factory.mktemp("late") / "late.parquet"
        noon = datetime(day.year, day.month, day.day, 12, 0, 1, tzinfo=UTC)
        pl.DataFrame({"machine": ["m1"], "read_at": [noon], "load": [99]}, schema=SCHEMA).write_parquet(path)
        monkeypatch.setenv("TINY_LATE", str(path))

    return add


def names(lake, table):
    return periods(lake, table)


def stems(days):
    return sorted({f"{day:%Y-%m}" for day in days})


def test_chunks_keep_months_whole():
    cut = [(f"{a:%m-%d}", f"{b:%m-%d}") for a, b in chunks(MIDDLE, START + 80 * DAY, 40, "month")]
    assert cut == [("01-14", "02-01"), ("02-01", "03-01"), ("03-01", "03-21")]
    assert [f"{b:%m-%d}" for _, b in chunks(START, START + 80 * DAY, 1, "month")] == ["02-01", "03-01", "03-21"]


def test_a_table_has_a_file_a_month_and_the_rows_of_a_day_file_table(lake, tmp_path):
    assert all(names(lake, table) == stems([MIDDLE + n * DAY for n in range(177)]) for table in [RAW, *VIEWS])
    daily = Lake(str(tmp_path / "daily"))
    fill(daily, dataclasses.replace(monthly, partition_by="day"))
    for table in [RAW, *VIEWS]:
        assert lake.load(table).equals(daily.load(table))
        assert lake.days(table) == daily.days(table)
        start, end = START + 40 * DAY, START + 71.5 * DAY
        assert lake.load(table, start=start, end=end).equals(daily.load(table, start=start, end=end))


def test_a_backfill_that_is_done_makes_nothing(lake):
    raw, made = fill(lake)
    assert not any(chunk.days_written for chunk in raw)
    assert all(chunk.done for chunk in made)


def test_late_data_makes_its_month_and_those_that_look_back_on_it(lake, late):
    before = lake.load(VIEWS[0])
    late(date(2024, 3, 30))  # the lookback is two days
    raw = list(ingest(lake, monthly, tiny.source, MIDDLE, END, chunk_days=92))
    assert stems(chain.from_iterable(chunk.days_written for chunk in raw)) == ["2024-03"]
    stale = journal(lake, monthly).stale(journal(lake, monthly).days())
    assert stems(stale) == ["2024-03", "2024-04"]
    assert set(chain.from_iterable(stale.values())) == {"readings 2024-03"}
    assert stems(journal(lake, monthly).late(list(stale))) == ["2024-03", "2024-04"]
    _, made = fill(lake, chunk_days=31)
    assert stems(chain.from_iterable(chunk.days_written for chunk in made)) == ["2024-03", "2024-04"]
    assert [f"{chunk.start:%Y-%m}" for chunk in made if not chunk.done] == ["2024-03", "2024-04"]
    assert not journal(lake, monthly).stale(journal(lake, monthly).days())
    fresh = lake.load(VIEWS[0])
    assert stems(fresh.join(before, on=fresh.columns, how="anti")["event_timestamp"]) == ["2024-03", "2024-04"]
    assert fresh.height == before.height + 1


def test_a_backfill_that_was_cut_short_goes_on(tmp_path, lake):
    short = Lake(str(tmp_path / "short"))
    list(ingest(short, monthly, tiny.source, MIDDLE, END, chunk_days=31))
    cut = make_range(journal(short, monthly), SCHEMAS, MIDDLE, END, chunk_days=31)
    first = [next(cut) for _ in range(3)]
    cut.close()
    assert stems(journal(short, monthly).days()) == ["2024-01", "2024-02", "2024-03"]
    _, made = fill(short, chunk_days=31)
    assert [chunk.done for chunk in made] == [True] * 3 + [False] * (len(made) - 3)
    assert [chunk.start for chunk in takewhile(lambda chunk: chunk.done, made)] == [chunk.start for chunk in first]
    assert all(short.load(table).equals(lake.load(table)) for table in VIEWS)


def test_a_month_that_grows_is_made_again_and_its_days_are_known(tmp_path):
    lake = Lake(str(tmp_path))
    growing = dataclasses.replace(monthly, partitions_end=START + 70 * DAY)
    fill(lake, growing)
    assert lake.days(RAW)[-1] == date(2024, 3, 10)
    lake.require(RAW, MIDDLE, START + 70 * DAY)
    with pytest.raises(Exception, match="lacks 1 of the days"):
        lake.require(RAW, MIDDLE, START + 71 * DAY)
    grown = dataclasses.replace(monthly, partitions_end=START + 72 * DAY)
    raw, made = fill(lake, grown)
    assert stems(chain.from_iterable(chunk.days_written for chunk in raw)) == ["2024-03"]
    assert made[-1].days_written[-1] == date(2024, 3, 12)
    assert not journal(lake, grown).stale([date(2024, 3, day) for day in range(1, 13)])
    assert list(journal(lake, grown).stale([date(2024, 3, 12), date(2024, 3, 13)])) == [date(2024, 3, 13)]


def test_a_dataset_names_whole_months_and_the_days_at_its_edges(lake, late):
    prints = raw_fingerprints(monthly, lake, MIDDLE, START + 62 * DAY)["readings"]
    january, march = [f"2024-01-{day}" for day in range(14, 32)], ["2024-03-01", "2024-03-02"]
    assert sorted(prints) == sorted([*january, "2024-02", *march])
    assert prints == recorded(monthly, lake, "readings", prints)
    assert changed_periods(monthly, lake, "readings", prints) == []
    late(date(2024, 2, 10))
    fill(lake)
    assert changed_periods(monthly, lake, "readings", prints) == ["2024-02"]
    late(date(2024, 3, 20))
    fill(lake)
    assert changed_periods(monthly, lake, "readings", prints) == []


def test_rows_set_aside_lie_by_month(lake):
    bad = lake.load("tiny/quarantine/readings")
    assert bad.height == 177
    assert names(lake, "tiny/quarantine/readings") == names(lake, RAW)
    set_aside(
        lake, "tiny/quarantine/readings", bad.clear(), time="read_at", start=START + 31 * DAY, end=END, by="month"
    )
    assert names(lake, "tiny/quarantine/readings") == ["2024-01"]


def test_months_wait_to_be_brought_online(lake):
    seen = pending(lake, monthly)
    assert list(seen) == names(lake, RAW)
    mark(lake, monthly, [date(2024, 2, 5)])
    settle(lake, monthly, seen)
    assert list(pending(lake, monthly)) == ["2024-02"]


def test_rows_that_come_one_by_one_join_their_month(lake):
    noon = datetime(2024, 2, 5, 12, tzinfo=UTC)
    row = pl.DataFrame({"machine": ["new"], "read_at": [noon], "load": [1]}, schema=SCHEMA)
    days, before = lake.days(RAW), lake.load(RAW)
    lake.upsert(RAW, row, key=("machine", "read_at"), time="read_at", by="month")
    assert [file.period for file in lake.version(RAW).segments] == ["2024-02"]
    assert lake.days(RAW) == days
    assert lake.load(RAW, start=noon - DAY, end=noon + DAY).height == 3 * tiny.PER_DAY - 3 + 1
    folds = lake.compact(RAW)
    assert folds[date(2024, 2, 1)].num_keys == folds[date(2024, 2, 1)].num_rows
    assert lake.days(RAW) == days
    assert lake.load(RAW).sort("read_at", "machine").equals(pl.concat([before, row]).sort("read_at", "machine"))
    assert not lake.version(RAW).segments


def test_a_table_is_not_written_by_day_and_by_month(lake):
    with pytest.raises(DataError, match=r"lies by month, and is to be written by day: set .* back, or delete"):
        fill(lake, dataclasses.replace(monthly, partition_by="day"))
