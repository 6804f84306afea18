"""Tables of a lake from before it was a log of versions: days as `2013-01-31.parquet`, segments as
`2013-01-31~000001.parquet`, with what they say of themselves in Parquet's metadata."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from fti.storage.checksums import require_whole, sum_of
from fti.storage.reading import REMEDY
from fti.storage.tables import File

_NAME = re.compile(r"(all|\d{4}-\d\d(?:-\d\d)?)(?:~(\d{6}))?\.parquet")


def adopted(folder: Path) -> list[File]:
    """The files of such a table, for its first version; DataError for one that is damaged."""
    paths = {path: name for path in sorted(folder.glob("*.parquet")) if (name := _NAME.fullmatch(path.name))}
    require_whole(paths, REMEDY)
    return [_file(path, name[1], int(name[2] or 0)) for path, name in paths.items()]


def _file(path: Path, period: str, segment: int) -> File:
    about: dict[str, Any] = pl.read_parquet_metadata(path)
    rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    crc32, size = sum_of(path)
    return File(
        name=path.name,
        period=period,
        segment=segment,
        rows=rows,
        size=size,
        crc32=crc32,
        key=tuple(json.loads(about.get("fti.key", "[]"))),
        time=about.get("fti.time", ""),
        days=tuple(json.loads(about.get("fti.days", "[]"))),
    )
