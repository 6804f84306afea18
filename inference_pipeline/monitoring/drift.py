"""Asset `drift_report`: the window of logged traffic against the training data, with three non-blocking checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fti.model import drift, prediction
from fti.model.bundle import ModelBundle
from fti.project import Project
from fti.stores.datasets.store import DatasetStore, TrainingDataset
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelRegistry, ModelVersion
from fti.times import TIME
from inference_pipeline.batch import GROUP, Until, champion_of, parse_until
from inference_pipeline.monitoring.page import (
    NUM_CURVES,
    NUM_FEATURES,
    as_markdown,
    daily_distances,
    drift_plot,
    evidently_html,
)
from inference_pipeline.monitoring.statistics import (
    Verdict,
    data_drift,
    feature_table,
    performance_drift,
    prediction_drift,
    undecided,
)
from inference_pipeline.monitoring.window import window_end

CHECKS = {
    "no_data_drift": "The features of the window lie no further from the training data than its own weeks do.",
    "no_prediction_drift": "The champion's predictions are spread as they are on its training rows.",
    "no_performance_drift": "The log loss is no higher than the champion's own probabilities promise; of numbers, the "
    "RMSE no higher than on its test split.",
}
MAX_TABLE_ROWS = 20


class DriftConfig(Until):
    """One drift report."""

    html: bool = True
    """Also write Evidently's report; it takes seconds and decides nothing."""


@dataclass(frozen=True)
class Window:
    """What is looked at: logged predictions of `[start, until)`, and the champion they are compared for."""

    start: datetime
    until: datetime
    logged: pl.DataFrame
    labelled: pl.DataFrame
    """Predictions of the window whose label was known before `until`."""
    version: ModelVersion
    bundle: ModelBundle
    dataset: TrainingDataset
    num_later: int = 0
    """Predictions at or after `until` that are left out, where the log itself tells `until`."""

    @property
    def by_champion(self) -> pl.DataFrame:
        """The champion's own predictions."""
        return self.logged.filter(pl.col("model_version") == self.version.version)


def read_window(
    project: Project, log: PredictionLog, registry: ModelRegistry, datasets: DatasetStore, until: datetime | None
) -> Window | None:
    """The window before `until` (without, the newest with enough predictions), or None while nothing is logged."""
    end = until or window_end(project, log)
    if end is None:
        return None
    num_later = 0 if until else log.read(project.name, end).height
    until, start = end, end - project.monitor.window
    version = champion_of(registry, project)
    bundle = registry.bundle(version)
    return Window(
        start=start,
        until=until,
        logged=log.read(project.name, start, until),
        labelled=log.labelled(project.name, start, until).filter(pl.col("known_at") < until),
        version=version,
        bundle=bundle,
        dataset=datasets.load(bundle.info.dataset_version),
        num_later=num_later,
    )


def verdicts(project: Project, window: Window, table: pl.DataFrame) -> dict[str, Verdict]:
    """Check name -> answer."""
    champion = window.version.version
    labelled = window.labelled.filter(pl.col("model_version") == champion)
    return {
        "no_data_drift": data_drift(table, window.logged.height, project.monitor),
        "no_prediction_drift": prediction_drift(
            window.by_champion, prediction_reference(project, window.bundle, window.dataset), project.monitor
        ),
        "no_performance_drift": never_labelled(project, labelled)
        or performance_drift(labelled, project.monitor, window.bundle.info),
    }


def never_labelled(project: Project, labelled: pl.DataFrame) -> Verdict | None:
    """No answer about rows without a time: a request that names none is about now, the labels are about the table's
    own rows, and so the two never meet."""
    if project.dataset.shares is None or not labelled.is_empty():
        return None
    time = project.label.time
    return undecided(
        "no prediction has a label. Rows are split at random, so they may have no time of their own: a request without "
        f"{time!r} is about now, and only one about a row's own {time!r} can be compared with its label."
    )


def prediction_reference(project: Project, bundle: ModelBundle, dataset: TrainingDataset) -> Mapping[str, Any]:
    """How the model's predictions are spread on its training rows, in the form of `fti.model.drift.reference`: kept by
    the evaluation, made here for a model that nobody has evaluated."""
    known: Mapping[str, Any] | None = bundle.info.reference_predictions.get("predictions")
    if known is not None:
        return known
    train = dataset.splits["train"]
    columns = prediction.columns(bundle.predict(train), bundle.info, threshold=project.service.threshold)
    watched = prediction.WATCHED[bundle.info.task]
    rows = train.select(TIME).hstack(columns)
    return drift.reference(rows, numeric=watched["numeric"], categorical=watched["categorical"])


