"""What is a time and what is none, whatever the column's type."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from fti.errors import DataError
from fti.times import UTC_TIME, as_times, from_objects, require_times, utc

NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)
TOKYO = timezone(timedelta(hours=9))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-02", datetime(2024, 1, 2, tzinfo=UTC)),
        ("2024-01-02T12:00", NOON),
        ("2024-01-02 12:00:00", NOON),
        ("2024-01-02T12:00:00Z", NOON),
        ("2024-01-02T21:00:00.000+09:00", NOON),
        ("2024-01-02 21:00:00+09", NOON),
        ("2024-01-02T03:30:00-0830", NOON),
        ("2024-01-02T12:00:00.123456789Z", NOON + timedelta(microseconds=123456)),
        ("1969-12-31T23:59:59.9999999Z", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_text_is_iso_8601(text, moment):
    mixed = pl.Series("t", [None, text, "2024-02-29"])
    expected = [None, moment, datetime(2024, 2, 29, tzinfo=UTC)]
    assert as_times(mixed).to_list() == expected
    assert as_times(mixed.cast(pl.Categorical)).to_list() == expected
    frame = mixed.to_frame().lazy()
    assert frame.select(utc(frame.collect_schema(), "t")).collect(engine="streaming")["t"].to_list() == expected


NO_TIMES = ["01/02/2024", "2024-13-01", "2024-02-30", "20240102", "1704067200", "", " 2024-01-02", "2024-01-02\n"]
NO_TIMES += ["2024-01-02T24:00", "2024-01-02T23:59:60", "2024-01-02T12", "2024-W01-2", "2024-01", "31.12.2024", "null"]
NO_TIMES += ["2024-01-02T12:00+24:00", "٢٠٢٤-01-02", "24-01-02", "Jan 2 2024"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_other_text_is_refused_with_its_row_also_one_among_many(text):
    values = pl.Series("t", ["2024-01-01"] * 2000).extend(pl.Series([text]))
    with pytest.raises(DataError, match=r"the rows: 't' is text that is no ISO 8601 time in 1 of 2001 .* row 2000: "):
        as_times(values)
    with pytest.raises(DataError, match="readings: 't' is text that is no ISO 8601 time"):
        values.to_frame().lazy().select(utc(pl.Schema({"t": pl.String}), "t", "readings")).collect(engine="streaming")


NUMBERS = (pl.Int8, pl.Int32, pl.Int64, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.Decimal(20, 3))


@pytest.mark.parametrize("dtype", [*NUMBERS, pl.Duration("us"), pl.Time, pl.Binary, pl.List(pl.Datetime)])
def test_what_is_no_time_is_refused_also_without_rows(dtype):
    with pytest.raises(DataError, match=r"view a: 't' is .* no time.* pl.from_epoch\('t'"):
        as_times(pl.Series("t", [], dtype), "view a")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York", "Asia/Kolkata"])
def test_units_and_zones_are_the_same_moments(unit, zone):
    column = pl.Series("t", [NOON, None, datetime(1950, 7, 1, tzinfo=UTC)], UTC_TIME)
    column = column.dt.convert_time_zone(zone) if zone else column.dt.replace_time_zone(None)
    found = as_times(column.dt.cast_time_unit(unit))
    assert found.dtype == UTC_TIME
    assert found.to_list() == [NOON, None, datetime(1950, 7, 1, tzinfo=UTC)]


def test_nanoseconds_are_cut_off_downwards_on_both_sides_of_1970():
    column = pl.Series("t", [-1, 1, 1999]).cast(pl.Datetime("ns"))
    assert as_times(column).to_physical().to_list() == [-1, 0, 1]
    assert from_objects("t", [pd.Timestamp(value) for value in (-1, 1, 1999)]).to_physical().to_list() == [-1, 0, 1]


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("t", [0, 2**62]).cast(pl.Datetime("ms")),
        pl.Series("t", [0, -(2**62)]).cast(pl.Datetime("ms", "Asia/Tokyo")),
        pl.Series("t", [0, 2**31 - 1], pl.Int32).cast(pl.Date),
    ],
)
def test_a_time_that_microseconds_cannot_hold_is_refused(column):
    assert as_times(column[:1]).to_list() == [datetime(1970, 1, 1, tzinfo=UTC)]
    with pytest.raises(DataError, match=r"'t' has the time -?[0-9]+ (days|milliseconds) from 1970.*too far away"):
        as_times(column)


def test_an_object_that_lies_in_no_year_of_utc_is_refused():
    west = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))
    with pytest.raises(DataError, match=r"row 0 is '9999-12-31 23:59:59"):
        as_times(pl.Series("t", [west], pl.Object))


def test_objects_of_any_library_and_zone_are_times():
    values = [NOON, NOON.astimezone(TOKYO), datetime(2024, 1, 2, 12), date(2024, 1, 2), np.datetime64("2024-01-02T12")]
    values += [pd.Timestamp(NOON).tz_convert("Asia/Tokyo"), "2024-01-02T12:00Z", None, pd.NaT, pd.NA, float("nan")]
    midnight = datetime(2024, 1, 2, tzinfo=UTC)
    assert from_objects("t", values).to_list() == [NOON, NOON, NOON, midnight, NOON, NOON, NOON, *[None] * 4]


@pytest.mark.parametrize("value", [1, 1.5, True, Decimal(1), timedelta(1), [NOON], np.int64(1), "01/02/2024"])
def test_one_object_that_is_no_time_is_refused_with_its_row(value):
    with pytest.raises(DataError, match=r"entity rows: 't' .*row 1\b"):
        from_objects("t", [NOON, value, None], "entity rows")


def test_a_row_without_its_moment_is_named():
    rows = pl.DataFrame({"t": [NOON, None, None]})
    with pytest.raises(DataError, match="entity rows: 't' is null in 2 of 3 rows, first in row 1"):
        require_times(rows, "t", "entity rows")
