"""Windows of 1, 7 and 30 days over events of many entities: FTI, polars, DuckDB and pandas. Prints one JSON object.

Every side starts from the same frame in order of time, and makes the count of events and the sum, mean, share and
standard deviation of a column. Ratios are seconds of the peer over seconds of FTI. Results are compared row by row;
they must agree, times need not.

python benchmarks/windows.py [--rows 10000000] [--entities 20000] [--rounds 2] [--skip pandas] [--quick]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl

from fti.views.windows import Statistic, rolling_statistics, window_names

WINDOWS = ("1d", "7d", "30d")
STATISTICS: dict[str, Statistic] = {
    "sum": ("value", "sum"),
    "mean": ("value", "mean"),
    "share": ("late", "share"),
    "std": ("value", "std"),
}
YEAR = timedelta(days=365) // timedelta(microseconds=1)
Seconds = tuple[float, float]
Frames = Iterator[pl.DataFrame]
"""A frame for each window: entity, event_timestamp, count, sum, mean, share, std; sorted by entity and time."""


def events(num: int, entities: int) -> pl.DataFrame:
    """Events of a year in order of time; no entity has two at one moment, so that all sides make a row of each."""
    random = np.random.default_rng(7)
    rows = pl.DataFrame(
        {
            "entity": random.integers(0, entities, num),
            "event_timestamp": pl.Series(random.integers(0, YEAR, num)).sort().cast(pl.Datetime("us", "UTC")),
            "value": random.normal(12.0, 40.0, num),
            "late": random.random(num) < 0.25,
        }
    )
    return rows.unique(["entity", "event_timestamp"], keep="first", maintain_order=True)


def fti(rows: pl.DataFrame) -> Frames:
    made = rolling_statistics(rows, entity=["entity"], statistics=STATISTICS, windows=WINDOWS, prefix="x")
    for window in WINDOWS:
        names = dict(zip(window_names("x", STATISTICS, [window]), ["count", *STATISTICS], strict=True))
        yield made.select("entity", "event_timestamp", *names).rename(names)


def polars(rows: pl.DataFrame) -> Frames:
    value = pl.col("value")
    for window in WINDOWS:
        rolled = rows.rolling("event_timestamp", period=window, group_by="entity")
        yield rolled.agg(
            count=pl.len(), sum=value.sum(), mean=value.mean(), share=pl.col("late").mean(), std=value.std()
        )


def duck(rows: pl.DataFrame) -> Frames:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("source", rows.to_arrow())
    for window in WINDOWS:
        frame = f"PARTITION BY entity ORDER BY event_timestamp RANGE BETWEEN INTERVAL '{micros(window)}' MICROSECOND "
        query = f"""SELECT entity, event_timestamp, count(*) OVER w AS count, sum(value) OVER w AS sum,
            avg(value) OVER w AS mean, avg(late::DOUBLE) OVER w AS share, stddev_samp(value) OVER w AS std
            FROM source WINDOW w AS ({frame} PRECEDING AND CURRENT ROW)"""
        yield pl.DataFrame(connection.sql(query).to_arrow_table())


def micros(window: str) -> int:
    """A window without its far end: SQL's range holds both."""
    return timedelta(days=int(window[:-1])) // timedelta(microseconds=1) - 1


def panda(rows: pl.DataFrame) -> Frames:
    frame = rows.to_pandas().assign(late=lambda made: made["late"].astype("float64"))
    frame = frame.set_index("event_timestamp")
    for window in WINDOWS:
        rolled = frame.groupby("entity").rolling(window)
        value = rolled["value"]
        made = pd.DataFrame({"count": value.count(), "sum": value.sum(), "mean": value.mean()})
        made["share"], made["std"] = rolled["late"].mean(), value.std()
        yield pl.from_pandas(made.reset_index())


PEERS: dict[str, Callable[[pl.DataFrame], Frames]] = {"polars": polars, "duckdb": duck, "pandas": panda}


def timed(make: Callable[[pl.DataFrame], Frames], rows: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, Seconds]]:
    """The frame of each window, and the seconds (wall, all cores) that it took; only one is kept at a time."""
    frames = make(rows)
    for _ in WINDOWS:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        frame = next(frames)
        yield frame, (time.perf_counter() - begin, time.process_time() - begin_cpu)


def total(taken: list[Seconds]) -> dict[str, float]:
    wall, cpu = (sum(values) for values in zip(*taken, strict=True))
    return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}


def differences(ours: pl.DataFrame, theirs: pl.DataFrame) -> dict[str, float]:
    """The largest difference by statistic: of counts as it is, of the others by the scale of the values."""
    theirs = theirs.sort("entity", "event_timestamp")
    assert theirs.height == ours.height, (theirs.height, ours.height)
    found = {}
    for name in ("count", *STATISTICS):
        left, right = (frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for frame in (ours, theirs))
        assert (np.isnan(left) == np.isnan(right)).all(), name
        relative = np.abs(left - right) / (1.0 if name == "count" else np.maximum(np.abs(right), 1.0))
        found[name] = float(np.nanmax(relative))
    return found


def peer(make: Callable[[pl.DataFrame], Frames], rows: pl.DataFrame, ours: list[pl.DataFrame]) -> dict[str, Any]:
    """Seconds of a peer and its largest difference to `ours`, which must be small."""
    taken, errors = [], []
    for mine, (theirs, seconds) in zip(ours, timed(make, rows), strict=True):
        taken.append(seconds)
        errors.append(differences(mine, theirs))
    worst = {name: max(error[name] for error in errors) for name in errors[0]}
    assert worst["count"] == 0, worst
    assert max(worst["sum"], worst["mean"], worst["share"]) < 1e-9, worst
    assert worst["std"] < 1e-6, worst
    return total(taken) | {"largest_difference": worst}


def measure(rows: pl.DataFrame, rounds: int, skipped: list[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {"rows": rows.height, "entities": rows["entity"].n_unique()}
    runs = [total([seconds for _, seconds in timed(fti, rows)]) for _ in range(rounds)]
    ours = [frame for frame, _ in timed(fti, rows)]
    figures["fti"] = min(runs, key=lambda run: run["seconds"])
    for name in [name for name in PEERS if name not in skipped]:
        found = peer(PEERS[name], rows, ours)
        ratios = {f"{key}_ratio": round(found[key] / figures["fti"][key], 1) for key in ("seconds", "cpu_seconds")}
        figures[name] = found | ratios
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--entities", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--skip", action="append", default=[], choices=PEERS)
    parser.add_argument("--quick", action="store_true", help="200,000 rows of 2,000 entities")
    asked = parser.parse_args()
    if asked.quick:
        asked.rows, asked.entities = 200_000, 2_000
    print(json.dumps(measure(events(asked.rows, asked.entities), asked.rounds, asked.skip), indent=2))
