"""Whether two columns hold the same values, to the last bit."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOS = {"ms": 1_000_000, "us": 1_000, "ns": 1}


def plain(values: pl.Series) -> list[Any]:
    """The values as Python has them: moments and durations in nanoseconds, text for categories, floats by their bits.
    Two columns of different types hold the same values where these are equal."""
    dtype = values.dtype
    if isinstance(dtype, pl.List | pl.Array):
        lists = values.cast(pl.List(dtype.inner)) if isinstance(dtype, pl.Array) else values
        return [None if item is None else plain(item) for item in lists]
    if isinstance(dtype, pl.Struct):
        fields = {field.name: plain(values.struct.field(field.name)) for field in dtype.fields}
        known = values.is_not_null().to_list()
        return [
            {name: own[at] for name, own in fields.items()} if is_known else None for at, is_known in enumerate(known)
        ]
    if isinstance(dtype, pl.Datetime | pl.Duration):
        factor = NANOS[dtype.time_unit or "us"]
        return [None if value is None else value * factor for value in values.to_physical().to_list()]
    if dtype in (pl.Date, pl.Time):
        factor = 86_400 * 10**9 if dtype == pl.Date else 1
        return [None if value is None else value * factor for value in values.to_physical().to_list()]
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String).to_list()
    return [bits(value) if isinstance(value, float) else value for value in values.to_list()]


def of_python(value: Any) -> Any:
    """A value as Feast's SDK returns it, in the terms of `plain`."""
    if isinstance(value, list):
        return [of_python(item) for item in value]
    if isinstance(value, dict):
        return {name: of_python(item) for name, item in value.items()}
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1) * 1_000
    return bits(value) if isinstance(value, float) else value


def bits(value: float) -> Any:
    """A number by which floats that differ in any bit differ; one for all NaN; whole numbers equal integers."""
    if math.isnan(value):
        return "NaN"
    if value == 0 and math.copysign(1, value) < 0:
        return "-0.0"
    return Decimal(value) if math.isfinite(value) else struct.pack("<d", value)
