"""Reading the files of a table: whole ones only, and the rows of a period and its segments as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import polars as pl

from fti.errors import DataError
from fti.storage import checksums
from fti.storage.blobs import Blobs, Folder
from fti.storage.tables import File, TableLog

REMEDY = "Materialize that day again."
CLEANED_IN_A_READ = 5
"""How often a read starts again because a version that it took has been cleaned up."""
T = TypeVar("T")
Scan = Callable[[Sequence[File]], pl.LazyFrame]
"""Opens files of a table."""


def merged(files: Sequence[File], scan: Scan) -> pl.LazyFrame:
    """Rows of `files`, which are in their order. Where a period has segments: the last row of each key."""
    layered = {file.period for file in files if file.segment}
    runs = [(several, list(run)) for several, run in groupby(files, key=lambda file: file.period in layered)]
    return pl.concat([_last_rows(run, scan) if several else scan(run) for several, run in runs])


def key_of(files: Sequence[File]) -> tuple[str, ...]:
    """What identifies the rows, as the newest segment tells; nothing when none does."""
    return next((file.key for file in reversed(files) if file.key), ())


def _last_rows(files: Sequence[File], scan: Scan) -> pl.LazyFrame:
    key = list(key_of(files))
    if not key:
        return scan(files)
    time = next(file.time for file in reversed(files) if file.key)
    rows = scan(files).unique(key, keep="last", maintain_order=True)
    return rows.sort(time, *(column for column in key if column != time))


def require_whole(blobs: Blobs, files: Iterable[File], *, of: str = "") -> None:
    """Raise DataError for the first of `files` in a folder that is not as it was written, named as a file of the table
    `of`. Each is read once in a process; a bucket's server looks after its own."""
    if not isinstance(blobs, Folder):
        return
    for file in files:
        if not checksums.is_whole(blobs.path / file.name, {file.sum}):  # one that is gone is whole: polars tells
            name = f"{of}: {file.name}" if of else blobs.address(file.name)
            raise DataError(f"{name} cannot be read: it is damaged, its checksum is another one. {REMEDY}")


def files_of(blobs: Blobs) -> tuple[File, ...] | None:
    """The files of the newest version of the table at `blobs`; None where there is no table of versions."""
    version = TableLog(blobs).newest()
    return version.files if version.number else None


def settled(read: Callable[[], T]) -> T:
    """`read()`; again when files of the version that it had taken were cleaned up meanwhile."""
    for _ in range(CLEANED_IN_A_READ):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()


def require_as_written(paths: Sequence[Path]) -> None:
    """As `require_whole`, for files of a folder that may be a table of versions or any other one."""
    for folder, some in groupby(paths, key=lambda path: path.parent):
        own = list(some)
        named = {file.name: file for file in files_of(Folder(str(folder))) or ()}
        require_whole(Folder(str(folder)), [named[path.name] for path in own if path.name in named])
        checksums.require_whole([path for path in own if path.name not in named], REMEDY)
