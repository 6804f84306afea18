"""Feast's types in a packed row: numbers, booleans and times have a fixed width, everything else lies in the tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.types import Array, FeastType, Set, Struct, UnixTimestamp

from fti.errors import DataError
from fti.stores.features.online import nested
from fti.stores.features.online.nested import MICROS, NOT_A_TIME
from fti.times import UTC_TIME
from fti.values import exact, shown

LAST_SECOND = 2**63 // MICROS - 1
"""What 64 bits of microseconds can hold."""


@dataclass(frozen=True)
class Fixed:
    """A type of fixed width: its bytes in a row, its Arrow and polars type, its field in Feast's protobuf."""

    numpy: str
    arrow: pa.DataType
    polars: Any
    proto: str
    to_proto: Callable[[Any], Any]
    """What is stored to a protobuf's value."""


@dataclass(frozen=True)
class Tail:
    """A type of any length: how its value becomes bytes."""

    polars: Any
    """None where polars has no such type."""
    stored: Any
    """The polars type of the values that are dumped and loaded: times in them are microseconds."""
    dump: Callable[[Any], bytes]
    """Python value to bytes."""
    load: Callable[[bytes], Any]
    of_proto: Callable[[Value], bytes]
    to_proto: Callable[[bytes], Value]
    protos: tuple[str, ...]
    """Fields of Feast's protobuf that may carry it; empty for any."""


def _seconds(micros: int) -> int:
    nested.require_whole_seconds(UnixTimestamp, int(micros))
    return int(micros) // MICROS


FIXED = {
    "Int32": Fixed("<i4", pa.int32(), pl.Int32, "int32_val", int),
    "Int64": Fixed("<i8", pa.int64(), pl.Int64, "int64_val", int),
    "Float32": Fixed("<f4", pa.float32(), pl.Float32, "float_val", float),
    "Float64": Fixed("<f8", pa.float64(), pl.Float64, "double_val", float),
    "Bool": Fixed("|u1", pa.uint8(), pl.Boolean, "bool_val", bool),
    "UnixTimestamp": Fixed("<i8", pa.timestamp("us", "UTC"), UTC_TIME, "unix_timestamp_val", _seconds),
}
"""By Feast type. Feast's protobuf carries times in whole seconds; rows written as frames keep their microseconds."""
_GIVEN: dict[str, Any] = {
    "int32_val": pl.Int32,
    "int64_val": pl.Int64,
    "float_val": pl.Float32,
    "double_val": pl.Float64,
    "bool_val": pl.Boolean,
    "unix_timestamp_val": UTC_TIME,
}
"""Field of Feast's protobuf that may carry a value of fixed width -> its polars type."""


def value_of(proto: str, value: Any) -> Value:
    """Feast's protobuf with this field set."""
    fields: dict[str, Any] = {proto: value}
    return Value(**fields)


def _text(proto: str) -> Tail:
    return Tail(
        pl.String,
        pl.String,
        str.encode,
        bytes.decode,
        lambda value: getattr(value, proto).encode(),
        lambda raw: value_of(proto, raw.decode()),
        (proto, "string_val"),
    )


def _binary() -> Tail:
    return Tail(
        pl.Binary,
        pl.Binary,
        bytes,
        bytes,
        lambda value: value.bytes_val,
        lambda raw: Value(bytes_val=raw),
        ("bytes_val",),
    )


_TAILS = {
    "String": _text("string_val"),
    "Json": _text("json_val"),
    "Uuid": _text("uuid_val"),
    "TimeUuid": _text("time_uuid_val"),
    "Decimal": _text("decimal_val"),
    "Bytes": _binary(),
    "PdfBytes": _binary(),
    "ImageBytes": _binary(),
}


def tail(dtype: FeastType) -> Tail:
    """How values of `dtype` lie in the tail; lists, sets, maps and structs as Feast's own protobuf."""
    if str(dtype) in _TAILS:
        return _TAILS[str(dtype)]
    polars = polars_type(dtype)
    if polars is None:
        return _feasts_own(dtype)

    def of_proto(value: Value) -> bytes:
        nested.of_value(dtype, value)
        return bytes(value.SerializeToString())

    def to_proto(raw: bytes) -> Value:
        value: Value = Value.FromString(raw)
        nested.require_whole_seconds(dtype, nested.of_value(dtype, value))
        return value

    return Tail(
        polars,
        _in_micros(polars),
        lambda value: bytes(nested.to_value(dtype, value).SerializeToString()),
        lambda raw: nested.of_value(dtype, Value.FromString(raw)),
        of_proto,
        to_proto,
        (),
    )


