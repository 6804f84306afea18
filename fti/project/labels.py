"""The rows that a project's `Label.rows` makes, with times and keys in the types in which everything else has them."""

from __future__ import annotations

from typing import Any

import polars as pl

from fti.errors import DataError
from fti.project import Project, Tables
from fti.times import as_times, require_times
from fti.values import exact

KNOWN_AT = "known_at"
OF = "Label.rows"


def label_rows(project: Project, tables: Tables) -> pl.DataFrame:
    """What `Label.rows` returns; times are the same moments in UTC microseconds or the request field's own type.

    DataError when a column is missing, holds no times, a labelled row has no time, or a key is of another kind than its
    request field: it would meet no logged prediction.
    """
    label, rows = project.label, project.label.rows(tables)
    missing = [name for name in (*label.key, label.time, label.name, KNOWN_AT) if name not in rows.columns]
    if missing:
        what = "request field" if missing[0] in project.service.request else "column"
        raise DataError(
            f"the rows of {OF} lack the {what} {missing[0]!r} (they have {', '.join(rows.columns)}): add it."
        )
    fields = {name: field.dtype for name, field in project.service.request.items() if name in rows.columns}
    rows = rows.with_columns(as_times(rows[name], OF) for name in dict.fromkeys((label.time, KNOWN_AT)))
    rows = rows.with_columns(
        _as_field(rows[name], dtype, is_key=name in label.key)
        for name, dtype in fields.items()
        if rows.schema[name] != dtype
    )
    require_times(rows.filter(pl.col(label.name).is_not_null()), label.time, f"labelled rows of {OF}")
    return rows


def _as_field(values: pl.Series, dtype: Any, *, is_key: bool) -> pl.Series:
    """`values` in the type of their request field, where that changes no value."""
    if isinstance(dtype, pl.Datetime):
        return exact(as_times(values, OF), dtype, of=OF)
    if not is_key:
        return values
    if values.dtype.is_integer() and dtype.is_integer():
        return exact(values, dtype, of=OF)
    raise DataError(
        f"{OF}: the key {values.name!r} is {values.dtype} and {dtype} in Service.request, so that no label would meet "
        "its prediction: make them the same."
    )
