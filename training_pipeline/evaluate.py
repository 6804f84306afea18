"""The asset `evaluation`: the challenger on the untouched test split, beside a baseline, the prior and the champion on
the same rows; the project's gates are its checks, and a gate that fails stops the promotion."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from fti import drift, prediction
from fti.errors import DataError
from fti.gate import METRICS, SliceFloor
from fti.project import Project
from fti.stores.dataset_store import DatasetStore, TrainingDataset
from fti.stores.model_bundle import ModelBundle
from fti.stores.model_registry import ModelRegistry, ModelVersion
from fti.times import TIME
from training_pipeline import baseline, plots
from training_pipeline.card import model_card, summary
from training_pipeline.chain import DATASET, RUN, challenger_of
from training_pipeline.dataset import GROUP
from training_pipeline.gates import check_names, verdicts
from training_pipeline.measure import prior, reference_predictions, scores, slice_scores
from training_pipeline.tables import inline, markdown

CURVES, SLICES = "curves.png", "slices.png"
FIRST_METRIC = {task: next(iter(metrics)) for task, metrics in METRICS.items()}
REFERENCE_ROWS, REFERENCE_CLASS_ROWS = 400_000, 100_000
"""Training rows whose predictions monitoring compares with, at most; every second, third... row of more. Of several
classes the second number divided by theirs: a prediction costs as many trees more."""


@dataclass(frozen=True)
class Evaluation:
    """`report` is kept with the model as `evaluation.json`: `metrics` by model (`challenger`, `baseline`, `prior`,
    `champion`), `slices`, `gates`, `champion_version`, `reference_predictions`, `summary`. `pictures` are PNG files by
    name, `card` is Markdown."""

    report: dict[str, Any]
    slices: pl.DataFrame
    pictures: Mapping[str, bytes]
    card: str


def evaluate(
    project: Project,
    dataset: TrainingDataset,
    challenger: ModelBundle,
    *,
    baseline_predictions: np.ndarray,
    champion: ModelVersion | None = None,
    champion_bundle: ModelBundle | None = None,
) -> Evaluation:
    """Measure every model on the test split and ask the gates."""
    train, test, info = dataset.splits["train"], dataset.splits["test"], dataset.manifest
    label = str(info["label"])
    labels = test[label].to_numpy()
    own = require_finite(challenger.predict(test))
    guess, note = prior(train[label].to_numpy(), test.height, info), incomparable(champion_bundle, test, info)
    predicted = {"challenger": own, "baseline": baseline_predictions, "prior": guess}
    if champion_bundle is not None and not note:
        predicted["champion"] = in_classes(champion_bundle.predict(test), champion_bundle.info, info)
    table = slice_scores(test, own, slice_columns(project, test), label, info)
    classes = len(info.get("classes", ()))
    usual = thinned(train, REFERENCE_CLASS_ROWS // classes if classes else REFERENCE_ROWS)
    seen = usual.select(TIME).hstack(prediction.columns(challenger.predict(usual), info))
    report = {
        "run_id": challenger.info["run_id"],
        "dataset_version": dataset.version,
        "feature_service": info["feature_service"],
        "versions": info.get("versions", {}),
        "task": prediction.task_of(info),
        "metrics": {name: scores(labels, values, info) for name, values in predicted.items()},
        "slices": table.to_dicts(),
        "champion_version": champion.version if champion else None,
        "champion_note": note,
        "reference_predictions": reference_predictions(seen, test, own, label, info),
    }
    report["gates"] = [asdict(verdict) for verdict in verdicts(project.gates, report)]
    report["summary"], card = summary(project, info, report), model_card(project, info, report, challenger.info)
    return Evaluation(report, table, pictures(test, predicted, table, label, info), card)


def thinned(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """All of `rows`, or every second, third... one, so that at most `most` are left, in their order."""
    return rows.gather_every(max(1, -(-rows.height // most)))


def require_finite(predicted: np.ndarray) -> np.ndarray:
    """`predicted`, unless the model answers what is no number."""
    bad = int((~np.isfinite(predicted)).reshape(len(predicted), -1).any(1).sum())
    if bad:
        raise DataError(
            f"the model's answer to {bad} of {len(predicted)} test rows is not a finite number: look for infinite or "
            "huge values among its features and labels, or train it with a lower learning rate."
        )
    return predicted


def incomparable(bundle: ModelBundle | None, rows: pl.DataFrame, info: Mapping[str, Any]) -> str:
    """Why `bundle` cannot be asked about `rows`; empty when it can."""
    if bundle is None:
        return ""
    theirs, ours = prediction.task_of(bundle.info), prediction.task_of(info)
    if theirs != ours:
        return f"it is a {theirs} model, the label is now {ours}"
    lacking = [name for name in (*bundle.encoder.numeric, *bundle.encoder.categorical) if name not in rows.columns]
    return f"it reads features that this dataset has not: {', '.join(lacking)}" if lacking else ""


def in_classes(predicted: np.ndarray, info: Mapping[str, Any], target: Mapping[str, Any]) -> np.ndarray:
    """A model's probabilities in the classes of another dataset: nothing for a class that it does not know."""
    if prediction.task_of(target) != "multiclass" or list(info["classes"]) == list(target["classes"]):
        return predicted
    places = drift.class_codes(target["classes"], info["classes"])
    chosen = np.where(places < 0, 0.0, predicted[:, places])
    return chosen / np.maximum(chosen.sum(1, keepdims=True), 1e-12)


