"""Entities as bytes: a prefix per project and set of join keys, then the values, each with its type and length.

    ["fti","dest","origin"]s\\x03\\0\\0\\0LAXs\\x03\\0\\0\\0JFK

Join keys are sorted, so their order in a view does not matter; no key is the prefix of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

import orjson
import polars as pl
from feast.protos.feast.types.EntityKey_pb2 import EntityKey

from fti.errors import DataError

_LENGTH = Struct("<I").pack
_INTEGER = Struct("<q").pack
_PROTO_TAGS = {
    "string_val": b"s",
    "uuid_val": b"s",
    "time_uuid_val": b"s",
    "bytes_val": b"b",
    "int32_val": b"i",
    "int64_val": b"i",
    "bool_val": b"i",
    "unix_timestamp_val": b"t",
}


def prefix(project: str, join_keys: Iterable[str]) -> bytes:
    """What all entities of these join keys begin with."""
    return orjson.dumps([project, *sorted(join_keys)])


def of_proto(project: str, entity: EntityKey) -> bytes:
    """The key of Feast's entity."""
    parts = [prefix(project, entity.join_keys)]
    for _, value in sorted(zip(entity.join_keys, entity.entity_values, strict=True), key=lambda pair: pair[0]):
        kind = value.WhichOneof("val")
        if kind not in _PROTO_TAGS:
            raise DataError(f"an entity key cannot be {kind or 'null'}: use text, bytes, a whole number or a time")
        parts.append(_one(_PROTO_TAGS[kind], getattr(value, kind)))
    return b"".join(parts)


def of_frame(start: bytes, rows: pl.DataFrame, columns: Sequence[str], types: Sequence[Any]) -> list[bytes | None]:
    """The keys of `rows`, None where a key column is null. `columns` are in the order of the sorted join keys."""
    found = [_column(rows[column], dtype) for column, dtype in zip(columns, types, strict=True)]
    if len(found) == 1:
        return [None if part is None else start + part for part in found[0]]
    return [None if None in parts else start + b"".join(parts) for parts in zip(*found, strict=True)]


def _column(series: pl.Series, dtype: Any) -> list[bytes | None]:
    if series.dtype != dtype:
        series = series.cast(dtype)
    if dtype == pl.String:
        texts = [None if value is None else value.encode() for value in series.to_list()]
        return [None if text is None else b"s" + _LENGTH(len(text)) + text for text in texts]
    tag = b"i"
    if isinstance(dtype, pl.Datetime):
        series, tag = series.dt.epoch("s"), b"t"
    elif dtype == pl.Binary:
        tag = b"b"
    return [None if value is None else _one(tag, value) for value in series.to_list()]


def _one(tag: bytes, value: Any) -> bytes:
    if tag in (b"s", b"b"):
        raw = value.encode() if isinstance(value, str) else value
        return tag + _LENGTH(len(raw)) + raw
    return tag + _INTEGER(value)
