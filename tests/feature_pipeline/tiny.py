"""A project of two hundred days that needs neither Feast nor Great Expectations."""

import dataclasses
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_pipeline.batch.chunks import Journal
from feature_pipeline.batch.ingest import ingest
from feature_pipeline.batch.transform import make_range
from fti.project import Features, Source, View
from fti.projects.flights import project as flights
from fti.stores.features.store import ViewSchema
from fti.times import UTC_TIME
from fti.views.windows import Rolling

START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=200)
DAY = timedelta(days=1)
PER_DAY = 40
SCHEMA = {"machine": pl.String, "read_at": UTC_TIME, "load": pl.Int64}


def read(start, end):
    """Whole numbers, the same ones at every call, and the rows of the file TINY_LATE. One in forty has no machine."""
    made = _made(start, end)
    late = os.environ.get("TINY_LATE")
    if late is None:
        return made
    added = pl.read_parquet(late).filter(pl.col("read_at").is_between(start, end, closed="left"))
    return pl.concat([made, added]).sort("read_at", maintain_order=True)


def _made(start, end):
    first, last = ((moment - START) // DAY * PER_DAY for moment in (start, end))
    numbers = np.arange(first, last)
    return pl.DataFrame(
        {
            "machine": [None if number % PER_DAY == 7 else f"m{number * 7 % 5}" for number in numbers],
            "read_at": [START + DAY * int(number) / PER_DAY for number in numbers],
            "load": numbers * 31 % 101,
        },
        schema=SCHEMA,
    )


def newest(rows):
    return rows.select("machine", event_timestamp="read_at", last_load=pl.col("load").cast(pl.Float32))


def of_event(loads):
    return loads.rename({"read_at": "event_timestamp"})


LOADS = Rolling(
    prefix="machine", statistics={"load": ("load", "mean")}, windows=("2d",), time="read_at", dtype=pl.Float32
)
VIEWS = (
    View(
        name="machine_load",
        entity=("machine",),
        inputs=("readings",),
        rolling=LOADS,
        rows=of_event,
        lookback=timedelta(days=2),
    ),
    View(name="newest_load", entity=("machine",), inputs=("readings",), rows=newest, lookback=timedelta(0)),
)


def schema(*features):
    return ViewSchema({"machine": pl.String}, dict.fromkeys(features, pl.Float32))


SCHEMAS = {
    "machine_load": schema(*LOADS.names),
    "newest_load": schema("last_load"),
}

source = Source(
    name="readings",
    read=read,
    schema=SCHEMA,
    key=("machine", "read_at"),
    timestamp="read_at",
    max_quarantined_share=0.05,
)
project = dataclasses.replace(
    flights,
    name="tiny",
    sources=(source,),
    features=Features(
        repo="",
        service="tiny_v1",
        views=VIEWS,
        on_demand=lambda rows: rows,
        on_demand_names=(),
    ),
    partitions_start=START,
    partitions_end=END,
)


def journal(lake, used=project):
    return Journal(lake, used)


def backfill(lake, used=project, start=START, end=END, *, chunk_days=10, again=False):
    """Raw rows, then features; returns the chunks of both."""
    raw = [chunk for known in used.sources for chunk in ingest(lake, used, known, start, end, chunk_days=chunk_days)]
    made = make_range(journal(lake, used), SCHEMAS, start, end, chunk_days=chunk_days, again=again)
    return raw, list(made)
