"""Expectations on rows of a stream: most rows meet them all, which polars can tell in a millisecond.

Only rows of which that is not certain are given to the quarantine, which asks Great Expectations.
"""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from fti.project import Expectation, Source

REASON, PLACE = "__reason", "__place"


def reasons(source: Source, rows: pl.DataFrame) -> dict[int, str]:
    """Place in `rows` -> why that row is set aside. A row is judged by itself: its key may be there several times."""
    met = [_met(expectation) for expectation in source.expectations]
    certain = rows.select(pl.all_horizontal(pl.repeat(True, pl.len()), *met).fill_null(False)).to_series()
    if certain.all():
        return {}
    from feature_pipeline.batch.quarantine import split

    doubtful = rows.with_row_index(PLACE).filter(~certain)
    nth = pl.int_range(pl.len()).over(source.key).alias("__nth")
    found: dict[int, str] = {}
    for part in doubtful.with_columns(nth).partition_by("__nth", include_key=False):
        _, bad = split(source, part.drop(PLACE))
        told = part.join(bad, on=rows.columns, how="inner", nulls_equal=True)
        found |= dict(told.select(PLACE, REASON).iter_rows())
    return found


def _met(expectation: Expectation) -> pl.Expr:
    """True where a row certainly meets the expectation; never true for one that is not known here."""
    arguments = dict(expectation.kwargs)
    known = CERTAIN.get(expectation.type)
    column = arguments.pop("column", None)
    if known is None or column is None or arguments.keys() - known[1]:
        return pl.lit(False)
    certain: pl.Expr = known[0](pl.col(column), arguments)
    return certain


def _between(column: pl.Expr, arguments: Mapping[str, Any]) -> pl.Expr:
    low, high = arguments.get("min_value"), arguments.get("max_value")
    bounds = [column >= low] if low is not None else []
    bounds += [column <= high] if high is not None else []
    return column.is_null() | pl.all_horizontal(pl.lit(True), *bounds)


CERTAIN: dict[str, tuple[Callable[[pl.Expr, Mapping[str, Any]], pl.Expr], set[str]]] = {
    "expect_column_values_to_not_be_null": (lambda column, _: column.is_not_null(), set()),
    "expect_column_values_to_be_in_set": (
        lambda column, arguments: column.is_null() | column.is_in(list(arguments["value_set"])),
        {"value_set"},
    ),
    "expect_column_values_to_be_between": (_between, {"min_value", "max_value"}),
    "expect_column_values_to_match_regex": (
        lambda column, arguments: column.is_null() | column.str.contains(arguments["regex"]),
        {"regex"},
    ),
}
"""Expectation -> how polars tells that a value meets it, and the arguments it understands."""
