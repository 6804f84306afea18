"""A point-in-time join of three feature views: FTI's offline store, plain polars, Feast's file and duckdb stores.

Each side runs in a process of its own over the same unsorted Parquet files, the Feast stores through
`FeatureStore.get_historical_features`, and reports its best seconds and its peak memory. A year of rows at random
moments; the questions lie in its last nine months; features expire after 90 days. Prints one JSON object: `lost_rows`
are entity rows that the answer lacks, `wrong_values` features that differ from FTI's on the rows that are there.

    fti_layout   on the store's sorted layout (its building is reported apart)
    fti_plain    without one, and none is built
    polars       scan, sort, `join_asof(by=, tolerance=)`; its answer stays in order of time
    feast_duckdb, feast_file

With `--memory`, FTI's sides alone over 10 million rows a view, once: `peak_mib` counts the building of the layouts and
the pages of mapped files too, and must stay under `limit_mib`.

python benchmarks/point_in_time.py [--quick] [--skip-feast] [--memory] [--side fti_layout ...] [--source-rows 3300000]
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

VIEWS, FEATURES = 3, 5
START, DAYS, TTL = datetime(2024, 1, 1, tzinfo=UTC), 365, timedelta(days=90)
MEMORY_ROWS, LIMIT_MIB = 10_000_000, 3 * 1024
STORES = {
    "fti_layout": "fti.stores.features.offline.store.PolarsOfflineStore",
    "fti_plain": "fti.stores.features.offline.store.PolarsOfflineStore",
    "polars": "",
    "feast_duckdb": "duckdb",
    "feast_file": "dask",
}


def names(view: int) -> list[str]:
    return [f"v{view}_f{feature}" for feature in range(FEATURES)]


def prepare(folder: Path, questions: int, source_rows: int, entities: int) -> None:
    """The questions and the sources, in no order."""
    random = np.random.default_rng(11)

    def moments(num: int, first_day: int) -> pl.Series:
        micros = random.integers(first_day * 86_400_000_000, DAYS * 86_400_000_000, num)
        return pl.Series(micros).cast(pl.Duration("us")) + START

    asked = {"customer": random.integers(0, entities, questions), "event_timestamp": moments(questions, 92)}
    pl.DataFrame(asked).with_row_index("row").write_parquet(folder / "questions.parquet")
    for view in range(VIEWS):
        rows = {"customer": random.integers(0, entities, source_rows), "event_timestamp": moments(source_rows, 0)}
        values = {name: random.standard_normal(source_rows, dtype=np.float32) for name in names(view)}
        (folder / "sources").mkdir(exist_ok=True)
        pl.DataFrame(rows | values).write_parquet(folder / "sources" / f"v{view}.parquet")


def feature_store(folder: Path, side: str) -> Any:
    """Feast over the sources with the offline store of `side`."""
    import feast
    from feast.types import Float32, Int64

    work = folder / side
    work.mkdir()
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="benchmark",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{work}/registry.db"},
            offline_store={"type": STORES[side]},
            online_store={"type": "sqlite", "path": str(work / "online.db")},
            entity_key_serialization_version=3,
            repo_path=str(work),
        )
    )
    customer = feast.Entity(name="customer", join_keys=["customer"], value_type=feast.ValueType.INT64)
    views = [
        feast.FeatureView(
            name=f"v{view}",
            entities=[customer],
            ttl=TTL,
            schema=[feast.Field(name="customer", dtype=Int64)]
            + [feast.Field(name=name, dtype=Float32) for name in names(view)],
            source=feast.FileSource(
                name=f"v{view}", path=str(folder / "sources" / f"v{view}.parquet"), timestamp_field="event_timestamp"
            ),
        )
        for view in range(VIEWS)
    ]
    store.apply([customer, *views])
    return store


def by_feast(folder: Path, side: str) -> tuple[Callable[[], pl.DataFrame], dict[str, float]]:
    """The join through Feast's interface, and how long the layouts took to build."""
    store = feature_store(folder, side)
    refs = [f"v{view}:{name}" for view in range(VIEWS) for name in names(view)]
    asked = pl.read_parquet(folder / "questions.parquet")
    if not side.startswith("fti"):
        frame = asked.to_pandas()
        return lambda: store.get_historical_features(frame, refs).to_df(), {}
    from fti.stores.features.offline import point_in_time
    from fti.stores.features.offline.store import history_of

    notes: dict[str, float] = {}
    shutil.rmtree(folder / "sources" / ".layout", ignore_errors=True)
    if side == "fti_layout":
        begin = time.perf_counter()
        for view in range(VIEWS):
            columns = {name: name for name in names(view)}
            point_in_time.optimize(history_of(store.config, store.get_feature_view(f"v{view}"), names=columns))
        notes["build_layouts_seconds"] = round(time.perf_counter() - begin, 2)
    point_in_time.MANY_ROWS = sys.maxsize  # none is built by a join
    return lambda: store.get_historical_features(asked, refs).to_polars(), notes


