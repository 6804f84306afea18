"""The sorted layout: a feature source's rows ordered by (entity, time) in memory-mapped files, so that a point-in-time
join is a binary search and one gather. It is a cache: whoever deletes it loses nothing but time.

    <the source's folder>/.layout/<source>-<what the rows mean>/<their state>/  about.json entities.arrow rows.arrow
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fti.storage.checksums import Sum, is_whole, sum_of
from fti.storage.folder import Folder
from fti.storage.reading import files_of, require_as_written
from fti.stores.features.offline.search import (
    FIRST,
    LAST,
    ascending,
    differs_from_next,
    gathered,
    last_until,
    match,
    sorted_places,
    spans,
)

FORMAT = 3
KNOWN, EVENT = "__known", "__event"
_ENTITY = "__entity"
_CHUNK = 1 << 14
CASTS = pl.ScanCastOptions(
    integer_cast="upcast",
    float_cast="upcast",
    datetime_cast=["nanosecond-downcast", "convert-timezone"],
    categorical_to_string="allow",
)
"""How files of one source may differ in the types of their columns."""
_ABANDONED = 3600
"""Seconds after which a half-written layout is nobody's."""


@dataclass(frozen=True)
class Layout:
    """`entities`: the keys with their first and last row; `rows`: `__known` and `__event` (microseconds) and columns.

    `rows` are sorted by entity and by the moment from which each was known. Without a creation time a row is known
    when it happens and there is no `__event`.
    """

    entities: pl.DataFrame
    rows: pl.DataFrame

    @classmethod
    def of(cls, rows: pl.DataFrame, keys: list[str]) -> Layout:
        """The layout of `rows`; of two rows of one entity known from one moment, the later one stays."""
        entities = rows.select(keys).unique().sort(keys).with_row_index(_ENTITY) if keys else pl.DataFrame()
        code = match(rows.select(keys), entities)[_ENTITY] if keys else pl.zeros(rows.height, pl.UInt32, eager=True)
        order = sorted_places(code, rows[KNOWN])
        last = np.flatnonzero(differs_from_next(code, order) | differs_from_next(rows[KNOWN], order))
        order, ends = order[last], np.flatnonzero(differs_from_next(code, order[last]))
        first = np.append(0, ends[:-1] + 1)[: len(ends)]
        spans = pl.DataFrame({FIRST: first.astype(np.int64), LAST: ends.astype(np.int64)})
        known = entities.select(keys).hstack(spans) if keys else spans
        return cls(known, rows.drop(keys)[order])

    def features_at(self, keys: pl.DataFrame, moments: pl.Series, ttl: int, features: list[str]) -> pl.DataFrame:
        """`features` of the entities `keys` as known at `moments` (UTC microseconds), null where there are none.

        A row older than `ttl` microseconds has expired; 0 keeps rows for ever.
        """
        row = self._find(keys, moments.fill_null(np.iinfo(np.int64).min).to_numpy(), ttl)
        return gathered(self.rows, row, features)

    def order(self, keys: pl.DataFrame) -> pl.Series:
        """Places of `keys` by where their entities lie, so that what is read for them lies side by side."""
        return ascending(match(keys, self.entities)[FIRST].fill_null(0).to_numpy())

    def _find(self, keys: pl.DataFrame, moments: np.ndarray, ttl: int) -> np.ndarray:
        """The row in force for each question, -1 where there is none."""
        row = np.full(len(moments), -1, np.int64)
        if not self.rows.height:
            return row
        first, last = spans(keys, self.entities, len(moments))
        known = self.rows[KNOWN].to_numpy()
        event = self.rows[EVENT].to_numpy() if EVENT in self.rows.columns else known
        for start in range(0, len(moments), _CHUNK):
            piece = slice(start, start + _CHUNK)
            found = last_until(known, first[piece], last[piece], moments[piece])
            is_there = found >= first[piece]
            if ttl:
                is_there &= event.take(found, mode="clip") >= moments[piece] - ttl
            np.copyto(row[piece], found, where=is_there)
        return row


