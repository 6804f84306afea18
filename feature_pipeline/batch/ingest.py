"""Raw assets: rows of a source, read, validated in memory and only then written to the lake, a chunk at a time."""

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import polars as pl

from feature_pipeline.batch.chunks import chunks
from feature_pipeline.batch.expectations import source_suite
from feature_pipeline.batch.quarantine import quarantine_table, set_aside
from feature_pipeline.batch.report import GROUP, RangeReport, refuse
from feature_pipeline.batch.validate import Rules, Verdict, judge, unreadable
from fti.errors import DataError
from fti.project import Project, Source
from fti.storage.periods import by_stem, days_between, first_day
from fti.storage.tables import Version
from fti.stores.lake.store import Lake
from fti.versions.fingerprint import period_fingerprints
from fti.versions.source_hash import digest
from fti.versions.views import source_version

READ_ERRORS = (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error, pl.exceptions.PolarsError)
"""What an unreadable file, a cut archive or a changed layout raises."""


class ChunkedRange(dg.Config):
    """How a range of days is worked through. Without `chunk_days` the project's own number."""

    chunk_days: int = 0


@dataclass(frozen=True, kw_only=True)
class RawChunk:
    """What became of the days `[start, end)` of a source, or of its whole table when both are equal."""

    start: datetime
    end: datetime
    verdict: Verdict
    days_written: tuple[date, ...]
    """Days whose rows differ from what the lake had."""


def partitions(project: Project) -> dg.DailyPartitionsDefinition | dg.MonthlyPartitionsDefinition:
    """UTC days from the project's first one, or the months that they lie in, the present one too."""
    start, end = project.partitions_start, project.partitions_end
    if project.partition_by == "day":
        return dg.DailyPartitionsDefinition(start_date=start, end_date=end, timezone="UTC")
    end = end and _month(_month(end - timedelta(microseconds=1)) + timedelta(days=31))
    return dg.MonthlyPartitionsDefinition(
        start_date=_month(start), end_date=end, timezone="UTC", end_offset=0 if end else 1
    )


def range_of(context: dg.AssetExecutionContext, project: Project) -> tuple[datetime, datetime]:
    """The days of this run's partitions, past ones only, and none that the project does not have."""
    window = context.partition_time_window
    if project.partition_by == "day":
        return window.start, window.end
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return max(window.start, project.partitions_start), min(window.end, project.partitions_end or today, today)


def _month(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def table(project: Project, source: Source) -> str:
    """Name of the source's table in the lake."""
    return f"{project.name}/raw/{source.name}"


def read_source(source: Source, start: datetime, end: datetime) -> pl.DataFrame:
    """The source's rows of `[start, end)`; whatever keeps it from being read becomes a `DataError` that names it."""
    try:
        return source.read(start, end)
    except READ_ERRORS as error:
        raise DataError(f"source {source.name!r} cannot be read: {type(error).__name__}: {error}") from error


def read_valid(project: Project, source: Source, start: datetime, end: datetime) -> Verdict:
    """Rows of the source in the columns of its schema, those to set aside, and what keeps them from being written."""
    rules = Rules(
        suite=source_suite(project.name, source.name),
        schema=source.schema,
        key=source.key,
        expectations=source.expectations,
        time=source.timestamp,
        span=(start, end),
        max_share=source.max_quarantined_share,
    )
    try:
        rows = read_source(source, start, end)
    except DataError as error:
        return unreadable(rules, error)
    verdict = judge(rows, rules)
    return verdict if verdict.problems else verdict.select(tuple(source.schema))


def write_source(
    lake: Lake,
    project: Project,
    source: Source,
    rows: pl.DataFrame,
    start: datetime,
    end: datetime,
    superseded: Version | None = None,
) -> tuple[date, ...]:
    """Replace those of the source's days that differ, or its whole table when it has no days; returns these days.

    The segments of the `superseded` version go: the one before `rows` were read.
    """
    if source.timestamp:
        name, time = table(project, source), source.timestamp
        by = project.partition_by
        return tuple(lake.write(name, rows, time=time, start=start, end=end, superseded=superseded, by=by))
    return (project.partitions_start.date(),) if lake.write_static(table(project, source), rows) else ()


def ingest(
    lake: Lake, project: Project, source: Source, start: datetime, end: datetime, *, chunk_days: int
) -> Iterator[RawChunk]:
    """Read, check and write chunk by chunk. A chunk with problems is not written and is the last one."""
    by = project.partition_by
    spans = chunks(start, end, chunk_days, by) if source.timestamp else [(start, end)]
    for first, last in spans:
        known = lake.version(table(project, source))
        verdict = read_valid(project, source, first, last)
        if verdict.problems:
            yield RawChunk(start=first, end=last, verdict=verdict, days_written=())
            return
        quarantine = quarantine_table(project.name, source.name)
        set_aside(lake, quarantine, verdict.bad, time=source.timestamp, start=first, end=last, by=by)
        written = write_source(lake, project, source, verdict.good, first, last, known)
        yield RawChunk(start=first, end=last, verdict=verdict, days_written=written)


def data_version(context: dg.AssetExecutionContext, source: Source, found: Mapping[str, str]) -> str:
    """Hash of the rows; the fingerprint of each period that was `found` is kept in its partition's metadata."""
    for stem, fingerprint in found.items() if source.timestamp else ():
        context.add_asset_metadata({"fingerprint": fingerprint}, partition_key=first_day(stem).isoformat())
    return next(iter(found.values())) if len(found) == 1 else digest(*found.values())


def raw_asset(project: Project, source: Source) -> dg.AssetsDefinition:
    """The asset `raw_<source>`: by UTC day when the source has a timestamp, else one table."""
    key, check = project.key(f"raw_{source.name}"), f"raw_{source.name}_is_valid"

    @dg.asset(
        key=key,
        group_name=GROUP,
        description=source.description,
        code_version=source_version(source),
        partitions_def=partitions(project) if source.timestamp else None,
        backfill_policy=dg.BackfillPolicy.single_run() if source.timestamp else None,
        check_specs=[dg.AssetCheckSpec(check, asset=dg.AssetKey(key), blocking=True)],
        kinds={"polars", "parquet"},
    )
    def raw(
        context: dg.AssetExecutionContext, config: ChunkedRange, lake: dg.ResourceParam[Lake]
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        start, end = range_of(context, project) if source.timestamp else (project.partitions_start,) * 2
        report = RangeReport(context, project, check, end)
        found: dict[str, str] = {}
        for chunk in ingest(lake, project, source, start, end, chunk_days=config.chunk_days or project.chunk_days):
            if chunk.verdict.problems:
                yield from refuse(key, check, chunk.verdict.problems, report.written)
            periods = by_stem(days_between(chunk.start, chunk.end), project.partition_by)
            found |= period_fingerprints(source, chunk.verdict.good, periods)
            report.add(chunk.start, chunk.end, {source.name: chunk.verdict}, chunk.days_written, source.timestamp)
        yield report.result(data_version(context, source, found))

    return raw
