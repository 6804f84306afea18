"""The asset `evaluation`: the challenger on the untouched test split, beside a baseline, the class prior and the
champion on the same rows; the project's gates are its checks, and a gate that fails stops the promotion."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from fti.gate import SliceFloor
from fti.project import Project
from fti.stores.dataset_store import DatasetStore, TrainingDataset
from fti.stores.model_bundle import ModelBundle
from fti.stores.model_registry import ModelRegistry, ModelVersion
from training_pipeline import baseline, plots
from training_pipeline.dataset import GROUP, TIME
from training_pipeline.gates import check_names, verdicts
from training_pipeline.measure import PROBABILITY, reference_predictions, scores, slice_scores
from training_pipeline.tables import inline, markdown

CURVES, SLICES = "curves.png", "slices.png"


@dataclass(frozen=True)
class Evaluation:
    """`report` is kept with the model as `evaluation.json`: `metrics` by model (`challenger`, `baseline`, `prior`,
    `champion`), `slices`, `gates`, `champion_version`, `reference_predictions`. `pictures` are PNG files by name."""

    report: dict[str, Any]
    slices: pl.DataFrame
    pictures: Mapping[str, bytes]


def evaluate(
    project: Project,
    dataset: TrainingDataset,
    challenger: ModelBundle,
    *,
    baseline_probabilities: np.ndarray,
    champion: ModelVersion | None = None,
    champion_bundle: ModelBundle | None = None,
) -> Evaluation:
    """Measure every model on the test split and ask the gates."""
    test, label = dataset.splits["test"], dataset.manifest["label"]
    labels = test[label].to_numpy().astype(np.int64)
    prior = float(dataset.splits["train"][label].to_numpy().mean())
    predicted = {"challenger": challenger.predict(test), "baseline": baseline_probabilities}
    predicted["prior"] = np.full(test.height, prior)
    note = missing_features(champion_bundle, test)
    if champion_bundle is not None and not note:
        predicted["champion"] = champion_bundle.predict(test)
    rows = test.with_columns(pl.Series(PROBABILITY, predicted["challenger"]))
    train = dataset.splits["train"].select(TIME, pl.Series(PROBABILITY, challenger.predict(dataset.splits["train"])))
    table = slice_scores(rows, slice_columns(project), label)
    report = {
        "run_id": challenger.info["run_id"],
        "dataset_version": dataset.version,
        "feature_service": dataset.manifest["feature_service"],
        "versions": dataset.manifest.get("versions", {}),
        "metrics": {name: scores(labels, probabilities) for name, probabilities in predicted.items()},
        "slices": table.to_dicts(),
        "champion_version": champion.version if champion else None,
        "champion_note": note,
        "reference_predictions": reference_predictions(train, rows, label, TIME),
    }
    report["gates"] = [asdict(verdict) for verdict in verdicts(project.gates, report)]
    shown = {name: probabilities for name, probabilities in predicted.items() if name != "prior"}
    return Evaluation(report, table, {CURVES: plots.curves(labels, shown), SLICES: plots.slices(table)})


def missing_features(bundle: ModelBundle | None, rows: pl.DataFrame) -> str:
    """Why `bundle` cannot be asked about `rows`; empty when it can."""
    if bundle is None:
        return ""
    lacking = [name for name in (*bundle.encoder.numeric, *bundle.encoder.categorical) if name not in rows.columns]
    return f"it reads features that this dataset has not: {', '.join(lacking)}" if lacking else ""


def slice_columns(project: Project) -> list[str]:
    """Columns that the project slices by, those of its gates included."""
    gated = [gate.column for gate in project.gates if isinstance(gate, SliceFloor)]
    return list(dict.fromkeys([*project.slices, *gated]))


def log(registry: ModelRegistry, run_id: str, evaluation: Evaluation) -> None:
    """Keep the evaluation with the run and the model: figures as metrics, tables and pictures as artifacts."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(f"test_{name}" if model == "challenger" else f"{model}_{name}", value, now, 0)
        for model, measured in evaluation.report["metrics"].items()
        for name, value in measured.items()
    ]
    registry.client.log_batch(run_id, metrics=metrics)
    registry.log_evaluation(run_id, evaluation.report, evaluation.pictures)


def evaluation_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `evaluation` with one blocking check per gate."""
    key = dg.AssetKey(project.key("evaluation"))

    @dg.asset(
        key=key,
        group_name=GROUP,
        description="The challenger's metrics on the unseen test split, against baseline, class prior and champion.",
        deps=[project.key("challenger")],
        check_specs=[dg.AssetCheckSpec(name, asset=key, blocking=True) for name in check_names(project.gates)],
        kinds={"mlflow", "scikitlearn"},
        owners=[f"team:{project.owner}"],
    )
    def evaluation(
        dataset_store: dg.ResourceParam[DatasetStore], model_registry: dg.ResourceParam[ModelRegistry]
    ) -> dg.MaterializeResult:
        run_id = model_registry.challenger_run(project.name)
        challenger = model_registry.run_bundle(run_id)
        dataset = dataset_store.load(challenger.info["dataset_version"])
        champion = model_registry.champion(project.name)
        measured = evaluate(
            project,
            dataset,
            challenger,
            baseline_probabilities=baseline.probabilities(
                dataset, model_registry.folder("baselines"), project.model.seed
            ),
            champion=champion,
            champion_bundle=model_registry.bundle(champion) if champion else None,
        )
        log(model_registry, run_id, measured)
        return dg.MaterializeResult(metadata=metadata(run_id, measured), check_results=check_results(key, measured))

    return evaluation


def check_results(key: dg.AssetKey, evaluation: Evaluation) -> list[dg.AssetCheckResult]:
    """The gates' answers as Dagster's."""
    return [
        dg.AssetCheckResult(
            asset_key=key,
            check_name=gate["check"],
            passed=gate["passed"],
            severity=dg.AssetCheckSeverity.ERROR,
            description=gate["description"],
        )
        for gate in evaluation.report["gates"]
    ]


def metadata(run_id: str, evaluation: Evaluation) -> dict[str, Any]:
    """What Dagster shows of an evaluation."""
    rows = [{"model": name, **measured} for name, measured in evaluation.report["metrics"].items()]
    return {
        "run_id": run_id,
        "roc_auc": evaluation.report["metrics"]["challenger"]["roc_auc"],
        "log_loss": evaluation.report["metrics"]["challenger"]["log_loss"],
        "metrics": dg.MetadataValue.md(markdown(pl.DataFrame(rows))),
        "slices": dg.MetadataValue.md(markdown(evaluation.slices)),
        "curves": dg.MetadataValue.md(inline(evaluation.pictures[CURVES], "ROC, precision and recall, calibration")),
        "slice_plot": dg.MetadataValue.md(inline(evaluation.pictures[SLICES], "ROC AUC by slice")),
    }
