"""The feature pipeline of one project: assets, the job that runs them, its schedule and sensor."""

import dagster as dg

from feature_pipeline.expectations import check_expectations
from feature_pipeline.ingest import raw_asset
from feature_pipeline.late import late_data_sensor
from feature_pipeline.materialize import online_features_asset
from feature_pipeline.stream import compact
from feature_pipeline.transform import features_asset
from fti.project import Project

DAILY_HOUR_UTC = 1


def definitions(project: Project) -> dg.Definitions:
    """Assets with their checks, the job `<project>_features`, its schedule `<project>_daily_features` and its
    sensor `<project>_late_data`.

    The job takes a day or a range of days, and runs in one process: its steps are short.
    """
    check_expectations(project)
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
    sensors = [late_data_sensor(project, job)]
    batch = dg.Definitions(assets=assets, jobs=[job], schedules=[schedule], sensors=sensors)
    return dg.Definitions.merge(batch, compact.definitions(project)) if project.streamed else batch