# --- on disk -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where the layouts of one source lie; `meaning` (keys, times, renames) tells those of different views apart."""

    source: Path
    meaning: str

    @property
    def folder(self) -> Path:
        name = hashlib.sha256(f"{FORMAT} {self.meaning}".encode()).hexdigest()[:16]
        root = self.source if self.source.is_dir() else self.source.parent
        return root / ".layout" / f"{self.source.name}-{name}"

    def files(self) -> list[Path]:
        """The Parquet files of the source in name order; none when it is not a file or a flat folder of files."""
        if self.source.is_file():
            return [self.source]
        if (named := files_of(Folder(str(self.source)))) is not None:
            return [self.source / file.name for file in named]
        try:
            entries = [entry for entry in os.scandir(self.source) if not entry.name.startswith((".", "_"))]
        except OSError:
            return []
        flat = all(entry.is_file() for entry in entries)
        names = sorted(entry.name for entry in entries if entry.name.endswith((".parquet", ".pq")))
        return [self.source / name for name in names] if flat else []

    def find(self, files: Sequence[Path], features: Iterable[str]) -> Layout | None:
        """The layout of `files` as they are now, if there is one that has `features` and is whole."""
        state = state_of(files) if self.folder.exists() else ""
        for folder, about in self._versions():
            if about["state"] == state and set(features) <= set(about["columns"]):
                return _open(folder, about)
        return None

    def columns(self) -> set[str]:
        """The feature columns that layouts of this source have had: what is asked of it."""
        return {name for _, about in self._versions() for name in about["columns"]}

    def asked_before(self, state: str) -> bool:
        """Whether this was called for `state` before, by any process."""
        note = self.folder / ".asked"
        if note.exists() and note.read_text() == state:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(state)
        return False

    def write(self, layout: Layout, state: str) -> None:
        """Keep `layout` of the files in `state`, written aside and renamed; other versions go."""
        aside = self.folder / f".{uuid.uuid4().hex}"
        aside.mkdir(parents=True)
        sums = {f"{name}.arrow": _write(aside / f"{name}.arrow", frame) for name, frame in vars(layout).items()}
        columns = [name for name in layout.rows.columns if name not in (KNOWN, EVENT)]
        about = json.dumps({"state": state, "columns": columns, "sums": sums})
        (aside / "about.json").write_text(about)
        target = self.folder / _name_of(about)
        shutil.rmtree(target, ignore_errors=True)
        try:
            os.rename(aside, target)
        except OSError:  # another process wrote the same meanwhile
            shutil.rmtree(aside)
        self._prune(target.name)

    def _versions(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Finished layouts; one that another process removes meanwhile is skipped."""
        for folder in self.folder.glob("[!.]*"):
            try:
                about = (folder / "about.json").read_text()
                if folder.name == _name_of(about):
                    yield folder, json.loads(about)
            except (OSError, ValueError):
                continue

    def _prune(self, keep: str) -> None:
        for folder in self.folder.iterdir():
            fresh = folder.name.startswith(".") and time.time() - folder.stat().st_mtime < _ABANDONED
            if folder.is_dir() and folder.name != keep and not fresh:
                shutil.rmtree(folder, ignore_errors=True)


def scan(files: Sequence[Path]) -> pl.LazyFrame:
    """The rows of Parquet files in their order; columns that the first one lacks are left out."""
    require_as_written(files)
    return pl.scan_parquet(list(files), glob=False, extra_columns="ignore", cast_options=CASTS, hive_partitioning=False)


def state_of(files: Sequence[Path]) -> str:
    """What changes when any of `files` does."""
    stats = [(file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for file in files for stat in (file.stat(),)]
    return hashlib.sha256(repr(stats).encode()).hexdigest()


def _name_of(about: str) -> str:
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def _write(path: Path, frame: pl.DataFrame) -> Sum:
    """`frame` as one Arrow batch, on the disk when this returns its checksum and size."""
    with path.open("wb") as file:
        frame.rechunk().write_ipc(file, record_batch_size=max(frame.height, 1))
        file.flush()
        os.fsync(file.fileno())
    return sum_of(path)


def _open(folder: Path, about: dict[str, Any]) -> Layout | None:
    """The layout in `folder`, its columns memory-mapped; none when a file is missing or not as it was written."""
    try:
        for name, told in about["sums"].items():
            if not (folder / name).exists() or not is_whole(folder / name, {tuple(told)}):
                return None
        return Layout(_map(folder / "entities.arrow"), _map(folder / "rows.arrow"))
    except (OSError, pa.ArrowInvalid):
        return None


def _map(path: Path) -> pl.DataFrame:
    mapped = pl.from_arrow(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), rechunk=False)
    assert isinstance(mapped, pl.DataFrame)
    return mapped
