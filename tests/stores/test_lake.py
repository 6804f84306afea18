"""The lake replaces whole days and reads only what was asked for."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from fti.errors import NotReadyError
from fti.stores.lake import Lake

START = datetime(2013, 3, 9, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path))


def hourly(hours, value=1):
    times = [START + timedelta(hours=hour) for hour in hours]
    return pl.DataFrame({"at": times, "value": value}, schema={"at": pl.Datetime("us", "UTC"), "value": pl.Int64})


def write(lake, rows, days):
    return lake.write("p/raw/x", rows, time="at", start=START, end=START + timedelta(days=days))


def test_rows_come_back_by_day_and_a_day_without_rows_is_present(lake):
    assert write(lake, hourly([47, 1, 0, 23]), days=3) == 3
    assert lake.days("p/raw/x") == [date(2013, 3, 9), date(2013, 3, 10), date(2013, 3, 11)]
    assert lake.read("p/raw/x").collect().equals(hourly([0, 1, 23, 47]))


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
