"""The asset `features`: raw rows to the rows of every feature view, validated against Feast's schema, then written."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import dagster as dg
import polars as pl

from feature_pipeline.batch.chunks import Files, Journal, chunks
from feature_pipeline.batch.expectations import view_suite
from feature_pipeline.batch.ingest import ChunkedRange, partitions, range_of, table
from feature_pipeline.batch.pending import mark
from feature_pipeline.batch.quarantine import quarantine_table, set_aside
from feature_pipeline.batch.report import GROUP, RangeReport, refuse
from feature_pipeline.batch.validate import Rules, Verdict, judge
from fti.errors import FtiError
from fti.project import Project
from fti.storage.periods import DAY, days_between
from fti.stores.features.store import FeatureStore, ViewSchema
from fti.stores.lake.store import Lake
from fti.times import TIME, UTC_TIME
from fti.versions.source_hash import digest
from fti.versions.views import code_version

CHECK = "features_are_valid"


class FeatureRange(ChunkedRange):
    """`again` also makes the days that are done: their inputs, code and files are as recorded."""

    again: bool = False


def raw_tables(project: Project, lake: Lake, start: datetime, end: datetime) -> dict[str, pl.DataFrame]:
    """What the views may read for `[start, end)`: raw rows of `[start - lookback, end)`, reference tables whole."""
    since = start - project.features.lookback
    tables = {}
    for name in project.features.sources:
        source = project.source(name)
        if source.timestamp:
            lake.require(table(project, source), max(since, project.partitions_start), end)
        rows = lake.load(table(project, source), start=since, end=end)
        if source.timestamp:
            rows = rows.filter(pl.col(source.timestamp).is_between(since, end, closed="left"))
        tables[name] = rows
    return tables


def make_features(
    project: Project, tables: Mapping[str, pl.DataFrame], start: datetime, end: datetime
) -> dict[str, pl.DataFrame]:
    """Feature view -> its rows that became known in `[start, end)`."""
    return project.features.rows(tables, start, end)


def judge_views(
    project: Project,
    views: Mapping[str, pl.DataFrame],
    schemas: Mapping[str, ViewSchema],
    start: datetime,
    end: datetime,
) -> tuple[dict[str, Verdict], list[str]]:
    """The verdict on every view's rows, and what keeps them from being the feature views of `schemas`."""
    missing = [f"feature view {view!r} is in the feature service but was not made" for view in schemas.keys() - views]
    extra = [f"feature view {view!r} was made but is not in the feature service" for view in views.keys() - schemas]
    verdicts = {
        view: judge(rows, view_rules(project, view, schemas[view], start, end))
        for view, rows in views.items()
        if view in schemas
    }
    broken = [f"feature view {view!r}: {problem}" for view, verdict in verdicts.items() for problem in verdict.problems]
    return verdicts, [*sorted(missing), *sorted(extra), *broken]


def view_rules(project: Project, view: str, schema: ViewSchema, start: datetime, end: datetime) -> Rules:
    """What rows of a feature view must be."""
    return Rules(
        suite=view_suite(project.name, view),
        schema={**schema.keys, TIME: UTC_TIME, **schema.features},
        key=(*schema.keys, TIME),
        expectations=project.features.expectations.get(view, ()),
        time=TIME,
        span=(start, end),
        max_share=project.features.max_quarantined_share,
    )


def write_features(
    lake: Lake, project: Project, verdicts: Mapping[str, Verdict], start: datetime, end: datetime
) -> tuple[date, ...]:
    """Replace the days of every view that differ, and its quarantine; returns the days with a view that differed."""
    days, by = set[date](), project.partition_by
    for view, verdict in verdicts.items():
        quarantine = quarantine_table(project.name, f"features.{view}")
        set_aside(lake, quarantine, verdict.bad, time=TIME, start=start, end=end, by=by)
        made = f"{project.name}/features/{view}"
        days |= set(lake.write(made, verdict.good, time=TIME, start=start, end=end, by=by))
    return tuple(sorted(days))


