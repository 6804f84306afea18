"""Opening and profiling a table of 1,000,000 rows x 20 columns, as CSV and as Parquet. Prints JSON seconds and GiB.

python benchmarks/tables.py [--rows 1000000] [--keep table.csv]
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from fti.new.profile.profiler import profile
from fti.new.profile.tables import open_table

BATCH = 1_000_000


def rows_of(size: int, seed: int) -> pl.DataFrame:
    """Events of customers: numbers, categories, texts of numbers, times as text, nulls."""
    random = np.random.default_rng(seed)
    numbers = {f"number_{at}": random.normal(at, 1 + at, size).round(4) for at in range(8)}
    counts = {f"count_{at}": random.poisson(3 + at, size) for at in range(4)}
    words = np.array(["red", "green", "blue", "violet", "orange"])
    seconds = random.integers(1_640_995_200, 1_704_067_200, size)
    score = numbers["number_0"] + 0.3 * counts["count_0"] + random.normal(0, 1, size)
    frame = pl.DataFrame(
        {
            "customer_id": random.integers(0, 200_000, size),
            "observed_at": pl.Series(seconds * 1_000_000).cast(pl.Datetime("us")).dt.to_string("%Y-%m-%d %H:%M:%S"),
            **numbers,
            **counts,
            "colour": words[random.integers(0, 5, size)],
            "city": pl.Series(random.integers(0, 900, size)).cast(pl.String).str.pad_start(4, "c"),
            "code": pl.Series(random.integers(0, 1 << 40, size)).cast(pl.String),
            "active": random.random(size) < 0.3,
            "amount": pl.Series(random.gamma(2, 50, size).round(2)),
            "churned": score > np.quantile(score, 0.8),
        }
    )
    hidden = pl.Series(random.random(size) < 0.1)
    return frame.with_columns(amount=pl.when(~hidden).then("amount"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, default=None, help="profile this CSV; written first when it is missing")
    parser.add_argument("--csv-only", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "table.csv"
        if not path.exists():
            with path.open("wb") as file:
                for at, start in enumerate(range(0, arguments.rows, BATCH)):
                    part = rows_of(min(BATCH, arguments.rows - start), seed=at)
                    part.write_csv(file, include_header=at == 0)
        figures = {"csv": seconds(str(path))}
        if not arguments.csv_only:
            parquet = Path(folder) / "table.parquet"
            pl.scan_csv(path, try_parse_dates=True).sink_parquet(parquet)
            figures["parquet"] = seconds(str(parquet))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(json.dumps(figures | {"peak_gib": round(peak, 2)}))


def seconds(path: str) -> dict[str, float]:
    """Seconds of opening and of profiling one file."""
    begin = time.perf_counter()
    table = open_table(path)
    opened = time.perf_counter()
    found = profile(table, entity=("customer_id",), timestamp="observed_at", label="churned")
    end = time.perf_counter()
    size = {"gib": round(Path(path).stat().st_size / (1 << 30), 2), "rows": found.rows, "sampled": found.sampled}
    return size | {"open": round(opened - begin, 2), "profile": round(end - opened, 2), "all": round(end - begin, 2)}


if __name__ == "__main__":
    main()
