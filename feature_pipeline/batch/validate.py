"""Validation in memory, before anything is written: FTI checks schema, keys and times, Great Expectations the values.

Rules on single rows sort the rows into good ones and bad ones. Rules on the whole (a missing column, a wrong type, a
row count) cannot be met by leaving rows out: they are problems, and a problem blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import polars as pl

from feature_pipeline.batch.expectations import Outcome, run_suite
from fti.project import Expectation

REASON = "__reason"
"""Column of rows that were set aside: every rule that the row breaks."""


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A rule that rows break: where, which, how often, and one of the rows."""

    column: str
    rule: str
    count: int
    num_rows: int
    example: Mapping[str, Any]
    places: tuple[int, ...] | None = None
    """Numbers of the rows that break it; none when it is a rule on the table."""
    failure: str = ""
    """Why the rule could not be computed: then no row breaks it."""

    def __str__(self) -> str:
        if self.failure:
            return f"column {self.column!r}: {self.rule} cannot be computed ({self.failure}): correct the rule"
        example = ", ".join(f"{name}={value}" for name, value in self.example.items())
        tail = f"; for example {example}" if example else ""
        return f"column {self.column!r} breaks {self.rule} in {self.count} of {self.num_rows} rows{tail}"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What rows must be. `max_share` is the share of rows that may be set aside."""

    suite: str
    schema: Mapping[str, Any]
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...] = ()
    time: str | None = None
    span: tuple[datetime, datetime] | None = None
    """`[start, end)` in which `time` must lie."""
    max_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Rows after validation: good ones, bad ones with `__reason`, what they break, and what blocks."""

    good: pl.DataFrame
    bad: pl.DataFrame
    violations: tuple[Violation, ...]
    problems: tuple[str, ...]
    outcomes: tuple[Outcome, ...] = ()
    suite: str = ""

    def select(self, columns: Sequence[str]) -> Verdict:
        """The same, in these columns only."""
        return replace(self, good=self.good.select(columns), bad=self.bad.select(*columns, REASON))


def judge(rows: pl.DataFrame, rules: Rules) -> Verdict:
    """Sort `rows` into good and bad ones. A wrong schema is told alone: other rules would fail for its sake."""
    broken = [*schema_violations(rows, rules.schema)]
    if broken:
        return _blocked(rules, broken, [str(violation) for violation in broken])
    broken = [*null_keys(rows, rules.key), *outside(rows, rules)]
    outcomes = run_suite(rules.suite, rows, rules.expectations)
    broken += [_violation(rows, outcome) for outcome in outcomes if not outcome.success and outcome.places is not None]
    broken += repeated_keys(rows, rules.key, _places(broken))
    good, bad = _split(rows, broken)
    outcomes, whole = _whole(rules.suite, good, bad, outcomes)
    return Verdict(
        good=good,
        bad=bad,
        violations=(*broken, *whole),
        problems=(*_over_limit(rules, rows.height, bad.height, broken), *map(str, whole)),
        outcomes=tuple(outcomes),
        suite=rules.suite,
    )


def unreadable(rules: Rules, error: Exception) -> Verdict:
    """The verdict on rows that could not even be read."""
    return _blocked(rules, (), [str(error)])


def schema_violations(rows: pl.DataFrame, schema: Mapping[str, Any]) -> Iterator[Violation]:
    """Columns that are missing or of another type."""
    for column, dtype in schema.items():
        if column not in rows.columns:
            yield _told(rows, column, f"'is present' (columns are {', '.join(rows.columns)})", None)
        elif rows.schema[column] != dtype:
            rule = f"'has type {dtype}' (it has type {rows.schema[column]})"
            yield replace(_told(rows, column, rule, None), example=_row(rows, 0))


def null_keys(rows: pl.DataFrame, key: Sequence[str]) -> Iterator[Violation]:
    """Rows that lack a column of the key."""
    for column in key:
        if places := _where(rows, pl.col(column).is_null()):
            yield _told(rows, column, "'is never null, it is part of the key'", places)


def outside(rows: pl.DataFrame, rules: Rules) -> Iterator[Violation]:
    """Rows that lie outside the time range that was asked for."""
    if rules.time is None or rules.span is None:
        return
    start, end = rules.span
    inside = pl.col(rules.time).is_between(start, end, closed="left").fill_null(False)
    if places := _where(rows, ~inside):
        yield _told(rows, rules.time, f"'lies in {start:%Y-%m-%d %H:%M} .. {end:%Y-%m-%d %H:%M}'", places)


