"""Batch predictions for every request of a period, and the labels of what the service has predicted."""

from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import dagster as dg
import polars as pl

from fti.errors import NotReadyError
from fti.model import prediction
from fti.model.bundle import ModelBundle
from fti.model.target import typed_label
from fti.project import Project
from fti.project.labels import label_rows
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelRegistry, ModelVersion
from fti.times import TIME
from inference_pipeline.monitoring.window import window_end
from inference_pipeline.serving.predict import at_prediction_time, score

GROUP = "inference_pipeline"
SHOWN_CLASSES = 20


class Until(dg.Config):
    """The moment that a monitoring run looks back from."""

    until: str | None = None
    """ISO 8601 with its offset; the newest logged prediction if not given."""


def parse_until(until: str | None) -> datetime | None:
    """`until` as a moment; an offset is required, because a report is about an exact window."""
    if until is None:
        return None
    moment = datetime.fromisoformat(until)
    if moment.tzinfo is None:
        raise ValueError(f"until={until!r} has no offset from UTC: write for example '2013-12-01T00:00:00Z'")
    return moment


def requests_of(project: Project, tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Every request that could be asked about `tables`, at its moment of prediction, without the answer."""
    rows = label_rows(project, tables).drop(project.label.name, "known_at")
    return at_prediction_time(project, rows.unique(project.label.key, keep="last", maintain_order=True))


def predictions_of(
    project: Project, feature_store: FeatureStore, bundle: ModelBundle, requests: pl.DataFrame
) -> pl.DataFrame:
    """`requests` with the prediction that offline features give; a field that replaces a feature holds the store's."""
    service = bundle.info.feature_service
    replaced = project.overriding(chain(*feature_store.feature_names(service).values()))
    rows = project.features.on_demand(feature_store.historical(service, requests.drop(replaced, strict=False)))
    return score(project, bundle, rows).select(*requests.columns, *prediction.COLUMNS[bundle.info.task])


def known_labels(project: Project, tables: dict[str, pl.DataFrame], until: datetime | None) -> pl.DataFrame:
    """Labels that were known before `until`: the key, `event_timestamp`, `actual`, `known_at`."""
    label = project.label.name
    rows = typed_label(label_rows(project, tables).drop_nulls("known_at"), label, project.model.task)
    if until is not None:
        rows = rows.filter(pl.col("known_at") < until)
    actual = pl.col(label).alias("actual")
    labels = at_prediction_time(project, rows).select(*project.label.key, TIME, actual, "known_at")
    return labels.unique(project.label.key, keep="last", maintain_order=True)


def label_logged(project: Project, lake: Lake, log: PredictionLog, until: datetime | None) -> dict[str, int]:
    """Write the labels that became known to the log; the numbers of logged, labelled and newly labelled predictions."""
    end, newest = window_end(project, log), log.newest(project.name, project.now())
    if end is None or newest is None:
        return {"logged": 0, "labelled": 0, "new": 0}
    first, last = (min(moment, until or moment) for moment in (end, newest))
    start = first - project.monitor.window - project.label.horizon - project.label.delay
    logged = log.read(project.name, start)
    end = last + project.label.horizon + project.label.delay + timedelta(days=1)
    tables = lake.raw(project.name, project.label.sources, start=start - project.label.delay, end=end)
    labels = known_labels(project, tables, until)
    joined = labels.join(logged, on=[*project.label.key, TIME], how="semi", maintain_order="left")
    return {"logged": logged.height, "labelled": joined.height, "new": log.write_labels(project.name, joined)}


def champion_of(registry: ModelRegistry, project: Project) -> ModelVersion:
    """The champion's version; there must be one."""
    version = registry.champion(project.name)
    if version is None:
        raise NotReadyError(f"{project.name} has no champion. Materialize {project.name}/champion first.")
    return version


def facts(rows: pl.DataFrame, task: str) -> dict[str, Any]:
    """What Dagster shows of predictions: share of label 1, rows of the largest classes, or mean of the numbers."""
    if task == "regression":
        return {"mean prediction": float(rows[prediction.PREDICTION].mean() or 0.0)}  # type: ignore[arg-type]
    labels = rows[prediction.LABEL]
    if task == "binary":
        return {"share of label 1": float(labels.cast(pl.Float64).mean() or 0.0)}  # type: ignore[arg-type]
    return {"rows by class": dict(labels.value_counts(sort=True).head(SHOWN_CLASSES).iter_rows())}


def predictions_asset(project: Project) -> dg.AssetsDefinition:
    """Asset `predictions`: the champion's batch predictions, by day of what is predicted."""

    @dg.asset(
        key=project.key("predictions"),
        group_name=GROUP,
        deps=[*project.raw_keys(project.label.sources), project.key("features"), project.key("champion")],
        partitions_def=dg.DailyPartitionsDefinition(
            start_date=project.partitions_start, end_date=project.partitions_end, timezone="UTC"
        ),
        backfill_policy=dg.BackfillPolicy.single_run(),
        owners=[f"team:{project.owner}"],
        kinds={"polars"},
        description="The champion's predictions for every request of a day, from offline features.",
    )
    def predictions(
        context: dg.AssetExecutionContext,
        lake: dg.ResourceParam[Lake],
        feature_store: dg.ResourceParam[FeatureStore],
        model_registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.MaterializeResult[None]:
        window = context.partition_time_window
        version = champion_of(model_registry, project)
        tables = lake.raw(project.name, project.label.sources, start=window.start, end=window.end)
        requests = requests_of(project, tables)
        rows = predictions_of(project, feature_store, model_registry.bundle(version), requests)
        rows = rows.with_columns(model_version=pl.lit(version.version, pl.Int64))
        time = project.label.time
        lake.write(f"{project.name}/predictions", rows, time=time, start=window.start, end=window.end)
        return dg.MaterializeResult(
            metadata={"rows": rows.height, "model version": version.version, **facts(rows, project.model.task)}
        )

    return predictions


def labels_asset(project: Project) -> dg.AssetsDefinition:
    """Asset `labels`: what really happened to the logged predictions, as far as it is known."""

    @dg.asset(
        key=project.key("labels"),
        group_name=GROUP,
        deps=[*project.raw_keys(project.label.sources), project.key("prediction_log")],
        owners=[f"team:{project.owner}"],
        kinds={"polars"},
        description="Labels of the logged predictions, written beside them when they become known.",
    )
    def labels(
        config: Until, lake: dg.ResourceParam[Lake], prediction_log: dg.ResourceParam[PredictionLog]
    ) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=label_logged(project, lake, prediction_log, parse_until(config.until)))

    return labels
