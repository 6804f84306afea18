"""The asset `evaluation`: the challenger on the untouched test split, beside a baseline, the prior and the champion on
the same rows; the project's gates are its checks, and a gate that fails stops the promotion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from fti.errors import DataError
from fti.model import drift, prediction
from fti.model.bundle import ModelBundle
from fti.model.prediction import Outcome
from fti.model.records import Evaluation, GateVerdict
from fti.project import Project
from fti.project.gate import METRICS, SliceFloor
from fti.stores.datasets.store import DatasetStore, TrainingDataset
from fti.stores.registry.registry import ModelRegistry, ModelVersion
from fti.times import TIME
from training_pipeline.chain import DATASET, RUN, challenger_of
from training_pipeline.dataset.asset import GROUP
from training_pipeline.judging import plots
from training_pipeline.judging.card import model_card, summary
from training_pipeline.judging.gates import check_names, verdicts
from training_pipeline.judging.measure import prior, reference_predictions, scores, slice_scores
from training_pipeline.judging.tables import inline, markdown
from training_pipeline.models import baseline

CURVES, SLICES = "curves.png", "slices.png"
FIRST_METRIC = {task: next(iter(metrics)) for task, metrics in METRICS.items()}
REFERENCE_ROWS, REFERENCE_CLASS_ROWS = 400_000, 100_000
"""Training rows whose predictions monitoring compares with, at most; every second, third... row of more. Of several
classes the second number divided by theirs: a prediction costs as many trees more."""


@dataclass(frozen=True)
class Measured:
    """An evaluation, and how it is shown: `pictures` are PNG files by name, `card` is Markdown."""

    evaluation: Evaluation
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
) -> Measured:
    """Measure every model on the test split and ask the gates."""
    train, test, manifest = dataset.splits["train"], dataset.splits["test"], dataset.manifest
    label = manifest.label
    labels = test[label].to_numpy()
    own = require_finite(challenger.predict(test))
    guess, note = prior(train[label].to_numpy(), test.height, manifest), incomparable(champion_bundle, test, manifest)
    predicted = {"challenger": own, "baseline": baseline_predictions, "prior": guess}
    if champion_bundle is not None and not note:
        predicted["champion"] = in_classes(champion_bundle.predict(test), champion_bundle.info, manifest)
    table = slice_scores(test, own, slice_columns(project, test), label, manifest)
    classes = len(manifest.classes)
    usual = thinned(train, REFERENCE_CLASS_ROWS // classes if classes else REFERENCE_ROWS)
    seen = usual.select(TIME).hstack(prediction.columns(challenger.predict(usual), manifest))
    evaluation = Evaluation(
        run_id=challenger.info.run_id,
        dataset_version=dataset.version,
        feature_service=manifest.feature_service,
        versions=manifest.versions,
        task=manifest.task,
        metrics={name: scores(labels, values, manifest) for name, values in predicted.items()},
        slices=tuple(table.to_dicts()),
        champion_version=champion.version if champion else None,
        champion_note=note,
        reference_predictions=reference_predictions(seen, test, own, label, manifest),
    )
    evaluation = replace(evaluation, gates=verdicts(project.gates, evaluation))
    evaluation = replace(evaluation, summary=summary(project, manifest, evaluation))
    card = model_card(project, manifest, evaluation, challenger.info)
    return Measured(evaluation, table, pictures(test, predicted, table, label, manifest), card)


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


def incomparable(bundle: ModelBundle | None, rows: pl.DataFrame, outcome: Outcome) -> str:
    """Why `bundle` cannot be asked about `rows`; empty when it can."""
    if bundle is None:
        return ""
    theirs, ours = bundle.info.task, outcome.task
    if theirs != ours:
        return f"it is a {theirs} model, the label is now {ours}"
    lacking = [name for name in (*bundle.encoder.numeric, *bundle.encoder.categorical) if name not in rows.columns]
    return f"it reads features that this dataset has not: {', '.join(lacking)}" if lacking else ""


def in_classes(predicted: np.ndarray, own: Outcome, target: Outcome) -> np.ndarray:
    """A model's probabilities in the classes of another dataset: nothing for a class that it does not know."""
    if target.task != "multiclass" or own.classes == target.classes:
        return predicted
    places = drift.class_codes(target.classes, own.classes)
    chosen = np.where(places < 0, 0.0, predicted[:, places])
    return chosen / np.maximum(chosen.sum(1, keepdims=True), 1e-12)


def pictures(
    test: pl.DataFrame,
    predicted: Mapping[str, np.ndarray],
    slices: pl.DataFrame,
    label: str,
    outcome: Outcome,
) -> dict[str, bytes]:
    """PNG files by name, for the task."""
    labels, own, task = test[label].to_numpy(), predicted["challenger"], outcome.task
    shown = {name: values for name, values in predicted.items() if name != "prior"}
    found = {SLICES: plots.slices(slices, FIRST_METRIC[task])} if slices.height else {}
    if task == "regression":
        return {**found, **plots.regression(labels, own, test[TIME])}
    if task == "multiclass":
        return {**found, **plots.multiclass(drift.class_codes(labels, outcome.classes), shown, outcome.classes)}
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


def log(registry: ModelRegistry, run_id: str, measured: Measured) -> None:
    """Keep the evaluation with the run and the model: figures as metrics, tables and pictures as artifacts."""
    import time

    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(f"test_{name}" if model == "challenger" else f"{model}_{name}", value, now, 0)
        for model, values in measured.evaluation.metrics.items()
        for name, value in values.items()
        if value is not None
    ]
    registry.client.log_batch(run_id, metrics=metrics)
    registry.log_evaluation(run_id, measured.evaluation, measured.pictures, measured.card)


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
        dataset = dataset_store.load(challenger.info.dataset_version)
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
        return dg.MaterializeResult(
            metadata=metadata(run_id, measured), check_results=check_results(key, measured.evaluation.gates)
        )

    return evaluation


def check_results(key: dg.AssetKey, gates: Sequence[GateVerdict]) -> list[dg.AssetCheckResult]:
    """The gates' answers as Dagster's."""
    return [
        dg.AssetCheckResult(
            asset_key=key,
            check_name=gate.check,
            passed=gate.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            description=gate.description,
        )
        for gate in gates
    ]


def metadata(run_id: str, measured: Measured) -> dict[str, Any]:
    """What Dagster shows of an evaluation."""
    metrics = measured.evaluation.metrics
    rows = [{"model": name, **values} for name, values in metrics.items()]
    return {
        RUN: run_id,
        DATASET: measured.evaluation.dataset_version,
        **{name: value for name, value in metrics["challenger"].items() if value is not None},
        "metrics": dg.MetadataValue.md(markdown(pl.DataFrame(rows, infer_schema_length=None))),
        "model_card": dg.MetadataValue.md(measured.card),
        "slices": dg.MetadataValue.md(markdown(measured.slices)),
        **{
            name.removesuffix(".png"): dg.MetadataValue.md(inline(picture, name))
            for name, picture in measured.pictures.items()
        },
    }
