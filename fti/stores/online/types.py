"""Feast's types in a packed row: numbers, booleans and times have a fixed width, everything else lies in the tail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.types import Array, FeastType, Set, Struct

from fti.errors import DataError

MICROS = 1_000_000
NOT_A_TIME = -(2**63)
"""What Feast writes for a null time."""
UTC_TIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Fixed:
    """A type of fixed width: its bytes in a row, its Arrow and polars type, its field in Feast's protobuf."""

    numpy: str
    arrow: pa.DataType
    polars: Any
    proto: str
    of_proto: Callable[[Any], Any]
    """A protobuf's value to what is stored."""
    to_proto: Callable[[Any], Any]


@dataclass(frozen=True)
class Tail:
    """A type of any length: how its value becomes bytes."""

    polars: Any
    """None where polars has no such type."""
    dump: Callable[[Any], bytes]
    """Python value to bytes."""
    load: Callable[[bytes], Any]
    of_proto: Callable[[Value], bytes]
    to_proto: Callable[[bytes], Value]
    protos: tuple[str, ...]
    """Fields of Feast's protobuf that may carry it; empty for any."""


FIXED = {
    "Int32": Fixed("<i4", pa.int32(), pl.Int32, "int32_val", int, int),
    "Int64": Fixed("<i8", pa.int64(), pl.Int64, "int64_val", int, int),
    "Float32": Fixed("<f4", pa.float32(), pl.Float32, "float_val", float, float),
    "Float64": Fixed("<f8", pa.float64(), pl.Float64, "double_val", float, float),
    "Bool": Fixed("|u1", pa.uint8(), pl.Boolean, "bool_val", bool, bool),
    "UnixTimestamp": Fixed(
        "<i8",
        pa.timestamp("us", "UTC"),
        UTC_TIME,
        "unix_timestamp_val",
        lambda seconds: seconds * MICROS,
        lambda micros: int(micros) // MICROS,
    ),
}
"""By Feast type. Feast's protobuf carries times in seconds; rows written as frames keep their microseconds."""


def value_of(proto: str, value: Any) -> Value:
    """Feast's protobuf with this field set."""
    fields: dict[str, Any] = {proto: value}
    return Value(**fields)


def _text(proto: str) -> Tail:
    return Tail(
        pl.String,
        lambda value: str(value).encode(),
        bytes.decode,
        lambda value: getattr(value, proto).encode(),
        lambda raw: value_of(proto, raw.decode()),
        (proto, "string_val"),
    )


def _binary() -> Tail:
    return Tail(
        pl.Binary, bytes, bytes, lambda value: value.bytes_val, lambda raw: Value(bytes_val=raw), ("bytes_val",)
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
    value_type = dtype.to_value_type()
    return Tail(
        polars_type(dtype),
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


def number(proto: Value, name: str, fixed: Fixed) -> Any:
    """The stored value of a protobuf for a column of fixed width; None for null."""
    kind = proto.WhichOneof("val")
    if kind in (None, "null_val"):
        return None
    value = getattr(proto, kind)
    if kind == "unix_timestamp_val" and value == NOT_A_TIME:
        return None
    if kind != fixed.proto and not isinstance(value, int | float):
        raise DataError(f"feature {name}: a {kind} cannot be stored as {fixed.arrow}; correct the view's schema")
    return fixed.of_proto(value)


def raw_bytes(proto: Value, name: str, kind: Tail) -> bytes | None:
    """The stored bytes of a protobuf for a column of any length; None for null."""
    given = proto.WhichOneof("val")
    if given in (None, "null_val"):
        return None
    if kind.protos and given not in kind.protos:
        raise DataError(f"feature {name}: a {given} came where {kind.protos[0]} is declared; correct the view's schema")
    return proto.string_val.encode() if kind.protos and given == "string_val" else kind.of_proto(proto)


def zeros(fixed: Fixed, rows: int) -> np.ndarray[Any, Any]:
    """A column of nothing."""
    return np.zeros(rows, fixed.numpy)
