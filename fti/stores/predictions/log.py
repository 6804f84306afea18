"""The prediction log: every answered prediction, durable before the answer leaves, and the labels that came later.

Requests lie as newline-delimited JSON, one folder per UTC day of `event_timestamp`, in segments of one writing process
and set of columns (see `fti.stores.predictions.segment`): a process that is killed loses nothing it has acknowledged,
and a segment that was changed or cut is refused by name. A team's log lies in its bucket: segments are written on the
machine that answers and brought there (see `fti.stores.predictions.upload`). Labels are a table of the lake's kind.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from fti.errors import DataError
from fti.storage.blobs import Blobs, Folder, open_blobs
from fti.stores.lake.store import Lake
from fti.stores.predictions.segment import append_lines, header_of, lines_of, read_segment
from fti.times import TIME, UTC_TIME

"""Column that decides a record's day: the moment of prediction."""
ID = "request_id"
SERVED = "served_at"
LABEL_COLUMNS = ("actual", "known_at")
"""Columns of the label table beside the row key and `event_timestamp`."""


@dataclass(frozen=True)
class PredictionLog:
    """Requests, predictions and later labels of all projects: below `root`, a folder of this machine, and below
    `storage`, `s3://bucket/prefix`, where several machines share them.

    Without `fsync` a record survives the death of its process; with it, the death of the machine (about 0.2 ms more
    for each group of records on a local disk).
    """

    root: str
    storage: str = ""
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
        name = f"{self.writer}-{os.getpid()}-{zlib.crc32(header):08x}"
        for day, part in _by_day(records):
            stem = Path(self.root) / _requests(project) / str(day) / name
            append_lines(stem, header, lines_of(part), fsync=self.fsync)

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
        for day in reversed(self._days(project)):
            if day <= last and (found := self._day(project, day)):
                rows = pl.concat(found, how="diagonal_relaxed")
                yield day, rows if until is None else rows.filter(pl.col(TIME) <= until)

    def write_labels(self, project: str, rows: pl.DataFrame) -> int:
        """Keep the labels of `rows`: the row key, `event_timestamp`, `actual` and `known_at`.

        A label that comes again replaces the one before. Returns the number of labels that were not known yet.
        """
        table, key = _labels(project), [name for name in rows.columns if name not in LABEL_COLUMNS]
        rows = rows.unique(key, keep="last", maintain_order=True)
        if not rows.height:
            return 0
        known = self.labels(project, rows[TIME].min(), rows[TIME].max() + timedelta(microseconds=1))  # type: ignore
        changed = rows if known is None else rows.join(known, on=rows.columns, how="anti", nulls_equal=True)
        if changed.height:
            self._lake.upsert(table, changed, key=key, time=TIME)
            self._lake.compact(table, changed[TIME].dt.date().unique())
        return changed.height if known is None else changed.join(known, on=key, how="anti").height

    def labels(self, project: str, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame | None:
        """Labels with `start <= event_timestamp < end`, or None while there are none."""
        table = _labels(project)
        if not self._lake.version(table).files:
            return None
        return _within(self._lake.load(table, start=start, end=end), start, end)

    def labelled(self, project: str, start: datetime | None = None, end: datetime | None = None) -> pl.DataFrame:
        """The records of `[start, end)` whose label is known, with the columns `actual` and `known_at`."""
        logged, labels = self.read(project, start, end), self.labels(project, start, end)
        if labels is None or logged.is_empty():
            empty = {"actual": pl.lit(None, pl.Int8), "known_at": pl.lit(None, UTC_TIME)}
            return logged.clear().with_columns(**empty)
        key = [name for name in labels.columns if name not in LABEL_COLUMNS]
        return logged.join(labels, on=key, how="inner", maintain_order="left")

    def write_report(self, project: str, name: str, content: bytes) -> str:
        """Keep a report about this log; the address at which it is found."""
        blobs, key = self._remote or self._local, f"{project}/reports/{name}"
        blobs.write(key, content)
        return blobs.address(key)

    @property
    def _local(self) -> Folder:
        return Folder(self.root)

    @property
    def _remote(self) -> Blobs | None:
        return open_blobs(self.storage) if self.storage else None

    @property
    def _lake(self) -> Lake:
        return Lake(self.storage or self.root)

    def _segments(self, project: str, start: datetime | None, end: datetime | None) -> Iterator[pl.DataFrame]:
        for day in self._days(project):
            if _touches(day, start, end):
                yield from self._day(project, day)

    def _days(self, project: str) -> list[date]:
        """Days that have a folder of their name, oldest first."""
        places = [blobs for blobs in (self._local, self._remote) if blobs]
        return sorted({date.fromisoformat(name) for blobs in places for name in blobs.folders(_requests(project))})

    def _day(self, project: str, day: date) -> list[pl.DataFrame]:
        """The records of a day by segment. What was brought to the bucket may at once be gone here."""
        folder = f"{_requests(project)}/{day}"
        here = {blob.key for blob in self._local.entries(folder, recursive=False)}
        there = {blob.key for blob in self._remote.entries(folder, recursive=False)} if self._remote else set()
        keys = sorted(key for key in here | there if key.endswith(".ndjson"))
        return [frame for key in keys if (frame := self._segment(key, here)) is not None]

    def _segment(self, key: str, here: set[str]) -> pl.DataFrame | None:
        if key in here:
            try:
                return read_segment(self._local.read(key), self._local.address(key))
            except FileNotFoundError:
                if not self._remote:
                    raise
        assert self._remote
        return read_segment(self._remote.read(key), self._remote.address(key))


def _requests(project: str) -> str:
    return f"{project}/requests"


def _labels(project: str) -> str:
    return f"{project}/labels"


def _by_day(rows: pl.DataFrame) -> Iterable[tuple[date, pl.DataFrame]]:
    if rows.height == 1:
        moment: datetime = rows[TIME][0]
        return [(moment.astimezone(UTC).date(), rows)]
    parts = rows.with_columns(__day=pl.col(TIME).dt.date()).partition_by(
        "__day", as_dict=True, include_key=False, maintain_order=True
    )
    return [(day, part) for (day,), part in parts.items()]


def _touches(day: date, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or day >= start.astimezone(UTC).date()) and (
        end is None or datetime(day.year, day.month, day.day, tzinfo=UTC) < end
    )


def _within(frame: pl.DataFrame, start: datetime | None, end: datetime | None) -> pl.DataFrame:
    if start is not None:
        frame = frame.filter(pl.col(TIME) >= start)
    return frame if end is None else frame.filter(pl.col(TIME) < end)
