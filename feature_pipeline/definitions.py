"""The feature pipeline of one project: its assets, the job that runs them, and the daily schedule."""

import dagster as dg

from feature_pipeline.ingest import raw_asset
from feature_pipeline.materialize import online_features_asset
from feature_pipeline.stream import compact
from feature_pipeline.transform import features_asset
from fti.project import Project

DAILY_HOUR_UTC = 1


def definitions(project: Project) -> dg.Definitions:
    """Assets with their checks, the job `<project>_features` and its schedule `<project>_daily_features`.

    The job takes a day or a range of days, and runs in one process: its steps are short.
    """
    assets = [
        *(raw_asset(project, source) for source in project.sources),
        features_asset(project),
        online_features_asset(project),
    ]
    job = dg.define_asset_job(
        f"{project.name}_features",
        selection=dg.AssetSelection.assets(*assets),
        executor_def=dg.in_process_executor,
        description="Sources to online features.",
    )
    schedule = dg.build_schedule_from_partitioned_job(
        job,
        name=f"{project.name}_daily_features",
        hour_of_day=DAILY_HOUR_UTC,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Yesterday's data, from the sources to the online store.",
    )
    batch = dg.Definitions(assets=assets, jobs=[job], schedules=[schedule])
    return dg.Definitions.merge(batch, compact.definitions(project)) if project.streamed else batch
