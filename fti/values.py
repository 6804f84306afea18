"""Columns in another type: every value comes out equal, or is refused by name.

Two types meet where one can hold values of the other: numbers (whole, floating, decimal, and booleans as 0 and 1),
texts (also categorical), dates and moments (without a zone: UTC), durations, bytes; lists, arrays and structs part by
part. Only `Float32` and `Float16` round, to their nearest number: that is what they are declared for. What would become
infinite or zero there is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from fti.errors import DataError

MOST_CHARACTERS = 60
"""Of a value in a message."""


def exact(
    column: pl.Series, dtype: Any, *, of: str = "the rows", row: Callable[[int], str] = "row {}".format
) -> pl.Series:
    """`column` in type `dtype`, every value equal to what it was; DataError names the first that cannot be.

    `of` says whose column it is, `row` how the row of that number is called.
    """
    if column.dtype == dtype:
        return column
    changed = unequal(column, dtype)
    if changed.any():
        place, number = int(changed.arg_true()[0]), int(changed.sum())
        more = f" ({number} of {len(column)} rows)" if number > 1 else ""
        raise DataError(
            f"{of}: column {column.name!r} is {column.dtype} and must be {dtype}; the value "
            f"{shown(column, place)} of {row(place)} would be another one{more}. Correct the value, or declare the "
            "type that the column has"
        )
    return _cast(column, dtype)


def matching(column: pl.Series, dtype: Any, *, of: str = "the rows") -> pl.Series:
    """The key `column` in type `dtype`, null where that has no equal value: such a key meets no entity.

    DataError where the types are of different kinds (1 is neither "1" nor true), and for floats that are so large that
    several whole numbers are the same one.
    """
    own = column.dtype
    if own == dtype:
        return column
    if own != pl.Null and (_kind(own) is None or _kind(own) != _kind(dtype) or pl.Boolean in (own, dtype)):
        raise DataError(
            f"{of}: join key {column.name!r} is {own} in the entity rows and {dtype} in the view's source. Cast one of "
            "them."
        )
    if own.is_float() and dtype.is_integer():
        most = 2 ** (53 if own == pl.Float64 else 24 if own == pl.Float32 else 11)
        large = (column.abs() >= most).fill_null(False) & column.is_finite().fill_null(False)
        if large.any():
            raise DataError(
                f"{of}: join key {column.name!r} is {own}, in which {shown(column, int(large.arg_true()[0]))} may "
                f"stand for several whole numbers. Give it as {dtype}."
            )
    given = column.cast(dtype, strict=False)
    return given.set(unequal(column, dtype), None)


def unequal(column: pl.Series, dtype: Any) -> pl.Series:
    """Which values of `column`, row by row, type `dtype` cannot hold."""
    own = column.dtype
    if own == dtype:
        return _none(column)
    if isinstance(own, pl.List | pl.Array) and isinstance(dtype, pl.List | pl.Array):
        return _unequal_lists(column, dtype)
    if isinstance(own, pl.Struct) and isinstance(dtype, pl.Struct):
        return _unequal_structs(column, dtype)
    if _kind(own) is None or _kind(own) != _kind(dtype):
        return column.is_not_null()
    if isinstance(own, pl.Decimal) and _rounds(dtype):
        return unequal(column, pl.Float64) | unequal(column.cast(pl.Float64), dtype)
    given = column.cast(dtype, strict=False)
    if own.is_float() and _rounds(dtype):
        changed = (given.is_infinite() & column.is_finite()) | ((given == 0) & (column != 0))
        return changed.fill_null(False)
    return column.is_not_null() & column.ne_missing(given.cast(own, strict=False))


def as_texts(values: pl.Series) -> pl.Series:
    """Categories as a model tells them apart: text that depends on the value alone, not on its neighbours, its unit of
    time or the sign of zero. NaN is null. DataError for a type whose values have no such text."""
    dtype = values.dtype
    if dtype.is_float():
        return values.fill_nan(None).set(values == 0, 0.0).cast(pl.String)
    if isinstance(dtype, pl.Datetime):
        moments = values.dt.convert_time_zone("UTC") if dtype.time_zone else values
        micros = moments.dt.cast_time_unit("us")
        if dtype.time_unit != "ns":
            return micros.cast(pl.String)
        whole = micros.dt.cast_time_unit("ns") == moments
        return micros.cast(pl.String).zip_with(whole, moments.cast(pl.String))
    if isinstance(dtype, pl.Duration):
        return values.dt.to_string("iso")
    if dtype == pl.Time:
        return values.dt.to_string("%H:%M:%S%.9f")
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise DataError(
            f"feature {values.name!r} holds {dtype}, which is no category: make text of it, or a feature of each part."
        )
    return values.cast(pl.String)


def as_numbers(values: pl.Series) -> pl.Series:
    """Numbers as a model reads them, Float64; DataError for values that are none."""
    dtype = values.dtype
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return values.cast(pl.Float64)
    texts = isinstance(dtype, pl.Categorical | pl.Enum) or dtype == pl.String
    numbers = values.cast(pl.String).cast(pl.Float64, strict=False) if texts else None
    if numbers is not None and numbers.null_count() == values.null_count():
        return numbers
    known = values.is_not_null() if numbers is None else values.is_not_null() & numbers.is_null()
    places = known.arg_true()
    if not len(places):
        return pl.Series(values.name, [None] * len(values), pl.Float64)
    raise DataError(
        f"feature {values.name!r} holds {dtype}, in row {places[0]} {shown(values, places[0])}, which is no "
        "number: list it in `Model.categorical`, or make a number of it (days since, seconds, a feature of each part)."
    )


def shown(column: pl.Series, place: int) -> str:
    """A value for a message: as Python writes it, shortened."""
    if isinstance(column.dtype, pl.Datetime):  # with all its digits, which Python does not hold
        return str(column[place : place + 1].cast(pl.String)[0])
    text = repr(column[place].to_list() if isinstance(column[place], pl.Series) else column[place])
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _kind(dtype: Any) -> str | None:
    """Types of one kind can hold values of each other; None: of no other type."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "number"
    if dtype in (pl.Date, pl.Datetime):
        return "moment"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "duration" if dtype == pl.Duration else None


