"""The lake: raw rows and feature rows as Parquet, one file per table and UTC day."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl

from fti.errors import DataError, NotReadyError

UTC_TIME = pl.Datetime("us", "UTC")
STATIC = "all"
"""File stem of a table that has no days."""


@dataclass(frozen=True)
class Lake:
    """Tables below one root. A day is replaced as a whole, by one rename: a reader sees the old or the new rows."""

    root: str

    def path(self, table: str) -> Path:
        """Folder of `table`, for example `flights/raw/weather`."""
        return Path(self.root) / table

    def write(self, table: str, rows: pl.DataFrame, *, time: str, start: datetime, end: datetime) -> int:
        """Replace the days of `[start, end)`; days without rows get an empty file, so that a gap is not a loss.

        `time` names the UTC datetime column that decides a row's day. Returns the number of files written.
        """
        outside = rows.filter((pl.col(time) < start) | (pl.col(time) >= end)).height
        if outside:
            raise ValueError(f"{table}: {outside} rows lie outside {start:%Y-%m-%d} .. {end:%Y-%m-%d} by {time!r}")
        rows = rows.sort(time, maintain_order=True)
        days = list(days_between(start, end))
        starts = pl.Series([datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days[1:]], dtype=UTC_TIME)
        edges = [0, *rows[time].cast(UTC_TIME).search_sorted(starts), rows.height]
        for day, (first, last) in zip(days, pairwise(edges), strict=True):
            self._replace(self.path(table) / f"{day}.parquet", rows.slice(first, last - first))
        return len(days)

    def write_static(self, table: str, rows: pl.DataFrame) -> None:
        """Replace a table that has no days."""
        self._replace(self.path(table) / f"{STATIC}.parquet", rows)

    def read(self, table: str, *, start: datetime | None = None, end: datetime | None = None) -> pl.LazyFrame:
        """The rows of the days that `[start, end)` touches, oldest first; everything when no bound is given."""
        files = sorted(self.path(table).glob("*.parquet"))
        if not files:
            raise NotReadyError(f"{table}: no rows in the lake ({self.root}). Materialize its asset first.")
        chosen = [file for file in files if _touches(file.stem, start, end)]
        return pl.scan_parquet(chosen) if chosen else pl.scan_parquet(files[0]).head(0)

    def load(self, table: str, *, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """`read` into memory; a file that cannot be read is named."""
        try:
            return self.read(table, start=start, end=end).collect()
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
        stems = (file.stem for file in self.path(table).glob("*.parquet"))
        return sorted(date.fromisoformat(stem) for stem in stems if stem != STATIC)

    @staticmethod
    def _replace(path: Path, rows: pl.DataFrame) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            rows.write_parquet(aside, compression="lz4")
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


def _touches(stem: str, start: datetime | None, end: datetime | None) -> bool:
    if stem == STATIC:
        return True
    day = date.fromisoformat(stem)
    return (start is None or day >= start.astimezone(UTC).date()) and (
        end is None or datetime(day.year, day.month, day.day, tzinfo=UTC) < end
    )
