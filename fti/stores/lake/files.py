"""The files of a commit to the lake: rows cut by day or month, written as Parquet, and compared with what is there."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import polars as pl

from fti.storage.blobs import Blobs, Folder
from fti.storage.checksums import is_whole
from fti.storage.periods import Period, first_day, midnight, stem_of
from fti.storage.reading import Scan, key_of, merged
from fti.storage.tables import File, TableLog
from fti.stores.lake.segments import days_in, days_of_month
from fti.times import UTC_TIME

WRITERS = 8
"""Files of one commit that are written at a time."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A day that was folded: its segments, the different keys in all its files, and the rows it then had."""

    num_segments: int
    num_keys: int
    num_rows: int


class FileWriter:
    """The files that one commit writes: each is made once, however often the commit begins again."""

    def __init__(self, log: TableLog) -> None:
        self.log = log
        self._contents: dict[str, bytes] = {}
        self._files: dict[str, File] = {}

    def holds(self, file: File, rows: pl.DataFrame, facts: Mapping[str, Any]) -> bool:
        """Whether the file holds exactly these rows and says this of them; one that cannot be read does not."""
        if file.rows != rows.height or any(getattr(file, name) != value for name, value in facts.items()):
            return False
        blobs = self.log.blobs
        if not is_there_whole(blobs, file):
            return False
        content = self._content(file.period, rows)
        if file.sum == (zlib.crc32(content), len(content)):
            return True
        try:
            present = pl.read_parquet(blobs.address(file.name), glob=False, storage_options=blobs.options)
        except (pl.exceptions.PolarsError, OSError):
            return False
        return bool(present.schema == rows.schema and present.equals(rows))

    def put(self, parts: Mapping[str, pl.DataFrame], facts: Mapping[str, Mapping[str, Any]]) -> list[File]:
        """The rows of each period as a file."""

        def write(period: str) -> File:
            if period not in self._files:
                content, own = self._content(period, parts[period]), facts.get(period, {})
                self._files[period] = self.log.put(content, period=period, rows=parts[period].height, **own)
            self._contents.pop(period, None)
            return self._files[period]

        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(write, sorted(parts)))

    def _content(self, period: str, rows: pl.DataFrame) -> bytes:
        if period not in self._contents:
            self._contents[period] = parquet(rows)
        return self._contents[period]


def is_there_whole(blobs: Blobs, file: File) -> bool:
    """Whether the file is there as it was written; a bucket's server looks after its own."""
    if not isinstance(blobs, Folder):
        return True
    path = blobs.path / file.name
    return path.exists() and is_whole(path, {file.sum})


def parquet(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.rechunk().write_parquet(buffer, compression="lz4")
    return buffer.getvalue()


def cut(rows: pl.DataFrame, time: str, periods: list[str]) -> dict[str, pl.DataFrame]:
    """The rows of each of the periods, which follow each other, in order of time."""
    rows = rows.sort(time, maintain_order=True)
    starts = pl.Series([midnight(first_day(period)) for period in periods[1:]], dtype=UTC_TIME)
    edges = [0, *rows[time].cast(UTC_TIME).search_sorted(starts), rows.height]
    return {
        period: rows.slice(first, last - first) for period, (first, last) in zip(periods, pairwise(edges), strict=True)
    }


def by_period(rows: pl.DataFrame, time: str, by: Period) -> Iterator[tuple[str, pl.DataFrame]]:
    first = pl.col(time).dt.date() if by == "day" else pl.col(time).dt.truncate("1mo").dt.date()
    parts = rows.with_columns(__first=first).partition_by("__first", as_dict=True, include_key=False)
    yield from ((stem_of(first, by), part) for (first,), part in parts.items())


def folded(log: TableLog, scan: Scan, files: Sequence[File], without: pl.DataFrame | None = None) -> tuple[File, Fold]:
    """One file of all `files` of a period, less the keys of `without`."""
    rows = merged(files, scan).collect()
    if without is not None:
        rows = rows.join(without, on=without.columns, how="anti", maintain_order="left")
    last = files[-1]
    days = days_of_month(last.period, chain(*map(days_in, files)))
    file = log.put(parquet(rows), rows=rows.height, period=last.period, time=last.time, days=days)
    num_segments, key = sum(bool(file.segment) for file in files), key_of(files)
    counted = scan(files).select(pl.struct(key).n_unique() if key and num_segments else pl.len())
    kept = scan([file]).select(pl.len())
    numbers = {"num_keys": int(counted.collect().item()), "num_rows": int(kept.collect().item())}
    return file, Fold(num_segments=num_segments, **numbers)
