"""The asset `champion`: the challenger that passed its gates is registered and takes the champion's place."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from fti.errors import GateError
from fti.model.records import Evaluation
from fti.project import Project
from fti.stores.datasets.store import DatasetStore
from fti.stores.features.store import FeatureStore
from fti.stores.registry.registry import ModelRegistry, ModelVersion
from fti.versions.views import model_tags, served_model
from training_pipeline.chain import evaluated_of
from training_pipeline.dataset.asset import GROUP
from training_pipeline.judging.parity import require_parity

TRIGGER, REASON = "fti/trigger", "fti/reason"


def promote_challenger(
    registry: ModelRegistry, name: str, run_id: str, *, reason: str, require_parity: Callable[[], None]
) -> tuple[ModelVersion, bool]:
    """Register the model of `run_id` and make it champion, once; whether this call did it is the second value.

    `require_parity` raises GateError when the challenger's features are not online as they are offline. The champion
    must still be the one that the evaluation compared with: ConflictError otherwise.
    """
    evaluation = registry.evaluation(run_id)
    require_passed(name, evaluation)
    champion = registry.champion(name)
    if champion is not None and champion.run_id == run_id:
        return champion, False
    require_parity()
    version = registry.register(run_id, name, version_tags(evaluation), evaluation.summary)
    registry.promote(name, version.version, expected=evaluation.champion_version, reason=reason)
    return version, True


def require_passed(name: str, evaluation: Evaluation) -> None:
    """Raise GateError when a gate failed: the asset can be materialized alone, past the blocking checks."""
    failed = [gate.description for gate in evaluation.gates if not gate.passed]
    if failed:
        raise GateError(f"{name}: the challenger failed its gates, the champion stays. {' '.join(failed)}")


def version_tags(evaluation: Evaluation) -> dict[str, str]:
    """What the registry shows of a version."""
    own = evaluation.metrics["challenger"].items()
    measured = {f"test_{name}": f"{value:.6f}" for name, value in own if value is not None}
    reads = model_tags(evaluation.feature_service, evaluation.versions)
    return {"dataset_version": evaluation.dataset_version, "gates": "passed", **reads, **measured}


def links(registry: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    """What Dagster shows of a version's origin: the MLflow run, the dataset and the versions of what it reads."""
    reads = served_model(version.name, version.version, "", version.tags)
    found = {
        "run_id": version.run_id,
        "dataset_version": version.tags.get("dataset_version", ""),
        "feature_service": reads.service,
        "versions": dg.MetadataValue.json({**reads.views, reads.service: reads.service_version}),
        "lineage": f"fti lineage {version.name}/{version.version}",
    }
    if registry.tracking_uri.startswith("http"):
        experiment = registry.experiment(version.name)
        url = f"{registry.tracking_uri.rstrip('/')}/#/experiments/{experiment}/runs/{version.run_id}"
        found["mlflow_run"] = dg.MetadataValue.url(url)
    return found


def champion_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `champion`."""

    @dg.asset(
        key=project.key("champion"),
        group_name=GROUP,
        description="The model version that serves; the one before it keeps the alias `previous`.",
        deps=[project.key("evaluation")],
        kinds={"mlflow"},
        owners=[f"team:{project.owner}"],
    )
    def champion(
        context: dg.AssetExecutionContext,
        dataset_store: dg.ResourceParam[DatasetStore],
        feature_store: dg.ResourceParam[FeatureStore],
        model_registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.MaterializeResult:
        tags = context.run.tags
        reason = tags.get(REASON) or tags.get(TRIGGER) or "materialized by hand"
        run_id = evaluated_of(context, project, model_registry)
        parity = partial(require_parity, project, run_id, dataset_store, feature_store, model_registry)
        version, promoted = promote_challenger(
            model_registry, project.name, run_id, reason=reason, require_parity=parity
        )
        return dg.MaterializeResult(
            metadata={
                "version": version.version,
                "promoted": promoted,
                "reason": reason,
                **links(model_registry, version),
            },
            data_version=dg.DataVersion(str(version.version)),
        )

    return champion
