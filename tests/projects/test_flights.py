"""The flights project: times are right, the label is honest, and no feature knows the future."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fti.errors import NotReadyError
from fti.projects.flights import calendar, project
from fti.projects.nycflights import utc_times
from fti.stores.features.offline.point_in_time import History, point_in_time_join
from fti.times import UTC_TIME

ZONES = {"LAX": "America/Los_Angeles", "ORD": "America/Chicago", "MIA": "America/New_York", "PHX": "America/Phoenix"}
ZONES |= {"BQN": "America/Puerto_Rico", "HNL": "Pacific/Honolulu"}
START = datetime(2013, 1, 1, tzinfo=UTC)
END = datetime(2013, 1, 7, tzinfo=UTC)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def flight(day, clock, dest, sched_arr_time, dep_delay=0, arr_delay=0):
    """One row of the package's file: `clock` in New York, `sched_arr_time` (hhmm) at the destination."""
    year, month, day_of_month = map(int, day.split("-"))
    hour, minute = map(int, clock.split(":"))
    date = {"year": year, "month": month, "day": day_of_month, "hour": hour, "minute": minute}
    who = {
        "carrier": "UA",
        "flight": 1,
        "tailnum": "N1",
        "origin": "EWR",
        "dest": dest,
        "distance": 100,
        "air_time": 60,
    }
    return date | who | {"sched_arr_time": sched_arr_time, "dep_delay": dep_delay, "arr_delay": arr_delay}


# New York leaves standard time (UTC-5) on March 10 at 07:00 UTC and returns to it on November 3 at 06:00 UTC.
TIMES = {
    "winter, west": (flight("2013-01-15", "08:30", "LAX", 1145), "2013-01-15 13:30", "2013-01-15 19:45"),
    "summer, west": (flight("2013-07-15", "08:30", "LAX", 1145), "2013-07-15 12:30", "2013-07-15 18:45"),
    "lands next day": (flight("2013-01-15", "23:59", "BQN", 440), "2013-01-16 04:59", "2013-01-16 08:40"),
    "lands at midnight": (flight("2013-01-15", "21:00", "ORD", 2400), "2013-01-16 02:00", "2013-01-16 06:00"),
    "lands next day, west": (flight("2013-01-15", "21:00", "LAX", 30), "2013-01-16 02:00", "2013-01-16 08:30"),
    "ten hours back": (flight("2013-01-15", "10:00", "HNL", 1530), "2013-01-15 15:00", "2013-01-16 01:30"),
    "before clocks jump": (flight("2013-03-09", "23:00", "BQN", 345), "2013-03-10 04:00", "2013-03-10 07:45"),
    "over the jump": (flight("2013-03-10", "01:30", "ORD", 300), "2013-03-10 06:30", "2013-03-10 08:00"),
    "after the jump": (flight("2013-03-10", "06:00", "PHX", 830), "2013-03-10 10:00", "2013-03-10 15:30"),
    "before clocks return": (flight("2013-11-02", "23:30", "MIA", 230), "2013-11-03 03:30", "2013-11-03 07:30"),
    "in the doubled hour": (flight("2013-11-03", "01:30", "LAX", 500), "2013-11-03 05:30", "2013-11-03 13:00"),
    "after the return": (flight("2013-11-03", "05:30", "PHX", 815), "2013-11-03 10:30", "2013-11-03 15:15"),
}


@pytest.mark.parametrize("case", TIMES)
def test_local_clocks_become_utc(case):
    row, sched_dep, sched_arr = TIMES[case]
    times = utc_times(pl.DataFrame([row]), ZONES).row(0, named=True)
    assert times["sched_dep"] == utc(sched_dep)
    assert times["sched_arr"] == utc(sched_arr)


def test_actual_times_are_the_scheduled_ones_and_the_delay():
    row = flight("2013-03-09", "23:00", "LAX", 130, dep_delay=-7, arr_delay=1500)
    times = utc_times(pl.DataFrame([row]), ZONES).row(0, named=True)
    assert times["dep"] == utc("2013-03-10 03:53")
    assert times["arr"] == utc("2013-03-11 10:30")


def test_a_clock_that_the_destination_skips_has_no_time():
    row = flight("2013-03-09", "23:00", "LAX", 230)
    assert utc_times(pl.DataFrame([row]), ZONES)["sched_arr"].to_list() == [None]


def test_cancelled_and_diverted_flights_have_no_label():
    rows = [
        flight("2013-01-15", "08:30", "LAX", 1145, arr_delay=29),
        flight("2013-01-15", "08:30", "LAX", 1145, arr_delay=30),
        flight("2013-01-15", "08:30", "LAX", 1145, dep_delay=None, arr_delay=None),
        flight("2013-01-15", "08:30", "LAX", 1145, dep_delay=5, arr_delay=None),
    ]
    flights = utc_times(pl.DataFrame(rows, infer_schema_length=None), ZONES)
    labels = project.label.rows({"flights": flights})
    assert labels["late"].to_list() == [0, 1, None, None]
    assert labels["known_at"].is_null().to_list() == [False, False, True, True]
    assert flights["dep"].is_null().to_list() == [False, False, True, False]


def test_an_airport_without_a_zone_says_where_to_add_it():
    with pytest.raises(NotReadyError, match="ZONES_NOT_LISTED"):
        utc_times(pl.DataFrame([flight("2013-01-15", "08:30", "XYZ", 1145)]), ZONES)


def test_every_scheduled_arrival_follows_its_departure_within_a_day():
    rows = project.source("flights").read(START, datetime(2014, 1, 2, tzinfo=UTC))
    assert rows.height == 336_776
    duration = rows.select(pl.col("sched_arr") - pl.col("sched_dep")).to_series()
    assert duration.null_count() == 0
    assert timedelta(0) < duration.min()
    assert duration.max() <= timedelta(days=1)