def check_results(
    project: Project, answers: Mapping[str, Verdict], until: datetime | None
) -> list[dg.AssetCheckResult]:
    """The checks, with what the retrain sensor reads: `until` and `decided`."""
    return [
        dg.AssetCheckResult(
            check_name=name,
            asset_key=project.key("drift_report"),
            passed=answer.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=answer.description,
            metadata={
                "decided": answer.decided,
                "statistic": answer.statistic,
                "limit": answer.limit,
                "until": until.isoformat() if until else "",
                **answer.details,
            },
        )
        for name, answer in answers.items()
    ]


def report(project: Project, log: PredictionLog, window: Window | None, *, html: bool) -> dg.MaterializeResult[None]:
    """The asset's result: checks, the most drifted features, the picture and the page to read."""
    if window is None or window.logged.is_empty():
        where = "the log" if window is None else f"{window.start:%Y-%m-%d %H:%M} .. {window.until:%Y-%m-%d %H:%M}"
        if window is None and (num_ahead := log.read(project.name).height):
            where += f" up to the clock ({project.now():%Y-%m-%d %H:%M}), {num_ahead} after it"
        answers = dict.fromkeys(CHECKS, undecided(f"no predictions in {where}."))
        results = check_results(project, answers, window.until if window else None)
        return dg.MaterializeResult(metadata={"predictions": 0}, check_results=results)
    table = feature_table(window.logged, window.dataset.manifest.reference, project.monitor)
    answers = verdicts(project, window, table)
    metadata = {**facts(window), **pictures(project, log, window, table, html=html)}
    return dg.MaterializeResult(metadata=metadata, check_results=check_results(project, answers, window.until))


def facts(window: Window) -> dict[str, Any]:
    """The report's plain metadata."""
    return {
        "from": window.start.isoformat(),
        "until": window.until.isoformat(),
        "predictions": window.logged.height,
        "later predictions left out": window.num_later,
        "labelled": window.labelled.height,
        "model version": window.version.version,
        "training dataset": window.dataset.version,
    }


def pictures(
    project: Project, log: PredictionLog, window: Window, table: pl.DataFrame, *, html: bool
) -> dict[str, dg.MetadataValue]:
    """The table and the curves of the most drifted features and, with `html`, the page that Evidently writes."""
    reference = window.dataset.manifest.reference
    distances = daily_distances(window.logged, reference, table["feature"].head(NUM_CURVES).to_list())
    picture = drift_plot(distances, window.logged, window.labelled, project.model.task)
    found: dict[str, dg.MetadataValue] = {
        "most drifted": dg.MetadataValue.md(as_table(table.head(MAX_TABLE_ROWS))),
        "day by day": dg.MetadataValue.md(as_markdown(picture)),
    }
    if html:
        chosen = table["feature"].head(NUM_FEATURES).to_list()
        numeric = [name for name in chosen if name in window.dataset.manifest.numeric]
        categorical = [name for name in chosen if name not in numeric]
        page = evidently_html(window.logged, window.dataset.splits["train"], numeric=numeric, categorical=categorical)
        if page:
            name = f"drift-{window.until:%Y-%m-%dT%H%M%SZ}.html"
            address = log.write_report(project.name, name, page)
            found["page"] = dg.MetadataValue.url(address if "://" in address else Path(address).resolve().as_uri())
    return found


def as_table(table: pl.DataFrame) -> str:
    """`feature_table` in Markdown."""
    lines = ["| feature | distance | of | limit | drifted |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {far:.3f} | {of} | {limit:.3f} | {'**yes**' if yes else 'no'} |"
        for name, far, limit, yes, of in table.rows()
    ]
    return "\n".join(lines)


def drift_asset(project: Project) -> dg.AssetsDefinition:
    """Asset `drift_report` and its checks."""
    key = project.key("drift_report")

    @dg.asset(
        key=key,
        group_name=GROUP,
        deps=[project.key(noun) for noun in ("prediction_log", "labels", "training_dataset", "champion")],
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, description=description, blocking=False)
            for name, description in CHECKS.items()
        ],
        owners=[f"team:{project.owner}"],
        kinds={"evidently", "polars"},
        description="Logged traffic against the training data: features, predictions, performance.",
    )
    def drift_report(
        config: DriftConfig,
        prediction_log: dg.ResourceParam[PredictionLog],
        model_registry: dg.ResourceParam[ModelRegistry],
        dataset_store: dg.ResourceParam[DatasetStore],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads this annotation
        until = parse_until(config.until)
        window = read_window(project, prediction_log, model_registry, dataset_store, until)
        return report(project, prediction_log, window, html=config.html)

    return drift_report
