"""A large text file is typed once: a Parquet copy in FTI's home, which ranges of time are then read from.

Without it every chunk of days would parse the whole file again. It is a cache: whoever deletes it loses nothing but
time, and a file that changes gets another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from fti.errors import NotReadyError
from fti.files import aside, file_lock
from fti.settings import Settings
from fti.versions.source_hash import digest

SECONDS = 2.0
"""Between two reports of progress."""
logger = logging.getLogger(__name__)


def typed_copy(files: list[str], meaning: str, parts: Iterator[pl.DataFrame]) -> pl.LazyFrame:
    """The rows of `parts`, which are read of `files` only if there is no copy of them as they are now.

    `meaning` tells copies of the same files apart that hold other columns or types. NotReadyError when no copy can be
    kept.
    """
    folder = Settings().root / "tables" / digest(*files)
    stats = [(stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in map(Path.stat, map(Path, files))]
    state = digest(repr(stats))
    path = folder / f"{state}-{digest(meaning)}.parquet"
    try:
        with file_lock(folder / ".lock"):  # another process that asks for the same copy waits
            if not path.exists():
                _remove(folder, state)
                _write(path, parts)
    except OSError as error:
        if error.filename in files:  # of the table itself
            raise
        raise NotReadyError(
            f"{folder} cannot hold a typed copy of {files[0]} ({error.strerror}): make room there, or set FTI_HOME to "
            "a folder that has some."
        ) from error
    return pl.scan_parquet(path, glob=False)


def _remove(folder: Path, state: str) -> None:
    """Copies of what the files were before, and what a process left that died while it wrote. Needs the lock."""
    for path in folder.iterdir():
        is_left = path.name.startswith(".") and ".parquet." in path.name
        is_older = path.suffix == ".parquet" and not path.name.startswith(state)
        if is_left or is_older:
            path.unlink()


def _write(path: Path, parts: Iterator[pl.DataFrame]) -> None:
    """A row group for every part; the first one gives the schema."""
    import pyarrow.parquet as pq

    done, told = 0, time.monotonic()
    schema = next(parts).to_arrow().schema
    with aside(path) as own, pq.ParquetWriter(own, schema, compression="zstd", compression_level=1) as file:
        for part in parts:
            file.write_table(part.to_arrow(), row_group_size=max(part.height, 1))
            done += part.height
            if time.monotonic() - told > SECONDS:
                told = time.monotonic()
                logger.info("types %s rows once for all days", f"{done:,}")
