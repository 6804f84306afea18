"""Segments of a lake table: rows that came after their day's file, and the rules by which both are read as one.

A segment says by itself what identifies its rows: its Parquet metadata names the key and the time column. A file or a
segment of a month says which of its days it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from itertools import chain, groupby
from pathlib import Path
from typing import IO, TypeVar

import polars as pl

from fti.periods import DAY, end_day, first_day, period_of, touches

SEGMENT_ROWS = 8192
"""A segment with so many rows is closed; until then it is rewritten, whole, with each addition."""
KEY, TIME, DAYS = "fti.key", "fti.time", "fti.days"

MOMENT = timedelta(microseconds=1)
FOLDS_IN_A_READ, TORN_READS = 20, 5
"""How often a read starts again: for a file that has gone, and for one that may have been replaced or be broken."""
TORN = (pl.exceptions.ComputeError, pl.exceptions.PanicException)
"""What polars raises when it finds another file's rows than those of the footer that it has read: it opens a path
twice."""
T = TypeVar("T")
Segments = dict[Path, tuple[int, int]]
"""Files, each with a mark that changes when it is rewritten."""


def is_segment(path: Path) -> bool:
    return "~" in path.name


def stem_of(path: Path) -> str:
    """The day or month of a file or a segment; empty for the file of a table that has neither."""
    stem = path.stem.partition("~")[0]
    return stem if stem[:1].isdigit() else ""


def days_in(path: Path) -> list[date]:
    """The days that a file or a segment has rows of, quiet ones included."""
    stem = stem_of(path)
    if not stem:
        return []
    first = first_day(stem)
    if period_of(stem) == "day":
        return [first]
    return [first.replace(day=day) for day in json.loads(pl.read_parquet_metadata(path).get(DAYS, "[]"))]


def time_in(path: Path) -> str:
    """The time column of a segment, or of the file of a month."""
    return pl.read_parquet_metadata(path)[TIME]


def facts_of(time: str, stem: str, days: Iterable[date]) -> dict[str, str]:
    """What the file of a month says of its rows, which are those of `days`; of a day its name says all."""
    return {TIME: time, DAYS: json.dumps(sorted({day.day for day in days}))} if period_of(stem) == "month" else {}


def merged_facts(files: Sequence[Path]) -> dict[str, str]:
    """What one file of all `files` of a day (month) says of itself."""
    stem = stem_of(files[-1])
    return facts_of(time_in(files[-1]), stem, chain(*map(days_in, files))) if period_of(stem) == "month" else {}


def segment_facts(key: Sequence[str], time: str, stem: str, rows: pl.DataFrame) -> dict[str, str]:
    """What a segment says of its rows."""
    days = rows[time].dt.date().unique() if period_of(stem) == "month" else ()
    return {KEY: json.dumps(list(key)), TIME: time, **facts_of(time, stem, days)}


def merged(files: Sequence[Path]) -> pl.LazyFrame:
    """Rows of `files`, which are in the order of their names. Where a day has segments: the last row of each key."""
    layered = {stem_of(path) for path in files if is_segment(path)}
    runs = [(several, list(run)) for several, run in groupby(files, key=lambda path: stem_of(path) in layered)]
    return pl.concat([_last_rows(run) if several else pl.scan_parquet(run, glob=False) for several, run in runs])


def count_keys(files: Sequence[Path]) -> int:
    """Number of different keys in `files` of one day; without a segment, of rows."""
    if not any(map(is_segment, files)):
        return int(pl.scan_parquet(list(files), glob=False).select(pl.len()).collect().item())
    key, _ = _about(files)
    return int(pl.scan_parquet(list(files), glob=False).select(pl.struct(key).n_unique()).collect().item())


def _about(files: Sequence[Path]) -> tuple[list[str], str]:
    """Key and time column, as the newest segment tells."""
    about = pl.read_parquet_metadata(next(path for path in reversed(files) if is_segment(path)))
    return json.loads(about[KEY]), about[TIME]


def _last_rows(files: Sequence[Path]) -> pl.LazyFrame:
    key, time = _about(files)
    with ExitStack() as stack:  # these files are replaced often: polars keeps those that are open now
        opened: list[IO[bytes]] = [stack.enter_context(path.open("rb")) for path in files]
        rows = pl.scan_parquet(opened)
    rows = rows.unique(key, keep="last", maintain_order=True)
    return rows.sort(time, *(column for column in key if column != time))


def with_newest_segment(
    folder: Path, stem: str, files: Sequence[Path], rows: pl.DataFrame, key: Sequence[str]
) -> tuple[Path, pl.DataFrame]:
    """Where new rows of a day (month) go, and what that file then holds: its newest segment with them, or a new one if
    full."""
    own = [path for path in files if is_segment(path) and stem_of(path) == stem]
    if not own:
        return folder / f"{stem}~000001.parquet", rows
    newest = pl.read_parquet(own[-1], glob=False)
    if newest.height >= SEGMENT_ROWS:
        return folder / f"{stem}~{int(own[-1].stem.partition('~')[2]) + 1:06d}.parquet", rows
    return own[-1], pl.concat([newest, rows]).unique(list(key), keep="last", maintain_order=True)


def settled(read: Callable[[], T]) -> T:
    """`read()`; again when a file that it had listed was folded into another one or replaced meanwhile."""
    torn = 0
    for _ in range(FOLDS_IN_A_READ):
        try:
            return read()
        except FileNotFoundError:
            continue
        except TORN:
            torn += 1
            if torn == TORN_READS:
                raise
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


def touched(files: Iterable[Path], start: datetime | None, end: datetime | None) -> list[Path]:
    """Those of `files` that have a day of `[start, end)`, and those that are of no day."""
    first, last = _days(start, end)
    return [file for file in files if not (stem := stem_of(file)) or touches(stem, first, last)]


def within(rows: pl.LazyFrame, files: Iterable[Path], start: datetime | None, end: datetime | None) -> pl.LazyFrame:
    """Of the `rows` of `files` those of the days that `[start, end)` touches: a month may reach beyond it."""
    first, last = _days(start, end)
    for file in files:
        stem = stem_of(file)
        if stem and period_of(stem) == "month" and not first <= first_day(stem) <= end_day(stem) - DAY <= last:
            return rows.filter(pl.col(time_in(file)).dt.date().is_between(first, last))
    return rows


def _days(start: datetime | None, end: datetime | None) -> tuple[date, date]:
    """First and last day that `[start, end)` touches."""
    first = start.astimezone(UTC).date() if start else date.min
    return first, (end.astimezone(UTC) - MOMENT).date() if end else date.max
