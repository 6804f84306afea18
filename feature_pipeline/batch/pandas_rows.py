"""Rows as Great Expectations reads them, in pandas, every value equal to what it was."""

from __future__ import annotations

from typing import Any

import polars as pl

EXACT = 2**53
"""From here on not every whole number is a 64-bit float."""


def to_pandas(rows: pl.DataFrame, columns: list[str]) -> Any:
    """Only `columns`: converting text is what costs. Without any: the row count remains."""
    import pandas as pd

    present = columns or rows.columns[:1]
    return pd.DataFrame({column: _column(rows[column]) for column in present})


def _column(values: pl.Series) -> Any:
    """A column of pandas. Whole numbers beside a null become floats there, so large ones go as Python's own."""
    import pandas as pd

    if values.dtype.is_integer() and values.len() > values.null_count():
        if max(-int(values.min()), int(values.max())) >= EXACT:  # type: ignore[arg-type]
            return pd.Series(values.to_list(), dtype=object)
        values = values.cast(pl.Int64)
    elif values.dtype.is_integer():
        values = values.cast(pl.Int64)
    if values.dtype.is_nested():  # pandas has no type for what may be in them
        return pd.Series(values.to_list(), dtype=object)
    return values.to_pandas()


def nan_places(rows: pl.DataFrame, columns: list[str], condition: Any) -> tuple[set[int], int]:
    """Numbers of the rows that hold NaN in one of `columns` and meet `condition`, and how many rows that meet it hold
    neither NaN nor null there. Conditions other than in pandas' own words are met by none."""
    floats = [column for column in columns if column in rows.columns and rows.schema[column].is_float()]
    if not floats or (condition is not None and not isinstance(condition, str)):
        return set(), 0
    numbered = rows.with_row_index("__place")
    if condition:
        named = [column for column in rows.columns if column in condition]
        numbered = numbered[to_pandas(rows, named).query(condition).index.to_list()]
    is_nan = pl.any_horizontal(pl.col(floats).is_nan().fill_null(False))
    is_null = pl.any_horizontal(pl.col([column for column in columns if column in rows.columns]).is_null())
    found = numbered.filter(is_nan)["__place"]
    return set(found.to_list()), numbered.filter(~is_nan & ~is_null).height
