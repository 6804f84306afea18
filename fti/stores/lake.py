"""The lake: raw rows and feature rows as Parquet, one file per table and UTC day, and segments of rows that came later.

A day is `<table>/2013-01-31.parquet`. Rows that change after it was written lie beside it in segments,
`2013-01-31~000001.parquet`, until they are folded into it: a row of a later file replaces the row of the same key.
Long histories lie by month, `2013-01.parquet`, whose metadata names the time column and the days that it has.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl

from fti.checksums import aside_checked, require_whole
from fti.errors import DataError, NotReadyError
from fti.periods import LENGTHS, Period, by_stem, days_between, end_day, first_day, midnight, period_of, stem_of
from fti.stores.segments import (
    Segments,
    count_keys,
    days_in,
    facts_of,
    is_segment,
    merged,
    merged_facts,
    segment_facts,
    settled,
    state,
    touched,
    with_newest_segment,
    within,
)
from fti.stores.segments import stem_of as stem_in

UTC_TIME = pl.Datetime("us", "UTC")
MOST_CHARACTERS = 300  # of polars' words, which name every file that was to be read
REMEDY = "Materialize that day again."
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
        by: Period = "day",
    ) -> list[date]:
        """Replace the days of `[start, end)` whose rows differ from those that are there; returns these days.

        `time` names the UTC datetime column that decides a row's day. Days without rows get an empty file, so that a
        gap is not a loss. The `superseded` segments of these days go, and their days are written anew: those that
        `segments` told before `rows` were read; if not given, those that are there now.

        With `by="month"` the rows of a month are one file, which is replaced as a whole: what `[start, end)` has of
        a month is then all that the month has.
        """
        outside = rows.filter(~pl.col(time).is_between(start, end, closed="left").fill_null(False)).height
        if outside:
            raise ValueError(f"{table}: {outside} rows lie outside {start:%Y-%m-%d} .. {end:%Y-%m-%d} by {time!r}")
        days = list(days_between(start, end))
        periods = by_stem(days, by)
        parts = _cut(rows, time, list(periods))
        with self._lock(table):
            self._require(table, by)
            old = self.segments(table, days) if superseded is None else superseded
            layered = {stem_in(path) for path in old}
            written = set()
            for stem, part in parts.items():
                path, facts = self.path(table) / f"{stem}.parquet", facts_of(time, stem, periods[stem])
                if stem in layered or not _holds(path, part, facts):
                    self._replace(path, part, facts)
                    written.add(stem)
            for path, mark in self.segments(table, days).items() if old else ():
                if old.get(path) == mark:
                    path.unlink()
        return [day for day in days if stem_of(day, by) in written]

    def upsert(
        self,
        table: str,
        rows: pl.DataFrame,
        *,
        key: Sequence[str],
        time: str,
        gone: pl.DataFrame | None = None,
        by: Period = "day",
    ) -> None:
        """Add `rows`, or replace those of the same `key`, without rewriting the days they belong to.

        They join the newest segment of their day (month); a full one is closed. `time` is one of the key's columns, so
        that a row never moves to another day. `gone` holds keys of rows that are no longer: their days are folded at
        once.
        """
        if time not in key:
            raise ValueError(f"{table}: {time!r} must be part of the key {tuple(key)}, or a row could leave its day")
        rows = rows.unique(list(key), keep="last", maintain_order=True)
        with self._lock(table):
            self._require(table, by)
            files = self._files(table)
            for stem, part in _by_period(rows, time, by):
                own = (path for path in files if is_segment(path) and stem_in(path) == stem)
                require_whole(own, REMEDY, of=table)
                path, extended = with_newest_segment(self.path(table), stem, files, part, key)
                self._replace(path, extended, segment_facts(key, time, stem, extended))
            for stem, part in _by_period(gone, time, by) if gone is not None else ():
                self._fold(table, stem, without=part)

    def compact(self, table: str, days: Iterable[date] | None = None) -> dict[date, Fold]:
        """Fold the segments of `days` (all days that have some) into their files; of a month the first day is told."""
        with self._lock(table):
            wanted = sorted({stem for path in self.segments(table, days) if (stem := stem_in(path))})
            return {first_day(stem): self._fold(table, stem) for stem in wanted}

    def tables(self, folder: str) -> list[str]:
        """Tables right below `folder`, for example below `flights/features`."""
        found = self.path(folder)
        return sorted(f"{folder}/{path.name}" for path in found.iterdir()) if found.is_dir() else []

    def segments(self, table: str, days: Iterable[date] | None = None) -> Segments:
        """The segments of `days` (of all), each with a mark that changes when it is rewritten."""
        folder = self.path(table)
        wanted = None if days is None else {stem_of(day, by) for day in set(days) for by in LENGTHS}
        names = os.listdir(folder) if folder.is_dir() else []
        found = (
            folder / name for name in sorted(names) if "~" in name and name.endswith(".parquet") and name[0] != "."
        )
        return state(path for path in found if wanted is None or stem_in(path) in wanted)

    def days_state(self, table: str, since: date) -> Segments:
        """Day files from `since` on, each with a mark that changes when it is rewritten."""
        files = (path for path in self._files(table) if not is_segment(path))
        return state(path for path in files if not (stem := stem_in(path)) or end_day(stem) > since)

    def write_static(self, table: str, rows: pl.DataFrame) -> bool:
        """Replace a table that has no days, if its rows differ; whether they did."""
        path = self.path(table) / f"{STATIC}.parquet"
        differs = not _holds(path, rows, {})
        if differs:
            self._replace(path, rows)
        return differs

    def read(self, table: str, *, start: datetime | None = None, end: datetime | None = None) -> pl.LazyFrame:
        """The rows of the days that `[start, end)` touches, oldest first; everything when no bound is given."""
        files = self._files(table)
        if not files:
            raise NotReadyError(f"{table}: no rows in the lake ({self.root}). Materialize its asset first.")
        chosen = touched(files, start, end)
        require_whole(chosen, REMEDY, of=table)
        return within(merged(chosen), chosen, start, end) if chosen else pl.scan_parquet(files[0], glob=False).head(0)

    def load(
        self,
        table: str,
        ask: Callable[[pl.LazyFrame], pl.LazyFrame] = lambda rows: rows,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> pl.DataFrame:
        """`read`, or what `ask` makes of it, into memory; a file that cannot be read is named."""
        try:
            return settled(lambda: ask(self.read(table, start=start, end=end)).collect())
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            broken = ", ".join(file.name for file in self.path(table).glob("*.parquet") if not _is_readable(file))
            reason = str(error).splitlines()[0][:MOST_CHARACTERS]
            raise DataError(
                f"{table}: {broken or 'a file'} cannot be read ({reason}). Materialize that day again."
            ) from error

    def num_rows(self, table: str) -> int:
        """Rows of `table`."""
        return int(self.load(table, lambda rows: rows.select(pl.len())).item())

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
        return sorted({day for file in self._files(table) for day in days_in(file)})

    def _files(self, table: str) -> list[Path]:
        """Files of `table`, each day before its segments, oldest first."""
        folder = self.path(table)
        names = os.listdir(folder) if folder.is_dir() else []
        return [folder / name for name in sorted(names) if name.endswith(".parquet") and not name.startswith(".")]

    def _require(self, table: str, by: Period) -> None:
        """Raise DataError when the files of `table` are of another period: their rows would be there twice."""
        stems = (stem_in(path) for path in self._files(table) if not is_segment(path))
        if other := next((stem for stem in stems if stem and period_of(stem) != by), ""):
            raise DataError(
                f"{table} lies by {period_of(other)}, and is to be written by {by}: set the project's `partition_by` "
                f"back, or delete {self.path(table)} and run again."
            )

    def _fold(self, table: str, stem: str, without: pl.DataFrame | None = None) -> Fold:
        """One file of the day (month) and its segments, less the keys of `without`. Needs the lock.

        The day is whole before the first segment goes: between the two, a reader meets the same rows twice at most.
        """
        files = [path for path in self._files(table) if stem_in(path) == stem]
        require_whole(files, REMEDY, of=table)
        rows = merged(files).collect()
        if without is not None:
            rows = rows.join(without, on=without.columns, how="anti", maintain_order="left")
        num_keys, path = count_keys(files), self.path(table) / f"{stem}.parquet"
        facts = merged_facts(files)
        self._replace(path, rows, facts)
        kept = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
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
    def _replace(path: Path, rows: pl.DataFrame, facts: Mapping[str, str] | None = None) -> None:
        with aside_checked(path, durable=False) as own:
            rows.write_parquet(own, compression="lz4", metadata=dict(facts) if facts else None)


def _is_readable(file: Path) -> bool:
    try:
        pl.scan_parquet(file, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError):
        return False
    return True


def _cut(rows: pl.DataFrame, time: str, stems: list[str]) -> dict[str, pl.DataFrame]:
    """The rows of each of the periods, which follow each other, in order of time."""
    rows = rows.sort(time, maintain_order=True)
    starts = pl.Series([midnight(first_day(stem)) for stem in stems[1:]], dtype=UTC_TIME)
    edges = [0, *rows[time].cast(UTC_TIME).search_sorted(starts), rows.height]
    return {stem: rows.slice(first, last - first) for stem, (first, last) in zip(stems, pairwise(edges), strict=True)}


def _holds(path: Path, rows: pl.DataFrame, facts: Mapping[str, str]) -> bool:
    """Whether the file holds exactly these rows and says this of itself; a file that cannot be read does not."""
    if not path.exists():
        return False
    try:
        require_whole([path], REMEDY)
        present = pl.read_parquet(path, glob=False)
        known = pl.read_parquet_metadata(path) if facts else {}
    except (pl.exceptions.PolarsError, OSError, DataError):
        return False
    return present.schema == rows.schema and present.equals(rows) and facts.items() <= known.items()


def _by_period(rows: pl.DataFrame, time: str, by: Period) -> Iterator[tuple[str, pl.DataFrame]]:
    first = pl.col(time).dt.date() if by == "day" else pl.col(time).dt.truncate("1mo").dt.date()
    parts = rows.with_columns(__first=first).partition_by("__first", as_dict=True, include_key=False)
    yield from ((stem_of(first, by), part) for (first,), part in parts.items())
