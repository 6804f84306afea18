"""What the training pipeline adds to Dagster for one project. The stores come from the composition root."""

import dagster as dg

from fti.project import Project
from training_pipeline.dataset.asset import dataset_asset
from training_pipeline.fitting.tune import tune_asset
from training_pipeline.judging.evaluate import evaluation_asset
from training_pipeline.judging.parity import parity_check
from training_pipeline.judging.promote import champion_asset
from training_pipeline.launching.challenger import challenger_asset
from training_pipeline.launching.launch import Launcher, SubprocessLauncher

MONTHLY = "0 3 1 * *"
TAG = "fti/trains"
"""Runs with this tag take turns, see the concurrency limits of `dagster.yaml`."""


def definitions(project: Project, launcher: Launcher | None = None) -> dg.Definitions:
    """Assets `training_dataset`, `best_params`, `challenger`, `evaluation`, `champion`; the job `<project>_training`
    from the first to the last, and its schedule `<project>_monthly_retraining`."""
    assets = [
        dataset_asset(project),
        tune_asset(project),
        challenger_asset(project, launcher or SubprocessLauncher()),
        evaluation_asset(project),
        champion_asset(project),
    ]
    training = dg.define_asset_job(
        project.job("training"),
        selection=dg.AssetSelection.assets(*assets),
        description="Dataset, study, challenger, gates, champion.",
        tags={TAG: project.name},
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(
        assets=assets,
        asset_checks=[parity_check(project)],
        jobs=[training],
        schedules=[monthly_retraining(project)],
    )


def monthly_retraining(project: Project) -> dg.ScheduleDefinition:
    """Trains anew on the first of every month, with everything known by then."""

    @dg.schedule(
        name=project.job("monthly_retraining"),
        job_name=project.job("training"),
        cron_schedule=MONTHLY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        end = project.partitions_end
        if end is not None and context.scheduled_execution_time > end + project.dataset.test:
            return dg.SkipReason(f"The data of {project.name} ends on {end:%Y-%m-%d}: there is nothing new to learn.")
        until = context.scheduled_execution_time.replace(hour=0, minute=0).isoformat()
        config = project.run_config(training_dataset={"until": until})
        tags = {"fti/trigger": "schedule", "fti/reason": "monthly retraining"}
        return dg.RunRequest(run_key=until, run_config=config, tags=tags)

    return schedule
