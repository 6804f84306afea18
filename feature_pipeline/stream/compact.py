"""The asset `compacted_events`: segments of streamed rows, folded into the lake's day files."""

from collections.abc import Mapping
from datetime import date

import dagster as dg

from feature_pipeline.batch.report import GROUP
from fti.project import Project
from fti.stores.lake.store import Fold, Lake

CHECK = "no_row_is_lost"
HOURLY = "7 * * * *"

Folds = Mapping[str, Mapping[date, Fold]]
"""Folded days by table."""


def tables(project: Project, lake: Lake) -> list[str]:
    """The tables that the consumer of `project` writes."""
    raw = [f"{project.name}/raw/{name}" for name in project.streamed]
    return [*raw, *lake.tables(f"{project.name}/features")]


def compacted_events_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `compacted_events`; it may run while the consumer writes."""
    key = project.key("compacted_events")

    @dg.asset(
        key=key,
        group_name=GROUP,
        description=f"Rows that came as events ({', '.join(project.streamed)}) and their features, one file a day.",
        deps=[*project.raw_keys(list(project.streamed)), dg.AssetKey(project.key("features"))],
        check_specs=[dg.AssetCheckSpec(CHECK, asset=dg.AssetKey(key))],
        kinds={"polars", "parquet"},
    )
    def compacted_events(lake: dg.ResourceParam[Lake]) -> dg.MaterializeResult:
        folds = {table: lake.compact(table) for table in tables(project, lake)}
        days = [fold for table in folds.values() for fold in table.values()]
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": sum(fold.num_rows for fold in days),
                "segments": sum(fold.num_segments for fold in days),
                "days": len(days),
            },
            check_results=[completeness(folds)],
        )

    return compacted_events


def completeness(folds: Folds) -> dg.AssetCheckResult:
    """Whether each folded day has a row for every key that its files had."""
    lost = [
        f"{table} {day}: {fold.num_keys} keys became {fold.num_rows} rows"
        for table, days in folds.items()
        for day, fold in days.items()
        if fold.num_keys != fold.num_rows
    ]
    description = f"{lost[0]}. Materialize that day again from its source." if lost else None
    return dg.AssetCheckResult(passed=not lost, check_name=CHECK, description=description)


def definitions(project: Project) -> dg.Definitions:
    """The asset, its job `<project>_compaction` and the hourly schedule of the same name; an hour without events is
    skipped."""
    asset = compacted_events_asset(project)
    job = dg.define_asset_job(
        project.job("compaction"),
        selection=dg.AssetSelection.assets(asset),
        executor_def=dg.in_process_executor,
        description="Streamed rows into day files.",
    )

    @dg.schedule(
        name=project.job("hourly_compaction"),
        job=job,
        cron_schedule=HOURLY,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Folds what the consumer has written.",
    )
    def hourly(lake: dg.ResourceParam[Lake]) -> dg.RunRequest | dg.SkipReason:
        if any(lake.version(table).segments for table in tables(project, lake)):
            return dg.RunRequest()
        return dg.SkipReason("no segments: no events came since the last compaction")

    return dg.Definitions(assets=[asset], jobs=[job], schedules=[hourly])
