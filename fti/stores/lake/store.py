"""The lake: raw rows and feature rows as Parquet, one file per table and UTC day, and segments of rows that came later.

Every table is a log of versions (`fti.storage.tables`). The rows of a day are one file; rows that change afterwards lie
in segments of that day until they are folded into it: a row of a later file replaces the row of the same key. Long
histories lie by month. A write of any number of days, or a fold, is one commit: readers see all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl

from fti.errors import DataError, NotReadyError
from fti.storage.blobs import Blobs, Folder, open_blobs
from fti.storage.periods import Period, by_stem, days_between, first_day, period_of, stem_of
from fti.storage.reading import REMEDY, merged, require_whole, settled
from fti.storage.tables import File, TableLog, Version
from fti.stores.lake.files import FileWriter, Fold, by_period, cut, folded, is_there_whole, parquet
from fti.stores.lake.migration import adopted
from fti.stores.lake.segments import (
    SEGMENT_ROWS,
    STATIC,
    days_in,
    days_of_month,
    touched,
    within,
)
from fti.times import UTC_TIME

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["STATIC", "UTC_TIME", "Fold", "Lake"]
MOST_CHARACTERS = 300  # of polars' words, which name every file that was to be read


@dataclass(frozen=True)
class Lake:
    """Tables below `root`, a folder or `s3://bucket/prefix`; what was done with them is in the `database`, an
    SQLAlchemy URL: an SQLite file in the folder unless given."""

    root: str
    database: str = ""

    @property
    def blobs(self) -> Blobs:
        return open_blobs(self.root)

    def transaction(self, *, write: bool = True) -> AbstractContextManager[Connection]:
        """A transaction in the database."""
        from fti.storage.sql import transaction

        return transaction(self.url, write=write)

    @property
    def url(self) -> str:
        """URL of the database."""
        return self.database or f"sqlite:///{self.root}/fti.db"

    def version(self, table: str) -> Version:
        """The version of `table` that is in force, for example of `flights/raw/weather`."""
        log = self._log(table)
        version = log.newest()
        if not version.number and isinstance(log.blobs, Folder) and (files := adopted(log.blobs.path)):
            return log.commit(lambda base: None if base.number else files)
        return version

    def is_whole(self, table: str, file: File) -> bool:
        """Whether a file of `table` is there as it was written."""
        return is_there_whole(self._log(table).blobs, file)

    def write(
        self,
        table: str,
        rows: pl.DataFrame,
        *,
        time: str,
        start: datetime,
        end: datetime,
        superseded: Version | None = None,
        by: Period = "day",
        keep_quiet: bool = True,
    ) -> list[date]:
        """Replace the days of `[start, end)` whose rows differ from those that are there; returns these days.

        `time` names the UTC datetime column that decides a row's day. Days without rows get an empty file, so that a
        gap is not a loss; without `keep_quiet` they lose theirs. The segments of these days that the `superseded`
        version has go, and their days are written anew: the version before `rows` were read; if not given, the newest.

        With `by="month"` the rows of a month are one file, which is replaced as a whole: what `[start, end)` has of
        a month is then all that the month has.
        """
        outside = rows.filter(~pl.col(time).is_between(start, end, closed="left").fill_null(False)).height
        if outside:
            raise ValueError(f"{table}: {outside} rows lie outside {start:%Y-%m-%d} .. {end:%Y-%m-%d} by {time!r}")
        days = list(days_between(start, end))
        periods = by_stem(days, by)
        parts = cut(rows, time, list(periods))
        if not keep_quiet:
            parts = {period: part for period, part in parts.items() if part.height}
        made = FileWriter(self._log(table))
        changed: set[str] = set()

        def change(base: Version) -> list[File] | None:
            self._require(table, base, by)
            old = {file.name for file in (superseded or base).segments if file.period in periods}
            layered = {file.period for file in base.segments if file.name in old}
            present = {file.period: file for file in base.files if not file.segment}
            changed.clear()
            changed.update(period for period in periods if period not in parts and period in present)
            facts = {period: {"time": time, "days": days_of_month(period, periods[period])} for period in parts}
            facts = facts if by == "month" else {}
            for period in parts:
                file = None if period in layered else present.get(period)
                if not file or not made.holds(file, parts[period], facts.get(period, {})):
                    changed.add(period)
            if not changed and not layered:
                return None
            files = made.put({period: parts[period] for period in changed & parts.keys()}, facts)
            left = (
                file for file in base.files if file.name not in old and (file.segment or file.period not in changed)
            )
            return [*left, *files]

        self.version(table)
        self._log(table).commit(change)
        return [day for day in days if stem_of(day, by) in changed]

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
        parts = dict(by_period(rows, time, by))
        lost = dict(by_period(gone, time, by)) if gone is not None else {}

        def change(base: Version) -> Iterable[File] | None:
            self._require(table, base, by)
            files = {file.name: file for file in base.files}
            for period, part in parts.items():
                last = next((file for file in reversed(base.of(period)) if file.segment), None)
                number = last.segment if last else 1
                if last and last.rows >= SEGMENT_ROWS:
                    number += 1
                elif last:
                    part = pl.concat([self._scan(table, [last]).collect(), part])
                    part = part.unique(list(key), keep="last", maintain_order=True)
                    del files[last.name]
                days = days_of_month(period, part[time].dt.date().unique())
                file = self._put(table, part, period=period, segment=number, key=tuple(key), time=time, days=days)
                files[file.name] = file
            for period, keys in lost.items():
                if own := sorted(
                    (file for file in files.values() if file.period == period), key=lambda file: file.order
                ):
                    file, _ = folded(self._log(table), partial(self._scan, table), own, without=keys)
                    files = {name: file for name, file in files.items() if file.period != period} | {file.name: file}
            return files.values() if parts or lost else None

        self.version(table)
        self._log(table).commit(change)

    def compact(self, table: str, days: Iterable[date] | None = None) -> dict[date, Fold]:
        """Fold the segments of `days` (all days that have some) into their files; of a month the first day is told."""
        folds: dict[date, Fold] = {}
        wanted = None if days is None else {stem_of(day, by) for day in days for by in ("day", "month")}

        def change(base: Version) -> Iterable[File] | None:
            folds.clear()
            periods = {file.period for file in base.segments if wanted is None or file.period in wanted}
            files = [file for file in base.files if file.period not in periods]
            for period in sorted(periods):
                file, folds[first_day(period)] = folded(self._log(table), partial(self._scan, table), base.of(period))
                files.append(file)
            return files if periods else None

        self.version(table)
        self._log(table).commit(change)
        return folds

    def tables(self, folder: str) -> list[str]:
        """Tables right below `folder`, for example below `flights/features`."""
        return [f"{folder}/{name}" for name in self.blobs.folders(folder)]

    def write_static(self, table: str, rows: pl.DataFrame) -> bool:
        """Replace a table that has no days, if its rows differ; whether they did."""
        made = FileWriter(self._log(table))

        def change(base: Version) -> list[File] | None:
            if base.files and made.holds(base.files[-1], rows, {}):
                return None
            return made.put({STATIC: rows}, {})

        before = self.version(table)
        return self._log(table).commit(change) != before

    def clear(self, table: str) -> None:
        """Leave `table` without rows."""
        if self.version(table).files:
            self._log(table).commit(lambda base: [])

    def read(self, table: str, *, start: datetime | None = None, end: datetime | None = None) -> pl.LazyFrame:
        """The rows of the days that `[start, end)` touches, oldest first; everything when no bound is given."""
        files = self.version(table).files
        if not files:
            raise NotReadyError(f"{table}: no rows in the lake ({self.root}). Materialize its asset first.")
        chosen = touched(files, start, end)
        if not chosen:
            return self._scan(table, files[:1]).head(0)
        return within(merged(chosen, partial(self._scan, table)), chosen, start, end)

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
            broken = ", ".join(file.name for file in self.version(table).files if not self._is_readable(table, file))
            reason = str(error).splitlines()[0][:MOST_CHARACTERS]
            raise DataError(f"{table}: {broken or 'a file'} cannot be read ({reason}). {REMEDY}") from error

    def num_rows(self, table: str) -> int:
        """Rows of `table`."""
        version = self.version(table)
        if version.segments or not version.files:
            return int(self.load(table, lambda rows: rows.select(pl.len())).item())
        return sum(file.rows for file in version.files)

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
        return sorted({day for file in self.version(table).files for day in days_in(file)})

    def _log(self, table: str) -> TableLog:
        return TableLog(self.blobs.at(table))

    def _scan(self, table: str, files: Sequence[File]) -> pl.LazyFrame:
        log = self._log(table)
        require_whole(log.blobs, files, of=table)
        addresses = [log.blobs.address(file.name) for file in files]
        return pl.scan_parquet(addresses, glob=False, storage_options=log.blobs.options)

    def _is_readable(self, table: str, file: File) -> bool:
        try:
            self._scan(table, [file]).collect_schema()
        except (pl.exceptions.PolarsError, DataError, OSError):
            return False
        return True

    def _require(self, table: str, version: Version, by: Period) -> None:
        """Raise DataError when the files of `table` are of another period: their rows would be there twice."""
        periods = (file.period for file in version.files if not file.segment and file.period != STATIC)
        if other := next((period for period in periods if period_of(period) != by), ""):
            raise DataError(
                f"{table} lies by {period_of(other)}, and is to be written by {by}: set the project's `partition_by` "
                f"back, or delete {self.blobs.address(table)} and run again."
            )

    def _put(self, table: str, rows: pl.DataFrame, **facts: Any) -> File:
        return self._log(table).put(parquet(rows), rows=rows.height, **facts)
