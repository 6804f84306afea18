"""What the inference pipeline adds to Dagster for one project. The stores come from the composition root."""

import dagster as dg

from fti.project import Project
from inference_pipeline.batch import GROUP, labels_asset, predictions_asset
from inference_pipeline.monitoring.drift import drift_asset
from inference_pipeline.monitoring.retrain import retrain_sensor

HOURLY = "7 * * * *"


def definitions(project: Project) -> dg.Definitions:
    """Assets `prediction_log` (written by the service), `predictions`, `labels`, `drift_report`; job and schedule
    `<project>_monitoring`; sensor `<project>_retrain_on_drift`."""
    monitoring = dg.define_asset_job(
        project.job("monitoring"),
        selection=dg.AssetSelection.assets(project.key("labels"), project.key("drift_report")),
        description="Joins labels that became known and compares the window of traffic with the training data.",
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(
        assets=[prediction_log(project), predictions_asset(project), labels_asset(project), drift_asset(project)],
        jobs=[monitoring],
        schedules=[
            dg.ScheduleDefinition(job=monitoring, cron_schedule=HOURLY, default_status=dg.DefaultScheduleStatus.RUNNING)
        ],
        sensors=[retrain_sensor(project)],
    )


def prediction_log(project: Project) -> dg.AssetSpec:
    """External asset `prediction_log`: Dagster knows it, the prediction service writes it."""
    return dg.AssetSpec(
        project.key("prediction_log"),
        group_name=GROUP,
        deps=[project.key("champion"), project.key("online_features")],
        owners=[f"team:{project.owner}"],
        kinds={"bentoml"},
        description="Requests and predictions, logged by the prediction service before it answers.",
    )