@dataclass(frozen=True, kw_only=True)
class FeatureChunk:
    """What became of the feature days `[start, end)`. A chunk that was done already has no verdicts."""

    start: datetime
    end: datetime
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    days_written: tuple[date, ...] = ()
    done: bool = False


def make_range(
    journal: Journal,
    schemas: Mapping[str, ViewSchema],
    start: datetime,
    end: datetime,
    *,
    chunk_days: int,
    again: bool = False,
) -> Iterator[FeatureChunk]:
    """Make, check and write chunk by chunk. A chunk with problems is not written and is the last one.

    Chunks that are done (see `chunks.Journal`) are left alone, unless `again`.
    """
    for first, last in chunks(start, end, chunk_days, journal.project.partition_by):
        days = list(days_between(first, last))
        if not again and not journal.stale(days):
            yield FeatureChunk(start=first, end=last, done=True)
            continue
        chunk = _make_chunk(journal, schemas, first, last)
        yield chunk
        if chunk.problems:
            return


def _make_chunk(journal: Journal, schemas: Mapping[str, ViewSchema], start: datetime, end: datetime) -> FeatureChunk:
    lake, project = journal.lake, journal.project
    days = list(days_between(start, end))
    inputs = journal.inputs(days[0], days[-1])
    try:
        tables = raw_tables(project, lake, start, end)
    except FtiError as error:
        return FeatureChunk(start=start, end=end, problems=tuple(map(str, error.args)))
    views = make_features(project, tables, start, end)
    verdicts, problems = judge_views(project, views, schemas, start, end)
    if problems:
        return FeatureChunk(start=start, end=end, verdicts=verdicts, problems=tuple(problems))
    mark(lake, project, days)
    written = write_features(lake, project, verdicts, start, end)
    journal.write(days, inputs)
    return FeatureChunk(start=start, end=end, verdicts=verdicts, days_written=written)


def features_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `features`, by UTC day of the moment at which a row became known."""
    key = project.key("features")

    @dg.asset(
        key=key,
        group_name=GROUP,
        description=f"Feature views of {project.features.service}, in the lake.",
        deps=project.raw_keys(project.features.sources),
        code_version=code_version(project),
        partitions_def=partitions(project),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec(CHECK, asset=dg.AssetKey(key), blocking=True)],
        kinds={"polars", "feast"},
    )
    def features(
        context: dg.AssetExecutionContext,
        config: FeatureRange,
        lake: dg.ResourceParam[Lake],
        feature_store: dg.ResourceParam[FeatureStore],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        start, end = range_of(context, project)
        feature_store.apply(project)
        journal = Journal(lake, project)
        inputs = journal.inputs(start.date(), (end - DAY).date())
        services = feature_store.services(project)
        schemas = {view: found for name in services for view, found in feature_store.schemas(name).items()}
        days = config.chunk_days or project.chunk_days
        report = RangeReport(context, project, CHECK, end)
        for chunk in make_range(journal, schemas, start, end, chunk_days=days, again=config.again):
            if chunk.problems:
                yield from refuse(key, CHECK, chunk.problems, report.written)
            if chunk.done:
                report.skip(chunk.start, chunk.end, load_views(lake, project, schemas, chunk.start, chunk.end), TIME)
            else:
                report.add(chunk.start, chunk.end, chunk.verdicts, chunk.days_written, TIME)
        versions = {name: found for service in services for name, found in feature_store.versions(service).items()}
        yield report.result(data_version(inputs, versions), versions=dg.MetadataValue.json(versions))

    return features


def data_version(inputs: Mapping[str, Files], versions: Mapping[str, str]) -> str:
    """Hash of the raw files that were read and of the versions of the views that were made of them."""
    read = [f"{name} {day} {found}" for name, files in sorted(inputs.items()) for day, found in sorted(files.items())]
    return digest(*read, *(f"{name}={version}" for name, version in sorted(versions.items())))


def load_views(
    lake: Lake, project: Project, views: Iterable[str], start: datetime, end: datetime
) -> dict[str, pl.DataFrame]:
    """Rows of the feature views as they lie in the lake."""
    return {view: lake.load(f"{project.name}/features/{view}", start=start, end=end) for view in views}
