"""Rows as a hash of their content: the same for the same rows, however they are stored and in whatever order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fti.source_hash import LENGTH

if TYPE_CHECKING:
    import polars as pl


def fingerprint(rows: pl.DataFrame, key: Sequence[str]) -> str:
    """Short hash of the rows, their columns and types; `key` names the columns that put them in order."""
    hashed = hashlib.sha256(repr(sorted((name, str(kind)) for name, kind in rows.schema.items())).encode())
    text = io.BytesIO()
    rows.select(sorted(rows.columns)).sort(key).write_ndjson(text)
    hashed.update(text.getbuffer())
    return hashed.hexdigest()[:LENGTH]