def _feasts_own(dtype: FeastType) -> Tail:
    """Types that only Feast knows (maps, zoned timestamps)."""
    value_type = dtype.to_value_type()
    return Tail(
        None,
        None,
        lambda value: bytes(python_values_to_proto_values([value], value_type)[0].SerializeToString()),
        lambda raw: feast_value_type_to_python_type(Value.FromString(raw)),
        lambda value: bytes(value.SerializeToString()),
        Value.FromString,
        (),
    )


def polars_type(dtype: FeastType) -> Any:
    """The polars type of a Feast type; None for those that polars has no type for (maps, zoned timestamps)."""
    if str(dtype) in FIXED:
        return FIXED[str(dtype)].polars
    if str(dtype) in _TAILS:
        return _TAILS[str(dtype)].polars
    if isinstance(dtype, Array | Set):
        inner = polars_type(dtype.base_type)
        return None if inner is None else pl.List(inner)
    if isinstance(dtype, Struct):
        fields = {name: polars_type(field) for name, field in dtype.fields.items()}
        return None if None in fields.values() else pl.Struct(fields)
    return None


def declared(column: pl.Series, dtype: FeastType, *, of: str, row: Callable[[int], str] = "row {}".format) -> pl.Series:
    """`column` in the polars type of `dtype`, every value equal; DataError names the first that cannot be.

    A decimal is kept as its text.
    """
    polars = polars_type(dtype)
    if str(dtype) == "Decimal" and (isinstance(column.dtype, pl.Decimal) or column.dtype.is_integer()):
        column = column.cast(pl.String)
    return column if polars is None else exact(column, polars, of=of, row=row)


def numbers(
    protos: Sequence[Value | None], name: str, dtype: FeastType, *, of: str, row: Callable[[int], str]
) -> pl.Series:
    """The column of fixed width that Feast's protobufs carry; None and empty ones are null."""
    fixed = FIXED[str(dtype)]
    kinds: list[str | None] = [None if value is None else value.WhichOneof("val") for value in protos]
    column = pl.Series(name, [None] * len(protos), fixed.polars)
    for kind in sorted({kind for kind in kinds if kind and kind != "null_val"}):
        if kind not in _GIVEN:
            place = kinds.index(kind)
            raise DataError(
                f"{of}: feature {name!r} of {row(place)} is a {kind!s} where {dtype} is declared: correct it"
            )
        own = [getattr(value, kind) if given == kind else None for value, given in zip(protos, kinds, strict=True)]
        column = column.fill_null(exact(_given(name, own, kind, of), fixed.polars, of=of, row=row))
    return column


def _given(name: str, values: list[Any], kind: str, of: str) -> pl.Series:
    """The values of one field of protobufs."""
    if kind != "unix_timestamp_val":
        return pl.Series(name, values, _GIVEN[kind])
    seconds = pl.Series(name, [None if value == NOT_A_TIME else value for value in values], pl.Int64)
    outside = (seconds > LAST_SECOND) | (seconds < -LAST_SECOND)
    if outside.any():
        value = shown(seconds, int(outside.arg_true()[0]))
        raise DataError(f"{of}: feature {name!r} has a time of {value} seconds from 1970, which is too far: correct it")
    return (seconds * MICROS).cast(UTC_TIME)


def raw_bytes(proto: Value, name: str, kind: Tail) -> bytes | None:
    """The stored bytes of a protobuf for a column of any length; None for null."""
    given = proto.WhichOneof("val")
    if given in (None, "null_val"):
        return None
    if kind.protos and given not in kind.protos:
        raise DataError(f"feature {name}: a {given} came where {kind.protos[0]} is declared; correct the view's schema")
    return proto.string_val.encode() if kind.protos and given == "string_val" else kind.of_proto(proto)


def _in_micros(dtype: Any) -> Any:
    """`dtype` with microseconds in place of times."""
    if isinstance(dtype, pl.List):
        return pl.List(_in_micros(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: _in_micros(field.dtype) for field in dtype.fields})
    return pl.Int64 if dtype == UTC_TIME else dtype
