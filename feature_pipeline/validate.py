"""Validation in memory, before anything is written: FTI checks the schema, Great Expectations the values."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fti.project import Expectation

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A rule that rows break: where, which, how often, and one of the rows."""

    column: str
    rule: str
    count: int
    num_rows: int
    example: Mapping[str, Any]

    def __str__(self) -> str:
        example = ", ".join(f"{name}={value}" for name, value in self.example.items())
        tail = f"; for example {example}" if example else ""
        return f"column {self.column!r} breaks {self.rule} in {self.count} of {self.num_rows} rows{tail}"


def violations(
    rows: pl.DataFrame,
    *,
    schema: Mapping[str, Any],
    key: Sequence[str],
    expectations: Iterable[Expectation] = (),
) -> list[Violation]:
    """Everything wrong with `rows`. A wrong schema is reported alone: expectations would fail for its sake."""
    broken = [*schema_violations(rows, schema)]
    broken = broken or [*key_violations(rows, key)]
    return broken or expectation_violations(rows, tuple(expectations))


def schema_violations(rows: pl.DataFrame, schema: Mapping[str, Any]) -> Iterator[Violation]:
    """Columns that are missing or of another type."""
    for column, dtype in schema.items():
        if column not in rows.columns:
            yield _violation(rows, column, f"'is present' (columns are {', '.join(rows.columns)})", rows.height)
        elif rows.schema[column] != dtype:
            rule = f"'has type {dtype}' (it has type {rows.schema[column]})"
            yield _violation(rows, column, rule, rows.height, rows.head(1))


def key_violations(rows: pl.DataFrame, key: Sequence[str]) -> Iterator[Violation]:
    """Null keys and rows that have the key of another row."""
    for column in key:
        bad = rows.filter(pl.col(column).is_null())
        if bad.height:
            yield _violation(rows, column, "'is never null, it is part of the key'", bad.height, bad)
    if rows.height and rows.select(pl.struct(key).n_unique()).item() != rows.height:
        bad = rows.filter(pl.struct(key).is_duplicated()).sort(key)
        yield _violation(rows, ", ".join(key), "'is unique, it is the key'", bad.height, bad)


def expectation_violations(rows: pl.DataFrame, expectations: Sequence[Expectation]) -> list[Violation]:
    """Expectations that Great Expectations finds broken."""
    if not expectations:
        return []
    results = run_expectations(rows, expectations)
    pairs = zip(expectations, results, strict=True)
    return [_unexpected(rows, expectation, result) for expectation, result in pairs if not result["success"]]


def run_expectations(rows: pl.DataFrame, expectations: Sequence[Expectation]) -> list[dict[str, Any]]:
    """Great Expectations' own results, one per expectation, in their order."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.expectations.registry import get_expectation_impl

    columns = list(dict.fromkeys(column for expectation in expectations for column in _columns(expectation)))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": _pandas(rows, columns)})
    suite = gx.ExpectationSuite(
        name="rows",
        expectations=[
            get_expectation_impl(expectation.type)(**expectation.kwargs, meta={"place": place})
            for place, expectation in enumerate(expectations)
        ],
    )
    results = batch.validate(suite, result_format="SUMMARY").to_json_dict()["results"]
    return sorted(results, key=lambda result: result["expectation_config"]["meta"]["place"])


def _pandas(rows: pl.DataFrame, columns: list[str]) -> Any:
    """Only the columns that expectations name: converting text is what costs. None named: the row count remains."""
    present = [column for column in columns if column in rows.columns]
    return rows.select(present or rows.columns[:1]).to_pandas()


def _columns(expectation: Expectation) -> Iterator[str]:
    for argument in COLUMN_ARGUMENTS:
        value = expectation.kwargs.get(argument, ())
        yield from (value,) if isinstance(value, str) else value


def _unexpected(rows: pl.DataFrame, expectation: Expectation, result: Mapping[str, Any]) -> Violation:
    details = result.get("result") or {}
    columns = list(_columns(expectation)) or ["(table)"]
    arguments = ", ".join(f"{name}={value}" for name, value in expectation.kwargs.items() if name != "column")
    rule = f"{expectation.type}({arguments})"
    missing = [column for column in columns if column not in rows.columns and column != "(table)"]
    if missing:
        rule += f", there is no column {missing[0]!r}"
    bad = rows.clear() if missing else _examples(rows, columns[0], expectation, details)
    return _violation(rows, ", ".join(columns), rule, int(details.get("unexpected_count") or rows.height), bad)


def _examples(
    rows: pl.DataFrame, column: str, expectation: Expectation, details: Mapping[str, Any]
) -> pl.DataFrame | None:
    """Rows that Great Expectations found unexpected, as far as its summary tells."""
    if expectation.type == "expect_column_values_to_not_be_null":
        return rows.filter(pl.col(column).is_null())
    values = details.get("partial_unexpected_list") or []
    if not values or column not in rows.columns:
        return None
    text = pl.col(column).cast(pl.String)
    return rows.filter(text == pl.lit(values[0], dtype=rows.schema[column]).cast(pl.String))


def _violation(rows: pl.DataFrame, column: str, rule: str, count: int, bad: pl.DataFrame | None = None) -> Violation:
    example = bad.row(0, named=True) if bad is not None and bad.height else {}
    return Violation(column=column, rule=rule, count=count, num_rows=rows.height, example=example)