def _rounds(dtype: Any) -> bool:
    return dtype in (pl.Float32, pl.Float16)


def _cast(column: pl.Series, dtype: Any) -> pl.Series:
    """`column`, whose values `dtype` can hold."""
    if column.null_count() == len(column):
        return pl.Series(column.name, [None] * len(column), dtype)
    return column.cast(dtype)


def _none(column: pl.Series) -> pl.Series:
    return pl.repeat(False, len(column), eager=True)


def _unequal_lists(column: pl.Series, dtype: Any) -> pl.Series:
    """Lists of which one element, or the number of elements, would be another one."""
    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len()
    changed = _none(column)
    if isinstance(dtype, pl.Array):
        changed = (lengths != dtype.size).fill_null(False)
    parts = unequal(lists.explode(empty_as_null=False, keep_nulls=False), dtype.inner)
    if parts.any():
        rows = np.repeat(np.arange(len(column)), lengths.fill_null(0).to_numpy())
        changed = changed.scatter(np.unique(rows[parts.to_numpy()]), True)
    return changed


def _unequal_structs(column: pl.Series, dtype: pl.Struct) -> pl.Series:
    """Structs of which one field would be another one; all of them where the fields have other names."""
    own = {field.name for field in column.dtype.fields}  # type: ignore[attr-defined]
    if own != {field.name for field in dtype.fields}:
        return column.is_not_null()
    changed = _none(column)
    for field in dtype.fields:
        changed |= unequal(column.struct.field(field.name), field.dtype)
    return changed & column.is_not_null()