def by_polars(folder: Path) -> pl.DataFrame:
    """What one writes by hand."""
    rows = pl.read_parquet(folder / "questions.parquet").sort("event_timestamp")
    for view in range(VIEWS):
        history = pl.scan_parquet(folder / "sources" / f"v{view}.parquet").sort("event_timestamp").collect()
        rows = rows.join_asof(
            history, on="event_timestamp", by="customer", tolerance=TTL, strategy="backward", check_sortedness=False
        )
    return rows


def run_side(folder: Path, side: str, rounds: int) -> dict[str, Any]:
    """Run in the child: the best of `rounds`, the answer on disk."""
    join, notes = ((lambda: by_polars(folder)), {}) if side == "polars" else by_feast(folder, side)
    seconds, cpu, made = math.inf, math.inf, pl.DataFrame()
    for _ in range(rounds):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        found = join()
        seconds, cpu = min(seconds, time.perf_counter() - begin), min(cpu, time.process_time() - begin_cpu)
        made = found if isinstance(found, pl.DataFrame) else pl.from_pandas(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    columns = ["row", *(name for view in range(VIEWS) for name in names(view))]
    made.select(columns).write_parquet(folder / f"{side}.parquet")
    return notes | {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "peak_mib": peak}


def compare(folder: Path, side: str, reference: str) -> dict[str, int]:
    """Rows that the answer of `side` lacks, and values that are not those of `reference`."""
    asked = pl.read_parquet(folder / "questions.parquet", columns=["row"])
    made = pl.read_parquet(folder / f"{side}.parquet").unique("row")
    both = made.join(pl.read_parquet(folder / f"{reference}.parquet"), on="row", suffix="_reference")
    features = [name for view in range(VIEWS) for name in names(view)]
    wrong = both.select(pl.col(name).fill_nan(None).ne_missing(pl.col(f"{name}_reference")).sum() for name in features)
    return {"lost_rows": asked.height - made.height, "wrong_values": sum(wrong.row(0))}


def child(folder: Path, *arguments: str) -> dict[str, Any]:
    """A run of this file in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        return {"failed": done.returncode}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    sizes = {"questions": asked.questions, "source_rows": asked.source_rows, "entities": asked.entities}
    child(folder, "--prepare", *(f"--{key.replace('_', '-')}={value}" for key, value in sizes.items()))
    sides: dict[str, Any] = {}
    for side in asked.side:
        rounds = 1 if side.startswith("feast") else asked.rounds
        sides[side] = child(folder, "--run", side, "--rounds", str(rounds))
        if "failed" not in sides[side]:
            sides[side] |= compare(folder, side, asked.side[0])
        if asked.memory:
            kept = ("peak_mib", "lost_rows", "wrong_values", "failed")
            sides[side] = {key: sides[side][key] for key in kept if key in sides[side]} | {"limit_mib": LIMIT_MIB}
    best = sides.get("fti_layout", {}).get("seconds")
    for figures in sides.values() if best else ():
        if "seconds" in figures:
            figures["times_fti_layout"] = round(figures["seconds"] / best, 2)
    return sizes | {"views": VIEWS, "features": FEATURES, "sides": sides}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1_000_000)
    parser.add_argument("--source-rows", type=int, default=3_300_000, help="of each view")
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", action="append", choices=STORES)
    parser.add_argument("--skip-feast", action="store_true", help="leave out Feast's own stores, which take minutes")
    parser.add_argument("--memory", action="store_true", help="peak memory of FTI over 10 million rows of each view")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--run", choices=STORES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.side = asked.side or [side for side in STORES if not (asked.skip_feast and side.startswith("feast"))]
    if asked.memory:
        asked.side, asked.source_rows, asked.rounds = ["fti_layout", "fti_plain"], MEMORY_ROWS, 1
    if asked.quick:
        asked.questions, asked.source_rows, asked.entities = 10_000, 33_000, 1_000
    if asked.prepare:
        prepare(asked.folder, asked.questions, asked.source_rows, asked.entities)
        print("{}")
    elif asked.run:
        print(json.dumps(run_side(asked.folder, asked.run, asked.rounds)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(Path(folder), asked), indent=2))


if __name__ == "__main__":
    main()