def pictures(
    test: pl.DataFrame,
    predicted: Mapping[str, np.ndarray],
    slices: pl.DataFrame,
    label: str,
    info: Mapping[str, Any],
) -> dict[str, bytes]:
    """PNG files by name, for the task."""
    labels, own, task = test[label].to_numpy(), predicted["challenger"], prediction.task_of(info)
    shown = {name: values for name, values in predicted.items() if name != "prior"}
    found = {SLICES: plots.slices(slices, FIRST_METRIC[task])} if slices.height else {}
    if task == "regression":
        return {**found, **plots.regression(labels, own, test[TIME])}
    if task == "multiclass":
        return {**found, **plots.multiclass(drift.class_codes(labels, info["classes"]), shown, info["classes"])}
    return {**found, CURVES: plots.curves(labels, shown)}


def slice_columns(project: Project, rows: pl.DataFrame) -> list[str]:
    """Columns that the project slices by, those of its gates included."""
    gated = [gate.column for gate in project.gates if isinstance(gate, SliceFloor)]
    columns = list(dict.fromkeys([*project.slices, *gated]))
    if unknown := [name for name in columns if name not in rows.columns]:
        raise DataError(
            f"slices by {', '.join(unknown)}: the dataset has no such column. Name a request field or a feature."
        )
    return columns


def log(registry: ModelRegistry, run_id: str, evaluation: Evaluation) -> None:
    """Keep the evaluation with the run and the model: figures as metrics, tables and pictures as artifacts."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(f"test_{name}" if model == "challenger" else f"{model}_{name}", value, now, 0)
        for model, measured in evaluation.report["metrics"].items()
        for name, value in measured.items()
        if value is not None
    ]
    registry.client.log_batch(run_id, metrics=metrics)
    registry.log_evaluation(run_id, evaluation.report, evaluation.pictures, evaluation.card)


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
        context: dg.AssetExecutionContext,
        dataset_store: dg.ResourceParam[DatasetStore],
        model_registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.MaterializeResult:
        run_id = challenger_of(context, project, model_registry)
        challenger = model_registry.run_bundle(run_id)
        dataset = dataset_store.load(challenger.info["dataset_version"])
        champion = model_registry.champion(project.name)
        measured = evaluate(
            project,
            dataset,
            challenger,
            baseline_predictions=baseline.probabilities(
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
    metrics = evaluation.report["metrics"]
    rows = [{"model": name, **measured} for name, measured in metrics.items()]
    return {
        RUN: run_id,
        DATASET: evaluation.report["dataset_version"],
        **{name: value for name, value in metrics["challenger"].items() if value is not None},
        "metrics": dg.MetadataValue.md(markdown(pl.DataFrame(rows, infer_schema_length=None))),
        "model_card": dg.MetadataValue.md(evaluation.card),
        "slices": dg.MetadataValue.md(markdown(evaluation.slices)),
        **{
            name.removesuffix(".png"): dg.MetadataValue.md(inline(picture, name))
            for name, picture in evaluation.pictures.items()
        },
    }
