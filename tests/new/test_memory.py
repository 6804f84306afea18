"""A table larger than what may be held is profiled in bounded memory. Real size: `benchmarks/profile.py`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl

CHILD = """
import json, sys, threading, time
from pathlib import Path
from fti.new import look, read, tables
from fti.new.profile import profile

look.SAMPLE_CELLS = look.KEY_CELLS = tables.SAMPLE_CELLS = read.BATCH_CELLS = 200_000
tables.HELD_BYTES = 0

def private():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])

peak, done = [0], []
def watch():
    while not done:
        peak[0] = max(peak[0], private())
        time.sleep(0.01)

watcher = threading.Thread(target=watch)
watcher.start()
found = profile(tables.open_table(sys.argv[1]), entity=("key",), timestamp="at", label="label")
rows = read.read(found.spec, columns=["key"], time="at", end=found.split.start)
done.append(True)
watcher.join()
print(json.dumps({"peak": peak[0], "rows": found.rows, "sampled": found.sampled, "read": rows.height}))
"""


def write(path: Path, rows: int) -> Path:
    random = np.random.default_rng(2)
    frame = pl.DataFrame({f"number_{at}": random.normal(size=rows) for at in range(9)}).with_columns(
        key=pl.int_range(pl.len()) % 5_000,
        at=pl.datetime(2024, 1, 1) + pl.duration(seconds=pl.int_range(pl.len())),
        label=pl.Series(random.random(rows) < 0.4),
    )
    frame.write_csv(path)
    return path


def peak_of(path: Path) -> dict[str, int]:
    command = [sys.executable, "-c", CHILD, str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    figures: dict[str, int] = json.loads(output)
    return figures


def test_five_times_the_rows_need_the_same_memory(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small.csv", 120_000), write(tmp_path / "large.csv", 600_000)
    few, many = peak_of(small), peak_of(large)
    assert many["rows"] == 600_000
    assert many["sampled"] < 30_000
    assert many["read"] == 0
    assert many["peak"] - few["peak"] < large.stat().st_size / 2
