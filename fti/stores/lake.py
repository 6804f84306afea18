"""The lake: raw rows and feature rows as Parquet, one file per table and UTC day, and segments of rows that came later.

A day is `<table>/2013-01-31.parquet`. Rows that change after it was written lie beside it in segments,
`2013-01-31~000001.parquet`, until they are folded into it: a row of a later file replaces the row of the same key.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl

from fti.errors import DataError, NotReadyError
from fti.stores.segments import (
    Segments,
    count_keys,
    day_of,
    is_segment,
    merged,
    metadata,
    settled,
    state,
    with_newest_segment,
)

UTC_TIME = pl.Datetime("us", "UTC")
STATIC = "all"
"""File stem of a table that has no days."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A day that was folded: its segments, the different keys in all its files, and the rows it then had."""

    num_segments: int
    num_keys: int
    num_rows: int


@dataclass(frozen=True)
class Lake:
    """Tables below one root. A day is replaced as a whole, by one rename: a reader sees the old or the new rows."""

    root: str

    def path(self, table: str) -> Path:
        """Folder of `table`, for example `flights/raw/weather`."""
        return Path(self.root) / table

    def write(
        self,
        table: str,
        rows: pl.DataFrame,
        *,
        time: str,
        start: datetime,
        end: datetime,
        superseded: Segments | None = None,
    ) -> list[date]:
        """Replace the days of `[start, end)` whose rows differ from those that are there; returns these days.

        `time` names the UTC datetime column that decides a row's day. Days without rows get an empty file, so that a
        gap is not a loss. The `superseded` segments of these days go, and their days are written anew: those that
        `segments` told before `rows` were read; if not given, those that are there now.
        """
        outside = rows.filter(~pl.col(time).is_between(start, end, closed="left").fill_null(False)).height
        if outside:
            raise ValueError(f"{table}: {outside} rows lie outside {start:%Y-%m-%d} .. {end:%Y-%m-%d} by {time!r}")
        parts = _cut(rows, time, list(days_between(start, end)))
        with self._lock(table):
            old = self.segments(table, parts) if superseded is None else superseded
            layered = {day_of(path) for path in old}
            files = {day: self.path(table) / f"{day}.parquet" for day in parts}
            written = [day for day, part in parts.items() if day in layered or not _holds(files[day], part)]
            for day in written:
                self._replace(files[day], parts[day])
            for path, mark in self.segments(table, parts).items() if old else ():
                if old.get(path) == mark:
                    path.unlink()
        return written

    def upsert(
        self, table: str, rows: pl.DataFrame, *, key: Sequence[str], time: str, gone: pl.DataFrame | None = None
    ) -> None:
        """Add `rows`, or replace those of the same `key`, without rewriting the days they belong to.

        They join the newest segment of their day; a full one is closed. `time` is one of the key's columns, so that a
        row never moves to another day. `gone` holds keys of rows that are no longer: their days are folded at once.
        """
        if time not in key:
            raise ValueError(f"{table}: {time!r} must be part of the key {tuple(key)}, or a row could leave its day")
        about, rows = metadata(key, time), rows.unique(list(key), keep="last", maintain_order=True)
        with self._lock(table):
            files = self._files(table)
            for day, part in _by_day(rows, time):
                path, extended = with_newest_segment(self.path(table), day, files, part, key)
                self._replace(path, extended, about)
            for day, part in _by_day(gone, time) if gone is not None else ():
                self._fold(table, day, without=part)

    def compact(self, table: str, days: Iterable[date] | None = None) -> dict[date, Fold]:
        """Fold the segments of `days` (all days that have some) into their day files."""
        with self._lock(table):
            wanted = sorted({day for path in self.segments(table, days) if (day := day_of(path))})
            return {day: self._fold(table, day) for day in wanted}

    def tables(self, folder: str) -> list[str]:
        """Tables right below `folder`, for example below `flights/features`."""
        found = self.path(folder)
        return sorted(f"{folder}/{path.name}" for path in found.iterdir()) if found.is_dir() else []

    def segments(self, table: str, days: Iterable[date] | None = None) -> Segments:
        """The segments of `days` (of all), each with a mark that changes when it is rewritten."""
        folder, wanted = self.path(table), None if days is None else set(days)
        names = os.listdir(folder) if folder.is_dir() else []
        found = (
            folder / name for name in sorted(names) if "~" in name and name.endswith(".parquet") and name[0] != "."
        )
        return state(path for path in found if wanted is None or day_of(path) in wanted)

    def days_state(self, table: str, since: date) -> Segments:
        """Day files from `since` on, each with a mark that changes when it is rewritten."""
        return state(path for path in self._files(table) if not is_segment(path) and (day_of(path) or since) >= since)

    def write_static(self, table: str, rows: pl.DataFrame) -> bool:
        """Replace a table that has no days, if its rows differ; whether they did."""
        path = self.path(table) / f"{STATIC}.parquet"
        differs = not _holds(path, rows)
        if differs:
            self._replace(path, rows)
        return differs

    def read(self, table: str, *, start: datetime | None = None, end: datetime | None = None) -> pl.LazyFrame:
        """The rows of the days that `[start, end)` touches, oldest first; everything when no bound is given."""
        files = self._files(table)
        if not files:
            raise NotReadyError(f"{table}: no rows in the lake ({self.root}). Materialize its asset first.")
        chosen = [file for file in files if _touches(day_of(file), start, end)]
        return merged(chosen) if chosen else pl.scan_parquet(files[0]).head(0)

    def load(self, table: str, *, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """`read` into memory; a file that cannot be read is named."""
        try:
            return settled(lambda: self.read(table, start=start, end=end).collect())
        except (pl.exceptions.PolarsError, OSError) as error:
            broken = ", ".join(file.name for file in self.path(table).glob("*.parquet") if not _is_readable(file))
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{table}: {broken or 'a file'} cannot be read ({reason}). Materialize that day again."
            ) from error

    def raw(self, project: str, sources: Iterable[str], *, start: datetime, end: datetime) -> dict[str, pl.DataFrame]:
        """Raw rows by source, of the days that `[start, end)` touches."""
        return {name: self.load(f"{project}/raw/{name}", start=start, end=end) for name in sources}

    def require(self, table: str, start: datetime, end: datetime) -> None:
        """Raise NotReadyError when `table` lacks a day of `[start, end)`: a gap would pass for quiet days."""
        present = set(self.days(table))
        missing = [day for day in days_between(start, end) if day not in present]
        if missing:
            raise NotReadyError(
                f"{table} lacks {len(missing)} of the days {start:%Y-%m-%d} .. {end:%Y-%m-%d}, the first is "
                f"{missing[0]}. Materialize them first."
            )

    def days(self, table: str) -> list[date]:
        """Days that are present, oldest first."""
        found = {day_of(file) for file in self._files(table)}
        return sorted(day for day in found if day is not None)

    def _files(self, table: str) -> list[Path]:
        """Files of `table`, each day before its segments, oldest first."""
        folder = self.path(table)
        names = os.listdir(folder) if folder.is_dir() else []
        return [folder / name for name in sorted(names) if name.endswith(".parquet") and not name.startswith(".")]

    def _fold(self, table: str, day: date, without: pl.DataFrame | None = None) -> Fold:
        """One file of the day and its segments, less the keys of `without`. Needs the lock.

        The day is whole before the first segment goes: between the two, a reader meets the same rows twice at most.
        """
        files = [path for path in self._files(table) if day_of(path) == day]
        rows = merged(files).collect()
        if without is not None:
            rows = rows.join(without, on=without.columns, how="anti", maintain_order="left")
        num_keys, path = count_keys(files), self.path(table) / f"{day}.parquet"
        self._replace(path, rows)
        kept = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        for segment in filter(is_segment, files):
            segment.unlink()
        return Fold(num_segments=sum(map(is_segment, files)), num_keys=num_keys, num_rows=kept)

    @contextmanager
    def _lock(self, table: str) -> Iterator[None]:
        """One writer of a table at a time; readers need no lock."""
        self.path(table).mkdir(parents=True, exist_ok=True)
        with open(self.path(table) / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _replace(path: Path, rows: pl.DataFrame, about: Mapping[str, str] | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            rows.write_parquet(aside, compression="lz4", metadata=dict(about) if about else None)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


def days_between(start: datetime, end: datetime) -> Iterator[date]:
    """Days that `[start, end)` touches."""
    day = start.astimezone(UTC).date()
    while datetime(day.year, day.month, day.day, tzinfo=UTC) < end:
        yield day
        day += timedelta(days=1)


def _is_readable(file: Path) -> bool:
    try:
        pl.read_parquet_schema(file)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return True


def _cut(rows: pl.DataFrame, time: str, days: list[date]) -> dict[date, pl.DataFrame]:
    """The rows of each of `days`, which follow each other, in order of time."""
    rows = rows.sort(time, maintain_order=True)
    starts = pl.Series([datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days[1:]], dtype=UTC_TIME)
    edges = [0, *rows[time].cast(UTC_TIME).search_sorted(starts), rows.height]
    return {day: rows.slice(first, last - first) for day, (first, last) in zip(days, pairwise(edges), strict=True)}


def _holds(path: Path, rows: pl.DataFrame) -> bool:
    """Whether the file holds exactly these rows; a file that cannot be read does not."""
    if not path.exists():
        return False
    try:
        present = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return present.schema == rows.schema and present.equals(rows)


def _by_day(rows: pl.DataFrame, time: str) -> Iterator[tuple[date, pl.DataFrame]]:
    days = rows.with_columns(__day=pl.col(time).dt.date()).partition_by(
        "__day", as_dict=True, include_key=False, maintain_order=True
    )
    yield from ((day, part) for (day,), part in days.items())


def _touches(day: date | None, start: datetime | None, end: datetime | None) -> bool:
    if day is None:
        return True
    return (start is None or day >= start.astimezone(UTC).date()) and (
        end is None or datetime(day.year, day.month, day.day, tzinfo=UTC) < end
    )
