"""Entities as bytes: a prefix per project and set of join keys, then the values, each with its type.

    ["fti","dest","origin"]s\\x03\\0\\0\\0LAXsJFK

Join keys are sorted, so their order in a view does not matter. Every value but the last begins with its length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Any

import orjson
import polars as pl
from feast.protos.feast.types.EntityKey_pb2 import EntityKey

from fti.errors import DataError
from fti.stores.features.online.nested import moment
from fti.times import UTC_TIME
from fti.values import MOST_CHARACTERS, exact, matching

TYPES = ("String", "Int32", "Int64", "Bool", "UnixTimestamp", "Bytes", "Uuid", "TimeUuid")
"""Feast's types that a join key may have."""
MICROS = 1_000_000
DUMMY_KEY = "__dummy_id"
"""Join key of a view without an entity; Feast sometimes writes it and sometimes not, so it is no part of a key."""
_LENGTH = Struct("<I").pack
_FEW = 16
"""Texts that become bytes sooner one by one."""
_INTEGER = Struct("<q")
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
_TAGS: dict[Any, bytes] = {pl.String: b"s", pl.Binary: b"b", UTC_TIME: b"t"}

Part = tuple[bytes, Sequence[bytes | None]]
"""The tag of a key column's type, and its values."""
Keys = list[bytes | None]
"""None where a part of a key is null."""


def prefix(project: str, join_keys: Iterable[str]) -> bytes:
    """What all entities of these join keys begin with."""
    return orjson.dumps([project, *sorted(set(join_keys) - {DUMMY_KEY})])


def entity_columns(view: Any) -> list[Any]:
    """The columns of a feature view that make its entities' keys, in the order of their names."""
    return sorted((own for own in view.entity_columns if own.name != DUMMY_KEY), key=lambda own: str(own.name))


def require_types(view: Any) -> None:
    """DataError where a join key of a feature view has a type that cannot tell entities apart."""
    for own in entity_columns(view):
        if str(own.dtype) not in TYPES:
            raise DataError(
                f"feature view {view.name}: join key {own.name!r} is {own.dtype}, and an entity key cannot be that. "
                f"Declare one of {', '.join(TYPES)}"
            )


def of_proto(project: str, entity: EntityKey) -> bytes | None:
    """The key of Feast's entity; None where a part of it is null."""
    parts = []
    for name, value in sorted(zip(entity.join_keys, entity.entity_values, strict=True), key=lambda pair: pair[0]):
        if name == DUMMY_KEY:
            continue
        kind = value.WhichOneof("val")
        if kind in (None, "null_val"):
            return None
        if kind not in _PROTO_TAGS:
            raise DataError(f"an entity key cannot be {kind}: use text, bytes, a whole number or a time")
        parts.append((_PROTO_TAGS[kind], _raw(getattr(value, kind))))
    return prefix(project, entity.join_keys) + _joined(parts)


def exact_keys(column: pl.Series, dtype: Any, polars: Any, of: str) -> pl.Series:
    """A key column to be written, in the polars type of `dtype`; DataError for values that this cannot hold."""
    matching(column, polars, of=of)
    column = exact(column, polars, of=of)
    if str(dtype) == "UnixTimestamp" and (parts := _is_part_of_a_second(column)).any():
        raise DataError(
            f"{of}: join key {column.name!r} has the time {column[int(parts.arg_true()[0])]}, and the time of an "
            "entity is kept in whole seconds: round it, or make it text"
        )
    return column


def of_frame(start: bytes, rows: pl.DataFrame, columns: Sequence[str], types: Sequence[Any]) -> list[bytes | None]:
    """The keys of `rows`, None where a key column is null. `columns` are in the order of the sorted join keys."""
    parts = [part(rows.get_column(column), dtype) for column, dtype in zip(columns, types, strict=True)]
    return joined(start, parts, rows.height)


def part(series: pl.Series, dtype: Any) -> Part:
    """A key column as bytes, None where it is null or no value that `dtype` can hold."""
    if series.dtype != dtype:
        series = matching(series, dtype)
    tag = _TAGS.get(series.dtype, b"i")
    if tag == b"t":
        series = series.dt.epoch("s").set(_is_part_of_a_second(series), None)
    if tag == b"s" and not series.null_count():
        if len(series) > _FEW:
            return tag, series.cast(pl.Binary).to_list()
        return tag, list(map(str.encode, series.to_list()))
    return tag, [None if value is None else _raw(value) for value in series.to_list()]


def joined(start: bytes, parts: Sequence[Part], height: int) -> list[bytes | None]:
    """The keys that begin with `start` and have these parts; None where one of them is null."""
    if not parts:
        return [start] * height
    *others, (tag, raws) = parts
    if not others:
        start += tag
        return [None if raw is None else start + raw for raw in raws]
    heads: list[bytes | None] = [start] * height
    for own, values in others:
        heads = [
            None if head is None or raw is None else head + own + _LENGTH(len(raw)) + raw
            for head, raw in zip(heads, values, strict=True)
        ]
    return [None if head is None or raw is None else head + tag + raw for head, raw in zip(heads, raws, strict=True)]


def shown(key: bytes | None) -> str:
    """An entity for people: `driver 'ann'`."""
    if key is None:
        return "no entity"
    text = key.decode(errors="surrogateescape")
    (_, *names), end = json.JSONDecoder().raw_decode(text)
    rest = text[end:].encode(errors="surrogateescape")
    values = []
    for place in range(len(names)):
        tag, rest = rest[:1], rest[1:]
        length = len(rest)
        if place < len(names) - 1:
            length, rest = int.from_bytes(rest[:4], "little"), rest[4:]
        values.append(_value(tag, rest[:length]))
        rest = rest[length:]
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True)) or "the only entity"


def _value(tag: bytes, raw: bytes) -> str:
    """A part of a key for people."""
    if tag in b"it" and len(raw) == _INTEGER.size:
        number = int.from_bytes(raw, "little", signed=True)
        return str(number) if tag == b"i" else moment(number * MICROS).isoformat()
    text = repr(raw.decode(errors="replace") if tag == b"s" else raw)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _is_part_of_a_second(times: pl.Series) -> pl.Series:
    return (times.dt.epoch("us") % MICROS != 0).fill_null(False)


def _raw(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else _INTEGER.pack(value)


def _joined(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    if not parts:
        return b""
    *others, last = parts
    return b"".join(tag + _LENGTH(len(raw)) + raw for tag, raw in others) + b"".join(last)
