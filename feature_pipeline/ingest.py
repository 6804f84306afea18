"""Raw assets: rows of a source, read, validated in memory and only then written to the lake."""

import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime

import dagster as dg
import polars as pl

from feature_pipeline.report import GROUP, frame_metadata, passed, refuse
from feature_pipeline.validate import violations
from fti.errors import DataError
from fti.fingerprint import daily_fingerprints
from fti.project import Project, Source
from fti.source_hash import digest
from fti.stores.lake import Lake
from fti.versions import source_version

READ_ERRORS = (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error, pl.exceptions.PolarsError)
"""What an unreadable file, a cut archive or a changed layout raises."""


def daily(project: Project) -> dg.DailyPartitionsDefinition:
    """UTC days from the project's first one."""
    return dg.DailyPartitionsDefinition(
        start_date=project.partitions_start, end_date=project.partitions_end, timezone="UTC"
    )


def table(project: Project, source: Source) -> str:
    """Name of the source's table in the lake."""
    return f"{project.name}/raw/{source.name}"


def read_source(source: Source, start: datetime, end: datetime) -> pl.DataFrame:
    """The source's rows of `[start, end)`; whatever keeps it from being read becomes a `DataError` that names it."""
    try:
        return source.read(start, end)
    except READ_ERRORS as error:
        raise DataError(f"source {source.name!r} cannot be read: {type(error).__name__}: {error}") from error


def problems(source: Source, rows: pl.DataFrame, start: datetime, end: datetime) -> list[str]:
    """What keeps `rows` from being rows of `source` for `[start, end)`."""
    broken = violations(rows, schema=source.schema, key=source.key, expectations=source.expectations)
    if broken or source.timestamp is None:
        return [str(violation) for violation in broken]
    outside = rows.filter(~pl.col(source.timestamp).is_between(start, end, closed="left")).height
    return [f"column {source.timestamp!r} lies outside {start} .. {end} in {outside} rows"] if outside else []


def read_valid(source: Source, start: datetime, end: datetime) -> tuple[pl.DataFrame, list[str]]:
    """Rows in the columns of the source's schema, and no problem; or the problems, and no rows."""
    try:
        rows = read_source(source, start, end)
    except DataError as error:
        return pl.DataFrame(schema=dict(source.schema)), [str(error)]
    found = problems(source, rows, start, end)
    return (rows.clear(), found) if found else (rows.select(source.schema.keys()), [])


def write_source(
    lake: Lake, project: Project, source: Source, rows: pl.DataFrame, start: datetime, end: datetime
) -> None:
    """Replace the source's days, or its whole table when it has no days."""
    if source.timestamp:
        lake.write(table(project, source), rows, time=source.timestamp, start=start, end=end)
    else:
        lake.write_static(table(project, source), rows)


def data_version(context: dg.AssetExecutionContext, source: Source, rows: pl.DataFrame) -> dg.DataVersion:
    """Hash of the rows; those of each day of a range go to its partition's metadata."""
    days = daily_fingerprints(source, rows, context.partition_keys if source.timestamp else [])
    for day, found in days.items() if source.timestamp else []:
        context.add_asset_metadata({"fingerprint": found}, partition_key=day)
    return dg.DataVersion(next(iter(days.values())) if len(days) == 1 else digest(*days.values()))


def raw_asset(project: Project, source: Source) -> dg.AssetsDefinition:
    """The asset `raw_<source>`: by UTC day when the source has a timestamp, else one table."""
    key, check = project.key(f"raw_{source.name}"), f"raw_{source.name}_is_valid"

    @dg.asset(
        key=key,
        group_name=GROUP,
        description=source.description,
        code_version=source_version(source),
        partitions_def=daily(project) if source.timestamp else None,
        backfill_policy=dg.BackfillPolicy.single_run() if source.timestamp else None,
        check_specs=[dg.AssetCheckSpec(check, asset=dg.AssetKey(key), blocking=True)],
        kinds={"polars", "parquet"},
    )
    def raw(
        context: dg.AssetExecutionContext, lake: dg.ResourceParam[Lake]
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        start, end = context.partition_time_window if source.timestamp else (project.partitions_start,) * 2
        rows, found = read_valid(source, start, end)
        if found:
            yield from refuse(key, check, found)
        write_source(lake, project, source, rows, start, end)
        yield dg.MaterializeResult(
            metadata=frame_metadata(rows, source.timestamp),
            check_results=[passed(check, num_rows=rows.height)],
            data_version=data_version(context, source, rows),
        )

    return raw