def repeated_keys(rows: pl.DataFrame, key: Sequence[str], without: set[int]) -> list[Violation]:
    """Of the rows of one key the last one stays; those before it break the rule. Bad rows do not count."""
    if not rows.height or rows.select(pl.struct(key).n_unique()).item() == rows.height:
        return []
    kept = rows.select(*key).with_row_index("__place").filter(~pl.col("__place").is_in(list(without)))
    places = kept.filter(~pl.struct(key).is_last_distinct())["__place"].to_list()
    return [_told(rows, ", ".join(key), "'is unique, it is the key'", tuple(places))] if places else []


def _whole(
    suite: str, good: pl.DataFrame, bad: pl.DataFrame, outcomes: Sequence[Outcome]
) -> tuple[list[Outcome], list[Violation]]:
    """Outcomes with the rules on the table as the good rows keep them, and those that even these break."""
    found = list(outcomes)
    places = [place for place, outcome in enumerate(found) if outcome.num_unexpected is None]
    if bad.height and places:
        again = run_suite(suite, good, [found[place].expectation for place in places])
        for place, outcome in zip(places, again, strict=True):
            found[place] = outcome
    failed = [outcome for outcome in found if not outcome.success and outcome.places is None]
    return found, [_violation(good, outcome) for outcome in failed]


def _over_limit(rules: Rules, num_rows: int, num_bad: int, broken: Sequence[Violation]) -> list[str]:
    """What the bad rows break, when they are more than may be set aside."""
    if num_bad <= rules.max_share * num_rows + 1e-9 * num_rows:  # 0.29 of 100 rows are 28.999999999999996
        return []
    told = [str(violation) for violation in broken]
    if rules.max_share:
        told[0] += f" ({num_bad} rows to set aside are over the limit of {rules.max_share:.2%})"
    return told


def _blocked(rules: Rules, broken: Sequence[Violation], problems: Sequence[str]) -> Verdict:
    good = pl.DataFrame(schema=dict(rules.schema))
    bad = good.with_columns(pl.lit("").alias(REASON))
    return Verdict(good=good, bad=bad, violations=tuple(broken), problems=tuple(problems), suite=rules.suite)


def _split(rows: pl.DataFrame, broken: Sequence[Violation]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that break no rule; the others, with every reason."""
    told = [
        pl.DataFrame({"__place": violation.places}, schema={"__place": pl.UInt32}).with_columns(
            pl.lit(f"{violation.column}: {violation.rule}").alias(REASON)
        )
        for violation in broken
        if violation.places
    ]
    if not told:
        return rows, rows.clear().with_columns(pl.lit("").alias(REASON))
    reasons = pl.concat(told).group_by("__place", maintain_order=True).agg(pl.col(REASON).str.join("; "))
    numbered = rows.with_row_index("__place").join(reasons, on="__place", how="left", maintain_order="left")
    good = numbered.filter(pl.col(REASON).is_null()).select(rows.columns)
    return good, numbered.filter(pl.col(REASON).is_not_null()).drop("__place")


def _violation(rows: pl.DataFrame, outcome: Outcome) -> Violation:
    rule = outcome.rule
    missing = [column for column in outcome.column.split(", ") if column not in (*rows.columns, "(table)")]
    if missing:
        rule += f", there is no column {missing[0]!r}"
    return replace(_told(rows, outcome.column, rule, outcome.places), failure="" if missing else outcome.failure)


def _told(rows: pl.DataFrame, column: str, rule: str, places: tuple[int, ...] | None) -> Violation:
    count = rows.height if places is None else len(places)
    example = _row(rows, places[0]) if places else {}
    return Violation(column=column, rule=rule, count=count, num_rows=rows.height, example=example, places=places)


def _row(rows: pl.DataFrame, place: int) -> dict[str, Any]:
    return rows.row(place, named=True) if rows.height else {}


def _where(rows: pl.DataFrame, condition: pl.Expr) -> tuple[int, ...]:
    return tuple(rows.select(condition.arg_true()).to_series().to_list())


def _places(broken: Sequence[Violation]) -> set[int]:
    return {place for violation in broken for place in violation.places or ()}
