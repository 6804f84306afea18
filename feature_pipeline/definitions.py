"""The feature pipeline of one project: assets, the job that runs them, its schedule and sensor."""

from datetime import timedelta
from typing import Any

import dagster as dg

from feature_pipeline.batch.expectations import check_expectations
from feature_pipeline.batch.ingest import raw_asset
from feature_pipeline.batch.late import late_data_sensor
from feature_pipeline.batch.materialize import online_features_asset
from feature_pipeline.batch.transform import features_asset
from feature_pipeline.stream import compact
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
        project.job("features"),
        selection=dg.AssetSelection.assets(*assets),
        executor_def=dg.in_process_executor,
        description="Sources to online features.",
    )
    schedule = daily_features(project, job)
    sensors = [late_data_sensor(project, job)]
    batch = dg.Definitions(assets=assets, jobs=[job], schedules=[schedule], sensors=sensors)
    return dg.Definitions.merge(batch, compact.definitions(project)) if project.streamed else batch


def daily_features(project: Project, job: Any) -> dg.ScheduleDefinition:
    """Fills the partition of yesterday, every night."""

    @dg.schedule(
        name=project.job("daily_features"),
        job=job,
        cron_schedule=f"0 {DAILY_HOUR_UTC} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Yesterday's data, from the sources to the online store.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        midnight = context.scheduled_execution_time.replace(hour=0, minute=0, second=0, microsecond=0)
        if project.partitions_end is not None and midnight > project.partitions_end:
            return dg.SkipReason(f"The data of {project.name} ends on {project.partitions_end:%Y-%m-%d}.")
        key = project.partition(midnight - timedelta(days=1))
        return dg.RunRequest(run_key=f"{midnight:%Y-%m-%d}", partition_key=key)

    return schedule
