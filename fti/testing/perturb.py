"""Other values in raw rows, and what has changed between two versions of a frame: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import polars as pl

TOLERANCE_32, TOLERANCE_64 = 1e-5, 1e-9
"""Relative: sums of the same numbers in another order differ in their last digits."""


def altered(rows: pl.DataFrame, columns: Iterable[str], where: pl.Series) -> pl.DataFrame:
    """`rows` with another value in `columns` of the rows that `where` marks. Nulls stay, times only move forward."""
    expressions = [made for name in columns if (made := _other(name, rows[name])) is not None]
    mask = pl.lit(where)
    return rows.with_columns(
        pl.when(mask).then(made).otherwise(pl.col(made.meta.output_name())) for made in expressions
    )


def _other(name: str, values: pl.Series) -> pl.Expr | None:
    """An expression that differs from the column in every known value; None where no other value can be made."""
    column, dtype = pl.col(name), values.dtype
    if dtype == pl.Boolean:
        return ~column
    if isinstance(dtype, pl.Datetime | pl.Date):
        return column + timedelta(days=1)
    if not (dtype.is_numeric() or dtype == pl.String):
        return None
    low, high = _extremes(values)
    if low == high:
        return (column + 1).cast(dtype) if dtype.is_float() else None
    return (
        pl.when(column == high)
        .then(pl.lit(low, dtype))
        .when(column.is_not_null())
        .then(pl.lit(high, dtype))
        .alias(name)
    )


def _extremes(values: pl.Series) -> tuple[Any, Any]:
    known = values.drop_nulls()
    known = known.filter(known.is_finite()) if values.dtype.is_float() else known
    return known.min(), known.max()


def difference(before: pl.DataFrame, after: pl.DataFrame, keys: Sequence[str], *, exact: bool = False) -> str:
    """What differs between two frames of rows with unique `keys`, in one sentence; empty when nothing does.

    Floats may differ in their last digits unless `exact`; the order of rows does not count.
    """
    if before.columns != after.columns:
        return f"the columns are {', '.join(after.columns)} instead of {', '.join(before.columns)}"
    if before.schema != after.schema:
        other = next(name for name in before.columns if before.schema[name] != after.schema[name])
        return f"{other} is {after.schema[other]} instead of {before.schema[other]}"
    before, after = before.sort(before.columns, nulls_last=True), after.sort(after.columns, nulls_last=True)
    if exact and before.equals(after):
        return ""
    gone, new = (
        one.join(two, on=keys, how="anti", nulls_equal=True) for one, two in ((before, after), (after, before))
    )
    if gone.height or new.height:
        return _rows_differ(gone, new, keys)
    if before.height != after.height:
        return f"there are {after.height} rows instead of {before.height}"
    return _values_differ(before.sort(keys, maintain_order=True), after.sort(keys, maintain_order=True), keys, exact)


def _rows_differ(gone: pl.DataFrame, new: pl.DataFrame, keys: Sequence[str]) -> str:
    counts = [f"{part.height} rows {verb}" for part, verb in ((gone, "are missing"), (new, "are new")) if part.height]
    return (
        f"{' and '.join(counts)}, for example that of {_named((gone if gone.height else new).row(0, named=True), keys)}"
    )


def _values_differ(before: pl.DataFrame, after: pl.DataFrame, keys: Sequence[str], exact: bool) -> str:
    for name in before.columns:
        differs = ~_same(before[name], after[name], exact)
        if name not in keys and differs.any():
            place = int(differs.arg_true()[0])
            values = f"{after[name][place]!r} instead of {before[name][place]!r}"
            of = _named(before.row(place, named=True), keys)
            return f"{name} differs in {int(differs.sum())} rows, for example {values} ({of})"
    return ""


def _same(one: pl.Series, two: pl.Series, exact: bool) -> pl.Series:
    same = one.eq_missing(two)
    if exact or not one.dtype.is_float():
        return same
    scale = pl.DataFrame(
        {"one": one.abs(), "two": two.abs(), "column": one.abs().fill_nan(None).mean()}
    ).max_horizontal()
    near = (one - two).abs() <= scale * (TOLERANCE_32 if one.dtype == pl.Float32 else TOLERANCE_64)
    return same | near.fill_null(False)


def _named(row: dict[str, Any], keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {row[key]}" for key in keys)
