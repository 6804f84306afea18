"""A value that its rule cannot read stops the reading, by row, column and value."""

from __future__ import annotations

import polars as pl

from fti.errors import DataError
from fti.tables.spec import TEXT, TableSpec
from fti.values import shown

AS_WRITTEN = pl.QueryOptFlags.none()
"""Texts are stripped once and each column is made once: nothing to optimize, which takes long for many columns."""


def typed(spec: TableSpec, part: pl.DataFrame, first: int) -> pl.DataFrame:
    """The columns of `spec` of raw rows, the first of which is number `first` from 0. DataError for the first value
    that is there and cannot be read, or whose type cannot hold it."""
    made = spec.typed(part.lazy()).collect(optimizations=AS_WRITTEN)
    require_kept(spec, part, made, first)
    return made


def require_kept(spec: TableSpec, part: pl.DataFrame, made: pl.DataFrame, first: int) -> None:
    """Raise DataError where a value of the raw rows `part` is null in the rows `made` of it."""
    for name in spec.columns:
        stored = part[name]
        if spec.is_parsed(name, stored.dtype) and made[name].null_count() > stored.null_count():
            lost = made[name].is_null() & stored.is_not_null() & ~_is_missing(stored, spec)
            if lost.any():
                place = int(lost.arg_max() or 0)
                raise _refused(spec, name, first + place, stored, place)


def _is_missing(stored: pl.Series, spec: TableSpec) -> pl.Series:
    """Whether a value says that there is none."""
    if stored.dtype == pl.String:
        return stored.str.strip_chars().is_in(["", *spec.missing.get(stored.name, ())])
    return stored.is_nan() if stored.dtype.is_float() else pl.repeat(False, stored.len(), eager=True)


def _refused(spec: TableSpec, name: str, row: int, stored: pl.Series, at: int) -> DataError:
    how, found = spec.columns[name], shown(stored, at)
    table = spec.path or f"the query on {spec.url}"
    remedy = f"`missing=({found},)` if it means a missing value, `how={TEXT!r}` to keep all texts"
    if isinstance(stored.dtype, pl.Datetime):
        remedy = "cut the times to microseconds where the table is made: finer ones are not kept"
    elif stored.dtype != pl.String:
        remedy = "a type that holds it, such as Int64 for whole numbers"
    return DataError(
        f"{table}: row {row + 1:,} of column {name!r} holds {found}, which cannot be read as {how!r}. Mend the value, "
        f"or say so for the column in the project's TABLE (in `fti new` with --missing and --as): {remedy}."
    )
