"""Features of the shipped project's whole period, its point-in-time join and its online reads. Prints JSON seconds.

python benchmarks/features.py [--rounds 3]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from feature_pipeline.batch.ingest import read_valid, write_source
from feature_pipeline.batch.transform import judge_views, make_features, raw_tables, write_features
from fti.projects.flights import project
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake

REPO = Path(__file__).parents[1] / "feature_repo"
SERVICE = project.features.service
START, END = datetime(2013, 1, 1, tzinfo=UTC), datetime(2014, 1, 2, tzinfo=UTC)
NOON = datetime(2013, 9, 2, 12, tzinfo=UTC)


def best(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of the fastest of `rounds` calls."""
    return round(min(seconds(call) for _ in range(rounds)), 4)


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ingest(lake: Lake) -> None:
    for source in project.sources:
        verdict = read_valid(project, source, START, END)
        assert not verdict.problems, verdict.problems
        write_source(lake, project, source, verdict.good, START, END)


def features(lake: Lake, store: FeatureStore) -> None:
    """What the asset `features` does: read, make, validate, write."""
    views = make_features(project, raw_tables(project, lake, START, END), START, END)
    verdicts, problems = judge_views(project, views, store.schemas(SERVICE), START, END)
    assert not problems, problems
    write_features(lake, project, verdicts, START, END)


def windows(store: FeatureStore, num: int) -> float:
    """Median seconds to materialize two hours."""
    starts = [NOON + timedelta(hours=2 * step) for step in range(num)]
    return statistics.median(
        seconds(lambda at=at: store.materialize(SERVICE, at, at + timedelta(hours=2))) for at in starts
    )


def online(store: FeatureStore, asked: pl.DataFrame, num: int) -> dict[str, float]:
    """Milliseconds of one read of all of `asked`."""
    store.online(SERVICE, asked)
    taken = sorted(seconds(lambda: store.online(SERVICE, asked)) * 1e3 for _ in range(num))
    return {"p50_ms": round(taken[num // 2], 3), "p99_ms": round(taken[num * 99 // 100], 3)}


def measure(root: Path, rounds: int) -> dict[str, Any]:
    lake, state = Lake(str(root / "lake")), root / "feast"
    store = FeatureStore(REPO, str(state), lake.root, f"sqlite:///{state}/registry.db", str(state / "online.db"))
    store.apply(project)
    figures: dict[str, Any] = {"ingest_year_first": round(seconds(lambda: ingest(lake)), 3)}
    figures["ingest_year"] = best(lambda: ingest(lake), rounds)
    figures["features_year"] = best(lambda: features(lake, store), rounds)
    tables = {name: lake.read(f"{project.name}/raw/{name}").collect() for name in project.label.sources}
    asked = project.label.rows(tables).with_columns(project.label.moment())
    figures["departures"] = asked.height
    figures["point_in_time_join"] = best(lambda: store.historical(SERVICE, asked), rounds)
    figures["materialize_8_months"] = round(seconds(lambda: store.materialize(SERVICE, START, NOON)), 3)
    figures["materialize_2_hours"] = round(windows(store, 24), 4)
    around = asked.filter(pl.col("event_timestamp") >= NOON).sort("event_timestamp").head(1000)
    figures["online_1"] = online(store, around.head(1), 1000)
    figures["online_1000"] = online(store, around, 50)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), parser.parse_args().rounds), indent=2))
