"""Great Expectations suites, one per source and per feature view, run in memory over whole frames."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from feature_pipeline.batch.pandas_rows import nan_places, to_pandas
from fti.errors import DataError
from fti.project import Expectation, Project, Source

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
NOT_REGISTERED = {"expect_multicolumn_values_to_be_unique"}
"""Shipped under another name, `expect_select_column_values_to_be_unique_within_record`."""
_INTERNAL = {"id", "meta", "rendered_content", "windows", "expectation_type", "result_format", "catch_exceptions"}
MANY_ROWS = 100_000
"""So many rows do not wait for Python to find that Great Expectations' objects, which refer to each other, are gone."""
NAN_PASSES = {
    "expect_column_values_to_be_null",
    "expect_column_values_to_not_be_in_set",
    "expect_column_values_to_be_unique",
    "expect_column_values_to_be_of_type",
    "expect_column_values_to_be_in_type_list",
    "expect_compound_columns_to_be_unique",
    "expect_select_column_values_to_be_unique_within_record",
}
"""Rules on rows that NaN meets; all others it breaks."""
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
    failure: str = ""
    """Why the expectation could not be computed: the fault is its own, not of the rows."""

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

    made = []
    for place, expectation in enumerate(expectations):
        try:
            made.append(get_expectation_impl(expectation.type)(**expectation.kwargs, meta={"place": place}))
        except (TypeError, ValueError) as error:
            reason = "; ".join(str(error).splitlines()[1:]) or str(error)
            raise DataError(
                f"suite {name}: {expectation.type} takes no such arguments ({reason}). Correct the rule"
            ) from error
    return gx.ExpectationSuite(name=name, expectations=made)


def run_suite(name: str, rows: pl.DataFrame, expectations: Sequence[Expectation]) -> list[Outcome]:
    """One outcome per expectation, in their order, with the places of every row that breaks it."""
    if not expectations:
        return []
    gx = _great_expectations()
    columns = [column for column in rows.columns if any(_reads(expectation, column) for expectation in expectations)]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": to_pandas(rows, columns)})
    results = batch.validate(suite(name, expectations), result_format=RESULT_FORMAT).results
    results = sorted(results, key=lambda result: result.expectation_config.meta["place"])
    del context, asset, batch
    if rows.height > MANY_ROWS:
        gc.collect()
    found = [_outcome(expectation, result) for expectation, result in zip(expectations, results, strict=True)]
    return [_with_nan(outcome, rows) for outcome in found]


def _with_nan(outcome: Outcome, rows: pl.DataFrame) -> Outcome:
    """NaN is missing to Great Expectations, which then asks nothing of it; here it breaks what it does not meet."""
    kwargs = outcome.expectation.kwargs
    if outcome.num_unexpected is None or outcome.failure or outcome.expectation.type in NAN_PASSES:
        return outcome
    places, known = nan_places(rows, list(columns_of(outcome.expectation)), kwargs.get("row_condition"))
    added = places - set(outcome.places or ())
    if not added:
        return outcome
    count = outcome.num_unexpected + len(added)
    is_met = count <= (1 - kwargs.get("mostly", 1.0)) * (known + len(added)) + 1e-9
    found = tuple(sorted({*(outcome.places or ()), *added}))
    return replace(outcome, success=is_met, num_unexpected=count, places=() if is_met else found)


def _reads(expectation: Expectation, column: str) -> bool:
    """Whether the expectation names the column, or asks for it in its condition."""
    condition = str(expectation.kwargs.get("row_condition", ""))
    return column in columns_of(expectation) or re.search(rf"(?<!\w){re.escape(column)}(?!\w)", condition) is not None


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
            if expectation.type in shipped_names():
                _check_arguments(name, expectation)
            elif expectation.type not in _registered_names():
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


@cache
def arguments_of(type: str) -> frozenset[str]:
    """Names of the arguments of a shipped expectation, from its text and those of the classes it is made of."""
    package = importlib.util.find_spec("great_expectations")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0]) / "expectations"
    files = [folder / "core" / f"{type}.py", folder / "expectation.py"]
    texts = re.split(
        r"^(?=class |def |@)", "\n".join(file.read_text() for file in files if file.exists()), flags=re.MULTILINE
    )
    classes = {
        found[1].lower(): (found[2], text) for text in texts if (found := re.match(r"class (\w+)\(([^)]*)\)", text))
    }
    names: set[str] = set()
    waiting = [type.replace("_", "")]
    while waiting:
        bases, text = classes.get(waiting.pop(), ("", ""))
        names |= set(re.findall(r"^    ([a-z]\w*): (?!ClassVar)", text, re.MULTILINE | re.IGNORECASE))
        waiting += re.findall(r"\w+", bases.lower())
    return frozenset(names)


def _check_arguments(suite: str, expectation: Expectation) -> None:
    """Raise DataError for an argument that the expectation does not have, or a bound that it would round."""
    known = arguments_of(expectation.type)
    for argument, value in expectation.kwargs.items():
        if argument not in known:
            near = _nearest(argument, sorted(known - _INTERNAL))
            raise DataError(f"suite {suite}: {expectation.type} has no argument {near}")
        if argument in ("min_value", "max_value") and isinstance(value, int) and int(float(value)) != value:
            raise DataError(
                f"suite {suite}: {expectation.type} reads {argument}={value} as the number {int(float(value))}. Choose "
                "a bound that a 64-bit float holds"
            )


def _registered_names() -> list[str]:
    """Also the expectations that the user's own modules have defined."""
    _great_expectations()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    return list(list_registered_expectation_implementations())


def _check_columns(source: Source) -> None:
    for expectation in source.expectations:
        for column in columns_of(expectation):
            _check_bounds(source, expectation, column)
            if column not in source.schema:
                raise DataError(
                    f"source {source.name!r}: {expectation.type} names no column of its schema, "
                    f"{_nearest(column, tuple(source.schema))}"
                )


def _check_bounds(source: Source, expectation: Expectation, column: str) -> None:
    """Raise DataError for bounds without a zone on moments that have one: they cannot be compared."""
    if getattr(source.schema.get(column), "time_zone", None) is None:
        return
    for argument in ("min_value", "max_value"):
        bound = expectation.kwargs.get(argument)
        if isinstance(bound, date) and getattr(bound, "tzinfo", None) is None:
            raise DataError(
                f"source {source.name!r}: {expectation.type} compares {column!r}, which has a time zone, with "
                f"{argument}={bound}, which has none: give a datetime with tzinfo=UTC"
            )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"{name!r}; the nearest name is {near[0]!r}" if near else repr(name)


def _great_expectations() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations

    return great_expectations


def _outcome(expectation: Expectation, result: Any) -> Outcome:
    details: Mapping[str, Any] = result.result or {}
    places = details.get("unexpected_index_list") if not result.success else ()
    count = details.get("unexpected_count")
    raised = [found for found in (result.exception_info or {}).values() if isinstance(found, Mapping)]
    raised = [found["exception_message"] for found in raised if found.get("raised_exception")]
    return Outcome(
        expectation=expectation,
        success=bool(result.success),
        num_unexpected=None if count is None else int(count),
        places=None if places is None else tuple(int(place) for place in places),
        failure=str(raised[0]).strip() or "it raised an error" if raised else "",
    )
