"""The asset `features`: raw rows to the rows of every feature view, validated against Feast's schema, then written."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from feature_pipeline.ingest import daily, table
from feature_pipeline.report import GROUP, passed, preview, refuse
from feature_pipeline.validate import violations
from fti.errors import FtiError
from fti.fingerprint import fingerprint
from fti.project import Project
from fti.source_hash import digest
from fti.stores.feature_store import FeatureStore, ViewSchema
from fti.stores.lake import Lake
from fti.versions import code_version

TIME = "event_timestamp"
UTC_TIME = pl.Datetime("us", "UTC")
CHECK = "features_are_valid"


def raw_tables(project: Project, lake: Lake, start: datetime, end: datetime) -> dict[str, pl.DataFrame]:
    """What the transform may read for `[start, end)`: raw rows of `[start - lookback, end)`, reference tables whole."""
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
    return project.features.transform(tables, start, end)


def problems(
    project: Project,
    views: Mapping[str, pl.DataFrame],
    schemas: Mapping[str, ViewSchema],
    start: datetime,
    end: datetime,
) -> list[str]:
    """What keeps the rows of `views` from being the feature views of `schemas`."""
    found = [
        f"feature view {view!r} is in the feature service but was not made" for view in schemas if view not in views
    ]
    for view, rows in views.items():
        if view not in schemas:
            found.append(f"feature view {view!r} was made but is not in the feature service")
            continue
        columns = {**schemas[view].keys, TIME: UTC_TIME, **schemas[view].features}
        broken = violations(
            rows,
            schema=columns,
            key=(*schemas[view].keys, TIME),
            expectations=project.features.expectations.get(view, ()),
        )
        found += [f"feature view {view!r}: {violation}" for violation in broken]
        if not broken and (late := rows.filter(~pl.col(TIME).is_between(start, end, closed="left")).height):
            found.append(f"feature view {view!r}: column {TIME!r} lies outside {start} .. {end} in {late} rows")
    return found


def write_features(
    lake: Lake, project: Project, views: Mapping[str, pl.DataFrame], start: datetime, end: datetime
) -> dict[str, int]:
    """Replace the days of every view; returns rows by view."""
    for view, rows in views.items():
        lake.write(f"{project.name}/features/{view}", rows, time=TIME, start=start, end=end)
    return {view: rows.height for view, rows in views.items()}


def features_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `features`, by UTC day of the moment at which a row became known."""
    key = project.key("features")

    @dg.asset(
        key=key,
        group_name=GROUP,
        description=f"Feature views of {project.features.service}, in the lake.",
        deps=project.raw_keys(project.features.sources),
        code_version=code_version(project),
        partitions_def=daily(project),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec(CHECK, asset=dg.AssetKey(key), blocking=True)],
        kinds={"polars", "feast"},
    )
    def features(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        feature_store: dg.ResourceParam[FeatureStore],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        start, end = context.partition_time_window
        feature_store.apply(project)
        try:
            tables = raw_tables(project, lake, start, end)
        except FtiError as error:
            yield from refuse(key, CHECK, error.args)
            return
        views = make_features(project, tables, start, end)
        found = problems(project, views, feature_store.schemas(project.features.service), start, end)
        if found:
            yield from refuse(key, CHECK, found)
        rows = write_features(lake, project, views, start, end)
        versions = feature_store.versions(project.features.service)
        yield dg.MaterializeResult(
            metadata=feature_metadata(views) | {"versions": dg.MetadataValue.json(versions)},
            check_results=[passed(CHECK, **rows)],
            data_version=data_version(project, tables, versions),
        )

    return features


def data_version(project: Project, tables: Mapping[str, pl.DataFrame], versions: Mapping[str, str]) -> dg.DataVersion:
    """Hash of the raw rows that were read and of the versions of the views that were made of them."""
    read = [fingerprint(rows, project.source(name).key) for name, rows in sorted(tables.items())]
    return dg.DataVersion(digest(*read, *(f"{name}={version}" for name, version in sorted(versions.items()))))


def feature_metadata(views: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """Rows in all and by view, the number of features, and the first rows of each view."""
    counts = pl.DataFrame({"view": list(views), "rows": [rows.height for rows in views.values()]})
    shown = "\n\n".join(f"**{view}**\n\n{preview(rows, 3)}" for view, rows in views.items())
    return {
        "dagster/row_count": int(counts["rows"].sum()),
        "rows": dg.MetadataValue.md(preview(counts, counts.height)),
        "preview": dg.MetadataValue.md(shown),
    }
