"""From the columns that a project declares to one pydantic model: it reads their JSON values, and is their schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, create_model
from pydantic_core import ErrorDetails

SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""Whole numbers that JSON's reader keeps whole."""
MOST_SHOWN = 40
"""Characters of a value in a message."""
Moment = TypeVar("Moment", bound=date)
_NAMES = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "an integer", float: "a number"}


def kind_of(dtype: Any) -> str | None:
    """What JSON has for a polars type: text, boolean, integer, number, date or moment; None for other types."""
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "number"
    if isinstance(dtype, pl.Datetime):
        return "moment"
    return {pl.String: "text", pl.Boolean: "boolean", pl.Date: "date"}.get(dtype.base_type())


def bounds(dtype: Any, largest: int = LARGEST) -> tuple[int, int]:
    """The smallest and the largest number of a type of whole numbers, as far as JSON and `largest` go."""
    bits, signed = int(str(dtype).lstrip("UInt")), not str(dtype).startswith("U")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return max(low, SMALLEST), min(high, largest)


def json_type(dtype: Any, moment: Callable[[Any], Any], largest: int = LARGEST) -> Any:
    """A column's JSON values in a strict model; `moment` reads datetimes, `largest` bounds whole numbers."""
    kind = kind_of(dtype)
    if kind == "integer":
        low, high = bounds(dtype, largest)
        return Annotated[int, Field(ge=low, le=high)]
    if kind == "moment":
        return Annotated[datetime, PlainValidator(moment), WithJsonSchema({"type": "string", "format": "date-time"})]
    if kind == "date":
        return Annotated[date, PlainValidator(iso_date), WithJsonSchema({"type": "string", "format": "date"})]
    return {"text": str, "boolean": bool, "number": float}[str(kind)]


def model_of(name: str, fields: Mapping[str, tuple[Any, Any]]) -> type[BaseModel]:
    """A strict model of `fields`, name -> (type, pydantic's Field or a default); it takes no other fields.

    A name that no attribute of a pydantic model can have is that of an alias.
    """
    definitions: dict[str, Any] = {}
    for place, (field, (kind, details)) in enumerate(fields.items()):
        taken = not field.isidentifier() or field.startswith("_") or hasattr(BaseModel, field)
        definitions[f"field_{place}__" if taken else field] = (Annotated[kind, Field(alias=field)], details)
    config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())
    return create_model(name, __config__=config, **definitions)


def iso_date(value: Any) -> date:
    """A date as ISO 8601; ValueError says what the value is instead."""
    return _iso(value, date.fromisoformat)


def iso_moment(value: Any) -> datetime:
    """A datetime as ISO 8601 with its offset from UTC; ValueError says what the value is instead."""
    moment = _iso(value, datetime.fromisoformat)
    if moment.tzinfo is None:
        raise ValueError("has no time zone")
    return moment


def problem_of(error: ErrorDetails) -> str:
    """What is wrong with a field, in words that follow its name."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "string_too_long":
        return f"has more than {error['ctx']['max_length']} characters"
    known = {"missing": "missing", "extra_forbidden": "unknown field", "string_too_short": "is empty"}
    return known.get(error["type"]) or f"is {name_of(error['input'])}"


def path_of(location: Sequence[str | int]) -> str:
    """A place in a body: `instances[3].carrier`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def name_of(value: Any) -> str:
    """The kind of a JSON value."""
    return "null" if value is None else _NAMES[type(value)]


def _iso(value: Any, read: Callable[[str], Moment]) -> Moment:
    if not isinstance(value, str):
        raise ValueError(f"is {name_of(value)}")
    try:
        return read(value)
    except ValueError:
        raise ValueError(f"is not ISO 8601: {value[:MOST_SHOWN]!r}") from None
