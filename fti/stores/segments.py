"""Segments of a lake table: rows that came after their day's file, and the rules by which both are read as one.

A segment says by itself what identifies its rows: its Parquet metadata names the key and the time column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import polars as pl

SEGMENT_ROWS = 8192
"""A segment with so many rows is closed; until then it is rewritten, whole, with each addition."""
KEY, TIME = "fti.key", "fti.time"

FOLDS_IN_A_READ = 20
"""How often a read starts again."""
T = TypeVar("T")
Segments = dict[Path, tuple[int, int]]
"""Files, each with a mark that changes when it is rewritten."""


def is_segment(path: Path) -> bool:
    return "~" in path.name


def day_of(path: Path) -> date | None:
    """The day of a day file or a segment; none for the file of a table without days."""
    day = path.stem.partition("~")[0]
    return date.fromisoformat(day) if day[:1].isdigit() else None


def metadata(key: Sequence[str], time: str) -> dict[str, str]:
    """What a segment says of its rows."""
    return {KEY: json.dumps(list(key)), TIME: time}


def merged(files: Sequence[Path]) -> pl.LazyFrame:
    """Rows of `files`, which are in the order of their names. Where a day has segments: the last row of each key."""
    layered = {day_of(path) for path in files if is_segment(path)}
    runs = [(several, list(run)) for several, run in groupby(files, key=lambda path: day_of(path) in layered)]
    return pl.concat([_last_rows(run) if several else pl.scan_parquet(run) for several, run in runs])


def count_keys(files: Sequence[Path]) -> int:
    """Number of different keys in `files` of one day; without a segment, of rows."""
    if not any(map(is_segment, files)):
        return int(pl.scan_parquet(list(files)).select(pl.len()).collect().item())
    key, _ = _about(files)
    return int(pl.scan_parquet(list(files)).select(pl.struct(key).n_unique()).collect().item())


def _about(files: Sequence[Path]) -> tuple[list[str], str]:
    """Key and time column, as the newest segment tells."""
    about = pl.read_parquet_metadata(next(path for path in reversed(files) if is_segment(path)))
    return json.loads(about[KEY]), about[TIME]


def _last_rows(files: Sequence[Path]) -> pl.LazyFrame:
    key, time = _about(files)
    rows = pl.scan_parquet(list(files)).unique(key, keep="last", maintain_order=True)
    return rows.sort(time, *(column for column in key if column != time))


def with_newest_segment(
    folder: Path, day: date, files: Sequence[Path], rows: pl.DataFrame, key: Sequence[str]
) -> tuple[Path, pl.DataFrame]:
    """Where new rows of `day` go, and what that file then holds: its newest segment with them, or a new one if full."""
    own = [path for path in files if is_segment(path) and day_of(path) == day]
    if not own:
        return folder / f"{day}~000001.parquet", rows
    newest = pl.read_parquet(own[-1])
    if newest.height >= SEGMENT_ROWS:
        return folder / f"{day}~{int(own[-1].stem.partition('~')[2]) + 1:06d}.parquet", rows
    return own[-1], pl.concat([newest, rows]).unique(list(key), keep="last", maintain_order=True)


def settled(read: Callable[[], T]) -> T:
    """`read()`; once more when a segment that it had listed was folded meanwhile: its rows are in the day's file."""
    for _ in range(FOLDS_IN_A_READ):
        with suppress(FileNotFoundError):
            return read()
    return read()


def state(files: Iterable[Path]) -> Segments:
    """`files` that are still there, with their marks."""
    found = {}
    for path in files:
        try:
            about = path.stat()
        except FileNotFoundError:
            continue  # folded in this moment
        found[path] = (about.st_ino, about.st_mtime_ns)
    return found
