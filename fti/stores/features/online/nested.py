"""Lists, sets and structs as Feast's protobuf, so that they come back as they were.

Feast's lists of one type hold no null, and its times are whole seconds. A list with a null in it is Feast's list of
values, in which an empty value is null; a time that is no whole second is its microseconds as a whole number, which the
declared type tells from a number. Everything else is written as Feast writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, FeastType, Set, Struct

from fti.errors import DataError

MICROS = 1_000_000
NOT_A_TIME = -(2**63)
"""What Feast writes for a null time."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME = "UnixTimestamp"
FIELDS = {
    "Int32": "int32_val",
    "Int64": "int64_val",
    "Float32": "float_val",
    "Float64": "double_val",
    "Bool": "bool_val",
    TIME: "unix_timestamp_val",
    "String": "string_val",
    "Json": "json_val",
    "Uuid": "uuid_val",
    "TimeUuid": "time_uuid_val",
    "Decimal": "decimal_val",
    "Bytes": "bytes_val",
    "PdfBytes": "bytes_val",
    "ImageBytes": "bytes_val",
}
"""Type of a single value -> its field in Feast's protobuf."""
_NUMBERS = {"int32_val", "int64_val", "float_val", "double_val", "bool_val"}
_TEXTS = {"string_val", "json_val", "uuid_val", "time_uuid_val", "decimal_val"}


def to_value(dtype: FeastType, item: Any) -> Value:
    """The protobuf of a value of `dtype`; times are microseconds since 1970."""
    value = Value()
    if item is None:
        return value
    if isinstance(dtype, Array | Set):
        _put_items(value, dtype, item)
    elif isinstance(dtype, Struct):
        value.struct_val.SetInParent()
        for name, part in dtype.fields.items():
            value.struct_val.val[name].CopyFrom(to_value(part, item[name]))
    elif str(dtype) == TIME:
        whole = item % MICROS == 0
        setattr(value, FIELDS[TIME] if whole else "int64_val", item // MICROS if whole else item)
    else:
        setattr(value, FIELDS[str(dtype)], item)
    return value


def of_value(dtype: FeastType, value: Value) -> Any:
    """The value of a protobuf as `dtype`, times as microseconds; DataError where it holds something else."""
    kind = value.WhichOneof("val")
    if kind in (None, "null_val"):
        return None
    content = getattr(value, kind)
    if isinstance(dtype, Array | Set):
        return _items(dtype, kind, content)
    if isinstance(dtype, Struct):
        if kind not in ("struct_val", "map_val"):
            raise _other(dtype, kind)
        return _fields(dtype, content)
    field = FIELDS.get(str(dtype))
    if str(dtype) == TIME and kind in (field, "int64_val"):
        return content if kind == "int64_val" else _micros(content)
    if kind == field or (field in _TEXTS and kind == "string_val"):
        return content
    if field in _NUMBERS and kind in _NUMBERS:
        return content
    raise _other(dtype, kind)


def has_time(dtype: FeastType) -> bool:
    """Whether values of `dtype` are or contain times."""
    if isinstance(dtype, Array | Set):
        return has_time(dtype.base_type)
    if isinstance(dtype, Struct):
        return any(map(has_time, dtype.fields.values()))
    return str(dtype) == TIME


def plain(dtype: FeastType, item: Any) -> Any:
    """A value with its times, which are microseconds, as Python's datetimes, and its sets as sets."""
    if item is None:
        return None
    if isinstance(dtype, Array):
        return [plain(dtype.base_type, part) for part in item]
    if isinstance(dtype, Set):
        return {plain(dtype.base_type, part) for part in item}
    if isinstance(dtype, Struct):
        return {name: plain(part, item[name]) for name, part in dtype.fields.items()}
    return moment(item) if str(dtype) == TIME else item


def moment(micros: int) -> datetime:
    """Python's datetime of microseconds since 1970."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise DataError(
            f"a time of {micros} microseconds since 1970 lies outside the years 1 to 9999, which are all that Python's "
            "datetime holds: read it as a frame with FeatureStore.online"
        ) from None


def require_whole_seconds(dtype: FeastType, item: Any) -> None:
    """DataError where a time in `item` is no whole second, since Feast's protobuf holds no other."""
    if item is None or not has_time(dtype):
        return
    if isinstance(dtype, Array | Set):
        for part in item:
            require_whole_seconds(dtype.base_type, part)
    elif isinstance(dtype, Struct):
        for name, part in dtype.fields.items():
            require_whole_seconds(part, item[name])
    elif item % MICROS:
        raise DataError(
            f"the time {moment(item).isoformat()} is no whole second, and Feast's protobuf holds only those: read it "
            "with to_dict() or with FeatureStore.online"
        )


def _put_items(value: Value, dtype: Array | Set, items: Sequence[Any]) -> None:
    """A list or set into `value`."""
    base, is_set = dtype.base_type, isinstance(dtype, Set)
    field = FIELDS.get(str(base))
    is_time = str(base) == TIME
    if field is None or None in items or (is_time and any(item % MICROS for item in items)):
        target = value.set_val if is_set else value.list_val
        target.SetInParent()
        target.val.extend(to_value(base, item) for item in items)
        return
    target = getattr(value, field.replace("_val", "_set_val" if is_set else "_list_val"))
    target.SetInParent()
    target.val.extend([item // MICROS for item in items] if is_time else items)


def _items(dtype: Array | Set, kind: str, content: Any) -> list[Any]:
    """The elements of a list or set."""
    base = dtype.base_type
    if kind in ("list_val", "set_val"):
        return [of_value(base, part) for part in content.val]
    if kind == "struct_list_val" and isinstance(base, Struct):
        return [_fields(base, part) for part in content.val]
    single = kind.replace("_list_val", "_val").replace("_set_val", "_val")
    field = FIELDS.get(str(base))
    if (
        single == kind
        or field is None
        or not (single == field or {single, field} <= _NUMBERS or single == "string_val")
    ):
        raise _other(dtype, kind)
    return [_micros(item) for item in content.val] if str(base) == TIME else list(content.val)


def _fields(dtype: Struct, content: Any) -> dict[str, Any]:
    known = content.val
    return {name: of_value(part, known[name]) if name in known else None for name, part in dtype.fields.items()}


def _micros(seconds: int) -> int | None:
    return None if seconds == NOT_A_TIME else seconds * MICROS


def _other(dtype: FeastType, kind: str) -> DataError:
    return DataError(f"a {kind} came where {dtype} is declared: correct the value, or the view's schema")
