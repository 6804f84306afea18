"""Quarantine: rows that break a rule, set aside with the reason, so that the good rows can go on.

They lie in the lake as `<project>/quarantine/<source>/<day>.parquet`, those of feature views as
`<project>/quarantine/features.<view>/<day>.parquet`.
"""

from __future__ import annotations

from datetime import datetime

import polars as pl

from feature_pipeline.batch.validate import Rules, judge, schema_violations
from fti.errors import DataError
from fti.project import Source
from fti.storage.periods import Period, midnight
from fti.stores.lake.store import Lake
from fti.times import UTC_TIME

MIDNIGHT = "__day"
"""Column of quarantined rows: midnight of the partition that brought the row."""


def split(source: Source, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Good rows, in the columns of the source's schema; bad rows, with an extra String column `__reason`.

    Bad are rows with a null key, rows that break an expectation on rows, and of the good rows of one key all but the
    last. Raises DataError when a column is missing or has another type, and for an expectation that cannot be computed.
    """
    broken = [*schema_violations(rows, source.schema)]
    if broken:
        raise DataError(f"source {source.name!r}: {'; '.join(map(str, broken))}")
    rules = Rules(suite=source.name, schema=source.schema, key=source.key, expectations=source.expectations)
    verdict = judge(rows, rules).select(tuple(source.schema))
    if failed := [violation for violation in verdict.violations if violation.failure]:
        raise DataError(f"source {source.name!r}: {'; '.join(map(str, failed))}")
    return verdict.good, verdict.bad


def quarantine_table(project: str, name: str) -> str:
    """Table of what was set aside from a source, or from `features.<view>`."""
    return f"{project}/quarantine/{name}"


def set_aside(
    lake: Lake,
    table: str,
    bad: pl.DataFrame,
    *,
    time: str | None,
    start: datetime,
    end: datetime,
    by: Period = "day",
) -> int:
    """Replace the quarantine of `[start, end)`, or all of it without a `time`; days without bad rows have no file.

    A row whose time is null or outside goes to the first day. Returns the number of rows.
    """
    if time is None:
        if bad.height:
            lake.write_static(table, bad)
        else:
            lake.clear(table)
        return bad.height
    moment = pl.col(time).cast(UTC_TIME)
    inside = moment.is_between(start, end, closed="left").fill_null(False)
    day_of = pl.when(inside).then(moment).otherwise(pl.lit(start, UTC_TIME)).dt.truncate("1d")
    bad = bad.with_columns(day_of.alias(MIDNIGHT))
    lake.write(table, bad, time=MIDNIGHT, start=midnight(start.date()), end=end, by=by, keep_quiet=False)
    return bad.height
