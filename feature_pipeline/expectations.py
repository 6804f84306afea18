"""Great Expectations suites, one per source and per feature view, run in memory over whole frames."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from fti.errors import DataError
from fti.project import Expectation, Project, Source

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
NOT_REGISTERED = {"expect_multicolumn_values_to_be_unique"}
"""Shipped under another name, `expect_select_column_values_to_be_unique_within_record`."""
MANY_ROWS = 100_000
"""So many rows do not wait for Python to find that Great Expectations' objects, which refer to each other, are gone."""
RESULT_FORMAT = {"result_format": "COMPLETE", "return_unexpected_index_query": False}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What Great Expectations says of one expectation."""

    expectation: Expectation
    success: bool
    num_unexpected: int | None
    """Rows that break it; none for an expectation on the table as a whole, or one that could not be computed."""
    places: tuple[int, ...] | None
    """Numbers of those rows."""

    @property
    def column(self) -> str:
        return ", ".join(columns_of(self.expectation)) or "(table)"

    @property
    def rule(self) -> str:
        kwargs = self.expectation.kwargs.items()
        return f"{self.expectation.type}({', '.join(f'{name}={value}' for name, value in kwargs if name != 'column')})"


def source_suite(project: str, source: str) -> str:
    """Name of the suite of a source."""
    return f"{project}.raw.{source}"


def view_suite(project: str, view: str) -> str:
    """Name of the suite of a feature view."""
    return f"{project}.features.{view}"


def suite(name: str, expectations: Sequence[Expectation]) -> Any:
    """The `great_expectations.ExpectationSuite`; `meta["place"]` numbers the expectations."""
    gx = _great_expectations()
    from great_expectations.expectations.registry import get_expectation_impl

    made = [
        get_expectation_impl(expectation.type)(**expectation.kwargs, meta={"place": place})
        for place, expectation in enumerate(expectations)
    ]
    return gx.ExpectationSuite(name=name, expectations=made)


def run_suite(name: str, rows: pl.DataFrame, expectations: Sequence[Expectation]) -> list[Outcome]:
    """One outcome per expectation, in their order, with the places of every row that breaks it."""
    if not expectations:
        return []
    gx = _great_expectations()
    columns = list(dict.fromkeys(column for expectation in expectations for column in columns_of(expectation)))
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": _pandas(rows, columns)})
    results = batch.validate(suite(name, expectations), result_format=RESULT_FORMAT).results
    results = sorted(results, key=lambda result: result.expectation_config.meta["place"])
    del context, asset, batch
    if rows.height > MANY_ROWS:
        gc.collect()
    return [_outcome(expectation, result) for expectation, result in zip(expectations, results, strict=True)]


def columns_of(expectation: Expectation) -> Iterator[str]:
    """Columns that the expectation names."""
    for argument in COLUMN_ARGUMENTS:
        value = expectation.kwargs.get(argument, ())
        yield from (value,) if isinstance(value, str) else value


def check_expectations(project: Project) -> None:
    """Raise DataError for an expectation that Great Expectations does not have, or on a column that is not there."""
    for source in project.sources:
        _check_columns(source)
    suites = {source_suite(project.name, source.name): source.expectations for source in project.sources}
    suites |= {view_suite(project.name, view): known for view, known in project.features.expectations.items()}
    for name, expectations in suites.items():
        for expectation in expectations:
            if expectation.type not in shipped_names() and expectation.type not in _registered_names():
                raise DataError(f"suite {name}: there is no expectation {_nearest(expectation.type, shipped_names())}")


@cache
def shipped_names() -> tuple[str, ...]:
    """Names of the expectations that Great Expectations ships; read from its text, since its import takes seconds."""
    package = importlib.util.find_spec("great_expectations")
    assert package is not None
    assert package.submodule_search_locations is not None
    core = Path(package.submodule_search_locations[0]) / "expectations" / "core" / "__init__.py"
    names = set(re.findall(r"\b((?:un)?expect(?:ed)?_\w+) import", core.read_text()))
    return tuple(sorted(names - NOT_REGISTERED))


def _registered_names() -> list[str]:
    """Also the expectations that the user's own modules have defined."""
    _great_expectations()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    return list(list_registered_expectation_implementations())


def _check_columns(source: Source) -> None:
    for expectation in source.expectations:
        for column in columns_of(expectation):
            if column not in source.schema:
                raise DataError(
                    f"source {source.name!r}: {expectation.type} names no column of its schema, "
                    f"{_nearest(column, tuple(source.schema))}"
                )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{name!r}; the nearest name is {near[0]!r}" if near else repr(name)


def _great_expectations() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations

    return great_expectations


def _pandas(rows: pl.DataFrame, columns: list[str]) -> Any:
    """Only the columns that expectations name: converting text is what costs. None named: the row count remains."""
    present = [column for column in columns if column in rows.columns]
    return rows.select(present or rows.columns[:1]).to_pandas()


def _outcome(expectation: Expectation, result: Any) -> Outcome:
    details: Mapping[str, Any] = result.result or {}
    places = details.get("unexpected_index_list") if not result.success else ()
    count = details.get("unexpected_count")
    return Outcome(
        expectation=expectation,
        success=bool(result.success),
        num_unexpected=None if count is None else int(count),
        places=None if places is None else tuple(int(place) for place in places),
    )
