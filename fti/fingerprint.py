"""Rows as a hash of their content: the same for the same rows, however they are stored and in whatever order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fti.source_hash import LENGTH

if TYPE_CHECKING:
    import polars as pl

    from fti.project import Source

STATIC = "all"
"""In place of a day, for a source that has none."""


def fingerprint(rows: pl.DataFrame, key: Sequence[str]) -> str:
    """Short hash of the rows, their columns and types; `key` names the columns that put them in order."""
    hashed = hashlib.sha256(repr(sorted((name, str(kind)) for name, kind in rows.schema.items())).encode())
    text = io.BytesIO()
    rows.select(sorted(rows.columns)).sort(key).write_ndjson(text)
    hashed.update(text.getbuffer())
    return hashed.hexdigest()[:LENGTH]


def daily_fingerprints(source: Source, rows: pl.DataFrame, days: Iterable[str]) -> dict[str, str]:
    """UTC day (ISO 8601) -> fingerprint of the rows of `source` that belong to it; quiet days included."""
    import polars as pl

    if source.timestamp is None:
        return {STATIC: fingerprint(rows, source.key)}
    day = pl.col(source.timestamp).dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%d")
    parts = rows.with_columns(day.alias("__day")).partition_by("__day", as_dict=True, include_key=False)
    by_day = {str(key[0]): part for key, part in parts.items()}
    return {day: fingerprint(by_day.get(day, rows.clear()), source.key) for day in days}
