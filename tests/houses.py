"""Houses at one constant moment: a project of each task over the same table, whose rows have no time of their own."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, Int64, String
from feast.value_type import ValueType

from fti.project import Dataset, Features, Label, Model, Monitor, Project, RequestField, Service, Source, Task, View
from fti.project.gate import Gate, NoWorseThanBaseline
from fti.times import UTC_TIME

MOMENT = datetime(2000, 1, 1, tzinfo=UTC)
ROWS = 1200
LABELS: dict[Task, str] = {"binary": "sold", "multiclass": "label", "regression": "price"}
METRICS: dict[Task, str] = {"binary": "roc_auc", "multiclass": "macro_f1", "regression": "rmse"}

house = Entity(name="house", join_keys=["house_id"], value_type=ValueType.INT64)
latest = FeatureView(
    name="houses_latest",
    entities=[house],
    schema=[
        Field(name="house_id", dtype=Int64),
        Field(name="area", dtype=Float64),
        Field(name="rooms", dtype=Int64),
        Field(name="kind", dtype=String),
    ],
    source=FileSource(
        name="houses_houses_latest", path="houses/features/houses_latest", timestamp_field="event_timestamp"
    ),
    ttl=timedelta(0),
)
service = FeatureService(name="houses_v1", features=[latest])


def houses(start: datetime = MOMENT, end: datetime = MOMENT + timedelta(days=1)) -> pl.DataFrame:
    """Price by area and kind; dear houses are `high` and sell badly. The class is named `label`, as answers name it."""
    random = np.random.default_rng(5)
    area, rooms = random.uniform(30, 200, ROWS), random.integers(1, 8, ROWS)
    kind = random.choice(["flat", "house", "loft"], ROWS)
    price = 1000 + 20 * area + 500 * (kind == "loft") + random.normal(0, 150, ROWS)
    table = pl.DataFrame(
        {
            "house_id": np.arange(ROWS),
            "seen_at": [MOMENT + timedelta(microseconds=row) for row in range(ROWS)],
            "area": area,
            "rooms": rooms,
            "kind": kind,
            "price": price,
            "sold": (random.random(ROWS) < 1 / (1 + np.exp((price - 3500) / 400))).astype(np.int8),
            "label": np.select([price < 2500, price < 4000], ["low", "mid|dle"], "high $"),
        },
        schema_overrides={"seen_at": UTC_TIME},
    ).with_columns(area=pl.when(pl.col("house_id") % 9 == 0).then(None).otherwise("area"))
    return table.filter(pl.col("seen_at").is_between(start, end, closed="left"))


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select("house_id", "area", "rooms", "kind", event_timestamp="seen_at")


def rooms_each(rows: pl.DataFrame) -> pl.DataFrame:
    """Depends on two fields that a request may give."""
    return rows.with_columns(area_each=pl.col("area") / pl.col("rooms"))


def project(task: Task, *gates: Gate) -> Project:
    """The project that predicts the label of `task`; without a time a request is about now."""
    label = LABELS[task]
    rows = ["house_id", "seen_at", "area", "rooms", "kind", label]
    return Project(
        name="houses",
        description=f"What is the {label} of a house?",
        sources=(Source(name="houses", read=houses, schema=houses().schema, key=("house_id",), timestamp="seen_at"),),
        features=Features(
            repo="tests.houses",
            service="houses_v1",
            views=(
                View(
                    name="houses_latest",
                    entity=("house_id",),
                    inputs=("houses",),
                    rows=newest,
                    lookback=timedelta(0),
                ),
            ),
            on_demand=rooms_each,
            on_demand_names=("area_each",),
        ),
        label=Label(
            name=label,
            rows=lambda tables: tables["houses"].select(*rows, known_at="seen_at"),
            sources=("houses",),
            key=("house_id", "seen_at"),
            time="seen_at",
            horizon=timedelta(0),
            delay=timedelta(0),
        ),
        dataset=Dataset(
            start=MOMENT,
            until=MOMENT + timedelta(days=1),
            validation=timedelta(0),
            test=timedelta(0),
            shares=(0.6, 0.2, 0.2),
        ),
        model=Model(
            task=task,
            categorical=("kind",),
            params={"learning_rate": 2e-2, "hidden": 16, "dropout": 0.0, "batch_size": 64},
            search_space=lambda trial: {},
            num_trials=1,
            max_epochs=6,
        ),
        gates=gates or (NoWorseThanBaseline(metric=METRICS[task], tolerance=0.5, relative=True),),
        service=Service(
            request={
                "house_id": RequestField(dtype=pl.Int64, description="Number of the house", example=7),
                "seen_at": RequestField(
                    dtype=UTC_TIME, description="When", example="2000-01-01T00:00:00Z", optional=True
                ),
                "area": RequestField(dtype=pl.Float64, description="Square metres", example=80.5, optional=True),
                "rooms": RequestField(dtype=pl.Int64, description="Rooms", example=3, optional=True),
                "kind": RequestField(dtype=pl.String, description="Kind", example="flat", optional=True),
            }
        ),
        monitor=Monitor(
            window=timedelta(days=7),
            min_rows=100,
            quantile=1.0,
            factor=1.0,
            max_drifted_share=0.25,
            performance_tolerance=0.1,
            retrain_on=("no_data_drift",),
            cooldown=timedelta(days=7),
            max_retrains_per_30_days=2,
            retrain_validation=timedelta(0),
            retrain_test=timedelta(0),
        ),
        partitions_start=MOMENT,
        partitions_end=MOMENT + timedelta(days=1),
        slices=("kind",),
    )
