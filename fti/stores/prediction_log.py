"""The prediction log: every answered prediction, durable before the answer leaves, and the labels that came later.

Requests lie as newline-delimited JSON, one folder per UTC day of `event_timestamp`, one segment per writing process and
set of columns (see `fti.stores.log_segment`): a process that is killed loses nothing it has acknowledged, and a segment
that was changed or cut is refused by name.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from fti.checksums import aside_checked, require_whole
from fti.errors import DataError
from fti.stores.log_segment import UTC_TIME, append_lines, header_of, lines_of, read_segment

TIME = "event_timestamp"
"""Column that decides a record's day: the moment of prediction."""
ID = "request_id"
SERVED = "served_at"
LABEL_COLUMNS = ("actual", "known_at")
"""Columns of the label table beside the row key and `event_timestamp`."""


@dataclass(frozen=True)
class PredictionLog:
    """Requests, predictions and later labels of all projects below one root.

    Without `fsync` a record survives the death of its process; with it, the death of the machine (about 0.2 ms more
    for each group of records on a local disk).
    """

    root: str
    fsync: bool = False
    writer: str = field(default_factory=lambda: uuid.uuid4().hex[:12], repr=False, compare=False)
    """Part of the segments' names: two writers never share a file."""

    def append(self, project: str, records: pl.DataFrame) -> None:
        """Add `records`, one row per answered prediction; durable when it returns.

        Needs the columns `request_id`, `event_timestamp` and `served_at`; all others are kept as they are.
        """
        missing = {ID, TIME, SERVED} - set(records.columns)
        if missing:
            raise DataError(f"prediction log: the records lack {sorted(missing)}")
        header = header_of(tuple(records.columns), tuple(records.dtypes))
        name = f"{self.writer}-{os.getpid()}-{zlib.crc32(header):08x}.ndjson"
        for day, part in _by_day(records):
            path = self._requests(project) / str(day) / name
            append_lines(path, header, lines_of(part), fsync=self.fsync)

    def read(self, project: str, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """Records with `start <= event_timestamp < end`, oldest first; of several with one `request_id`, the first.

        Columns are the union over all records of the range, null where a record has none.
        """
        rows = [_within(frame, start, end) for frame in self._segments(project, start, end)]
        if not rows:
            return pl.DataFrame(schema={ID: pl.String, TIME: UTC_TIME, SERVED: UTC_TIME})
        table = pl.concat(rows, how="diagonal_relaxed").sort(SERVED, maintain_order=True)
        return table.unique(ID, keep="first", maintain_order=True).sort(TIME, maintain_order=True)

    def newest(self, project: str, until: datetime | None = None) -> datetime | None:
        """The latest `event_timestamp` that was logged, of those up to `until`, or None while there is none."""
        for _, rows in self.newest_first(project, until):
            latest = rows[TIME].max()
            if isinstance(latest, datetime):
                return latest
        return None

    def newest_first(self, project: str, until: datetime | None = None) -> Iterator[tuple[date, pl.DataFrame]]:
        """The days up to `until` and their records, the newest day first; requests that came twice are there twice."""
        last = date.max if until is None else until.astimezone(UTC).date()
        for day in reversed(_days(self._requests(project))):
            if day <= last and (found := self._day(project, day)):
                rows = pl.concat(found, how="diagonal_relaxed")
                yield day, rows if until is None else rows.filter(pl.col(TIME) <= until)

    def write_labels(self, project: str, rows: pl.DataFrame) -> int:
        """Keep the labels of `rows`: the row key, `event_timestamp`, `actual` and `known_at`.

        A label that comes again replaces the one before. Returns the number of labels that were not known yet.
        """
        added = 0
        for day, part in _by_day(rows):
            path = self._labels(project) / f"{day}.parquet"
            known = self._day_of_labels(path) if path.exists() else part.clear()
            key = [name for name in part.columns if name not in LABEL_COLUMNS]
            merged = pl.concat([known, part], how="vertical_relaxed").unique(key, keep="last", maintain_order=True)
            added += merged.height - known.height
            with aside_checked(path) as own:
                merged.write_parquet(own)
        return added

    def labels(self, project: str, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame | None:
        """Labels with `start <= event_timestamp < end`, or None while there are none."""
        days = [day for day in _days(self._labels(project)) if _touches(day, start, end)]
        frames = [self._day_of_labels(self._labels(project) / f"{day}.parquet") for day in days]
        return _within(pl.concat(frames, how="vertical_relaxed"), start, end) if frames else None

    def labelled(self, project: str, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """The records of `[start, end)` whose label is known, with the columns `actual` and `known_at`."""
        logged, labels = self.read(project, start, end), self.labels(project, start, end)
        if labels is None or logged.is_empty():
            empty = {"actual": pl.lit(None, pl.Int8), "known_at": pl.lit(None, UTC_TIME)}
            return logged.clear().with_columns(**empty)
        key = [name for name in labels.columns if name not in LABEL_COLUMNS]
        return logged.join(labels, on=key, how="inner", maintain_order="left")

    def reports(self, project: str) -> Path:
        """Folder of the drift reports written about this log."""
        return Path(self.root) / project / "reports"

    def _requests(self, project: str) -> Path:
        return Path(self.root) / project / "requests"

    def _labels(self, project: str) -> Path:
        return Path(self.root) / project / "labels"

    @staticmethod
    def _day_of_labels(path: Path) -> pl.DataFrame:
        require_whole([path], "Delete it and materialize labels, `until` the moment when those of that day were known.")
        return pl.read_parquet(path, glob=False)

    def _segments(self, project: str, start: datetime | None, end: datetime | None) -> Iterator[pl.DataFrame]:
        for day in _days(self._requests(project)):
            if _touches(day, start, end):
                yield from self._day(project, day)

    def _day(self, project: str, day: date) -> list[pl.DataFrame]:
        return [
            frame
            for path in sorted((self._requests(project) / str(day)).glob("*.ndjson"))
            if (frame := read_segment(path)) is not None
        ]


def _by_day(rows: pl.DataFrame) -> Iterable[tuple[date, pl.DataFrame]]:
    if rows.height == 1:
        moment: datetime = rows[TIME][0]
        return [(moment.astimezone(UTC).date(), rows)]
    parts = rows.with_columns(__day=pl.col(TIME).dt.date()).partition_by(
        "__day", as_dict=True, include_key=False, maintain_order=True
    )
    return [(day, part) for (day,), part in parts.items()]


def _days(folder: Path) -> list[date]:
    """Days that have a file or folder of their name, oldest first."""
    if not folder.exists():
        return []
    return sorted(date.fromisoformat(entry.stem) for entry in folder.iterdir() if not entry.name.startswith("."))


def _touches(day: date, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or day >= start.astimezone(UTC).date()) and (
        end is None or datetime(day.year, day.month, day.day, tzinfo=UTC) < end
    )


def _within(frame: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    if start is not None:
        frame = frame.filter(pl.col(TIME) >= start)
    return frame if end is None else frame.filter(pl.col(TIME) < end)
