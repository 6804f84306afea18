"""A small project that keeps the contract: will this machine fail within the hour? Twelve days of five machines."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from fti.project import (
    Dataset,
    Features,
    Label,
    Model,
    Monitor,
    Project,
    RequestField,
    Service,
    Source,
    Tables,
    Task,
    View,
    expect,
)
from fti.project.gate import Floor
from fti.times import UTC_TIME
from fti.views.windows import rolling_statistics

START = datetime(2024, 3, 1, tzinfo=UTC)
DAYS, MACHINES = 12, 5
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LABEL_TYPES: Mapping[Task, Any] = {"binary": pl.Int8, "multiclass": pl.String, "regression": pl.Float64}


def readings() -> pl.DataFrame:
    """One row an hour and machine: its load and heat, and what happens in the hour after."""
    number = np.arange(DAYS * 24 * MACHINES)
    random = np.random.default_rng(4)
    load = 50 + 20 * np.sin(number / 17) + random.normal(size=len(number)) * 5
    rows = pl.DataFrame(
        {
            "machine": [f"m{row % MACHINES}" for row in number],
            "read_at": [START + HOUR * int(row // MACHINES) for row in number],
            "load": load,
            "heat": load * 0.5 + random.normal(size=len(number)),
            "failed": (load + random.normal(size=len(number)) * 8 > 60).astype(np.int8),
        },
        schema_overrides={"read_at": UTC_TIME},
    )
    outcome = pl.when(pl.col("failed") == 0).then(pl.lit("fine")).when(pl.col("heat") > 36).then(pl.lit("burnt"))
    return rows.with_columns(outcome=outcome.otherwise(pl.lit("stuck")), cost=pl.col("load") * 3 + pl.col("failed") * 9)


def read(start: datetime, end: datetime) -> pl.DataFrame:
    return readings().filter(pl.col("read_at").is_between(start, end, closed="left"))


def newest(rows: pl.DataFrame) -> pl.DataFrame:
    """The newest reading."""
    return rows.sort("read_at", "machine").select("machine", "load", "heat", event_timestamp="read_at")


def load(rows: pl.DataFrame) -> pl.DataFrame:
    """The mean load of six hours."""
    windows = rolling_statistics(
        rows,
        entity=("machine",),
        statistics={"load": ("load", "mean")},
        windows=("6h",),
        prefix="machine",
        time="read_at",
    )
    return windows.select("machine", "machine_load_6h", event_timestamp="read_at")


VIEWS = (
    View(name="machine_now", entity=("machine",), inputs=("readings",), rows=newest, lookback=timedelta(0)),
    View(name="machine_load", entity=("machine",), inputs=("readings",), rows=load, lookback=HOUR * 6),
)


def on_demand(requests: pl.DataFrame) -> pl.DataFrame:
    return requests.with_columns(hour=pl.col("asked_at").dt.hour().cast(pl.String))


def label_rows(column: str) -> Any:
    """`Label.rows` of the label `column`: asked at every reading, known an hour later."""

    def rows(tables: Tables) -> pl.DataFrame:
        asked = tables["readings"].rename({"read_at": "asked_at"})
        return asked.select("machine", "asked_at", column, known_at=pl.col("asked_at") + HOUR)

    return rows


def search_space(trial: Any) -> dict[str, Any]:
    return {"learning_rate": trial.suggest_float("learning_rate", 5e-3, 3e-2, log=True)}


source = Source(
    name="readings",
    read=read,
    schema={"machine": pl.String, "read_at": UTC_TIME, "load": pl.Float64, "heat": pl.Float64, "failed": pl.Int8,
            "outcome": pl.String, "cost": pl.Float64},
    key=("machine", "read_at"),
    timestamp="read_at",
    expectations=(expect("expect_column_values_to_be_between", column="load", min_value=0, max_value=120),),
)  # fmt: skip


def project_of(task: Task) -> Project:
    """The project with one of its three labels."""
    column = {"binary": "failed", "multiclass": "outcome", "regression": "cost"}[task]
    return Project(
        name="machines",
        description="Will this machine fail within the hour?",
        sources=(source,),
        features=Features(
            repo="tests.contract.machines_features",
            service="machines_v1",
            views=VIEWS,
            on_demand=on_demand,
            on_demand_names=("hour",),
        ),
        label=Label(
            name=column,
            rows=label_rows(column),
            sources=("readings",),
            key=("machine", "asked_at"),
            time="asked_at",
            horizon=timedelta(0),
            delay=HOUR,
        ),
        dataset=Dataset(start=START, until=START + DAYS * DAY, validation=2 * DAY, test=2 * DAY),
        model=Model(
            task=task,
            categorical=("hour",),
            params={"learning_rate": 1e-2, "hidden": 16, "layers": 2, "members": 2, "dropout": 0.0},
            search_space=search_space,
            num_trials=2,
            max_epochs=2,
        ),
        gates=(Floor(metric={"binary": "roc_auc", "multiclass": "macro_f1", "regression": "r2"}[task], minimum=0.1),),
        service=Service(
            request={
                "machine": RequestField(dtype=pl.String, description="Number of the machine", example="m1"),
                "asked_at": RequestField(dtype=UTC_TIME, description="Now", example="2024-03-10T12:00:00Z"),
            }
        ),
        monitor=Monitor(
            window=3 * DAY,
            min_rows=50,
            quantile=1.0,
            factor=1.0,
            max_drifted_share=0.5,
            performance_tolerance=0.2,
            retrain_on=("no_data_drift",),
            cooldown=7 * DAY,
            max_retrains_per_30_days=1,
            retrain_validation=DAY,
            retrain_test=DAY,
        ),
        partitions_start=START,
    )


project = project_of("binary")
