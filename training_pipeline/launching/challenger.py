"""The asset `challenger`: the model trained with the best parameters, logged in MLflow and not yet registered."""

import dagster as dg

from fti.project import Project
from fti.stores.datasets.store import DatasetStore
from fti.stores.registry.registry import ModelRegistry
from training_pipeline.chain import DATASET, STUDY, study_of
from training_pipeline.dataset.asset import GROUP
from training_pipeline.fitting.tune import best_params
from training_pipeline.launching.job import training_job
from training_pipeline.launching.launch import Launcher


class ChallengerConfig(dg.Config):
    """The training of this run."""

    max_epochs: int | None = None
    """The project's number when not given."""


def challenger_asset(project: Project, launcher: Launcher) -> dg.AssetsDefinition:
    """The asset `challenger`; `launcher` decides where the training process runs."""

    @dg.asset(
        key=project.key("challenger"),
        group_name=GROUP,
        description="The network trained on the dataset with the best parameters of its study.",
        deps=[project.key("training_dataset"), project.key("best_params")],
        kinds={"pytorch", "mlflow"},
        owners=[f"team:{project.owner}"],
        pool="training",
    )
    def challenger(
        context: dg.AssetExecutionContext,
        config: ChallengerConfig,
        dataset_store: dg.ResourceParam[DatasetStore],
        model_registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.MaterializeResult:
        version, study = study_of(context, project, dataset_store)
        study, params = best_params(project, version, model_registry, study)
        job = training_job(
            project,
            dataset_store,
            model_registry,
            dataset_version=version,
            params=params,
            max_epochs=config.max_epochs,
            tags={"dagster.run_id": context.run.run_id, "fti.study": study},
        )
        done = launcher.launch(context, job)
        return dg.MaterializeResult(
            metadata={**(done.metadata or {}), DATASET: version, STUDY: study}, data_version=done.data_version
        )

    return challenger