# --- features ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables():
    return {source.name: source.read(START, END) for source in project.sources}


@pytest.fixture(scope="module")
def views(tables):
    return project.features.rows(tables, START, END)


def test_the_order_of_raw_rows_does_not_matter(tables, views):
    shuffled = {name: rows.sample(fraction=1, shuffle=True, seed=3) for name, rows in tables.items()}
    again = project.features.rows(shuffled, START, END)
    for view, rows in views.items():
        keys = [*keys_of(view), "event_timestamp"]
        assert rows.sort(keys).equals(again[view].sort(keys)), view


def keys_of(view):
    return project.features.view(view).entity


@pytest.mark.parametrize("now", [START + timedelta(days=3, hours=14, minutes=7), START + timedelta(days=5)])
def test_what_happens_later_changes_no_feature_of_now(tables, views, now):
    """What was not known at `now` is made up: later landings and departures, the weather to come, new flights."""
    flights = tables["flights"]
    delay = pl.duration(minutes=777)
    left, landed = pl.col("dep") <= now, pl.col("arr") <= now
    invented = flights.with_columns(
        dep=pl.when(left).then("dep").otherwise(pl.col("dep") + delay),
        dep_delay=pl.when(left).then("dep_delay").otherwise(pl.col("dep_delay") + 777),
        arr=pl.when(landed).then("arr").otherwise(pl.col("arr") + delay),
        arr_delay=pl.when(landed).then("arr_delay").otherwise(pl.col("arr_delay") + 777),
        air_time=pl.when(landed).then("air_time").otherwise(999),
    )
    more = flights.head(500).with_columns(dep=pl.lit(now + timedelta(minutes=1), UTC_TIME), arr=pl.lit(END, UTC_TIME))
    weather = tables["weather"].with_columns(
        temp=pl.when(pl.col("time_hour") + timedelta(hours=1) <= now).then("temp").otherwise(-99.0)
    )
    future = tables | {"flights": pl.concat([invented, more]), "weather": weather}
    for view, rows in project.features.rows(future, START, END).items():
        known = pl.col("event_timestamp") <= now
        assert rows.filter(known).equals(views[view].filter(known)), view
        assert view == "route_facts" or not rows.equals(views[view]), view


def test_a_flights_own_outcome_is_not_in_its_features(tables, views):
    asked = project.label.rows(tables).filter(pl.col("known_at").is_not_null()).sample(12, seed=5)
    asked = asked.with_columns(event_timestamp=pl.col("sched_dep") - project.label.horizon)
    for place in range(asked.height):
        one = asked[place]
        is_it = pl.all_horizontal(pl.col(key) == one[key].item() for key in project.label.key)
        flights = tables["flights"].with_columns(
            dep_delay=pl.when(is_it).then(999).otherwise("dep_delay"),
            arr_delay=pl.when(is_it).then(999).otherwise("arr_delay"),
            air_time=pl.when(is_it).then(999).otherwise("air_time"),
            arr=pl.when(is_it).then(pl.col("dep") + timedelta(minutes=1)).otherwise("arr"),
        )
        changed = project.features.rows(tables | {"flights": flights}, START, END)
        assert features_at(one, changed).equals(features_at(one, views))


def features_at(asked, views):
    return point_in_time_join(asked, [history(view, rows) for view, rows in views.items()])


def history(view, rows):
    keys = keys_of(view)
    features = [name for name in rows.columns if name not in (*keys, "event_timestamp")]
    same = dict(zip(features, features, strict=True))
    return History(
        name=view, rows=rows.lazy(), keys=dict(zip(keys, keys, strict=True)), features=same, time="event_timestamp"
    )


def test_days_made_one_by_one_are_the_days_of_one_range(views):
    day = START + timedelta(days=4)
    tables = {source.name: source.read(START, day + timedelta(days=1)) for source in project.sources}
    for view, rows in project.features.rows(tables, day, day + timedelta(days=1)).items():
        of_range = views[view].filter(pl.col("event_timestamp").is_between(day, day + timedelta(days=1), closed="left"))
        assert rows.equals(of_range), view


def test_rolling_features_are_what_counting_by_hand_gives(tables, views):
    now = START + timedelta(days=2, hours=15)
    row = views["origin_delays"].filter(pl.col("origin") == "JFK", pl.col("event_timestamp") <= now).tail(1)
    last = row["event_timestamp"].item()
    jfk = tables["flights"].filter(pl.col("origin") == "JFK")
    left = jfk.filter(pl.col("dep") <= last, pl.col("dep") > last - timedelta(hours=3))
    landed = jfk.filter(pl.col("arr") <= last, pl.col("arr") > last - timedelta(hours=3))
    assert row["origin_count_3h"].item() == left.height + landed.height
    assert row["origin_dep_delay_3h"].item() == pytest.approx(left["dep_delay"].mean(), rel=1e-6)
    assert row["origin_late_share_3h"].item() == pytest.approx((landed["arr_delay"] >= 30).mean(), rel=1e-6)


def test_the_calendar_is_new_yorks():
    request = pl.DataFrame(
        {"sched_dep": [utc("2013-07-05 01:30")], "sched_arr": [utc("2013-07-05 04:00")]},
        schema={"sched_dep": UTC_TIME, "sched_arr": UTC_TIME},
    )
    row = calendar(request).row(0, named=True)
    assert (row["hour"], row["weekday"], row["minute_of_day"]) == ("21", "4", 21 * 60 + 30)
    assert (row["days_to_holiday"], row["scheduled_minutes"]) == (0, 150)
