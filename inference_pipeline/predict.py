"""Requests in, predictions out: the same function behind the prediction service and the batch predictions."""

from datetime import datetime

import polars as pl

from fti import prediction
from fti.project import Project
from fti.stores.feature_store import FeatureStore
from fti.stores.model_bundle import ModelBundle

TIME = "event_timestamp"
UTC_TIME = pl.Datetime("us", "UTC")
UNKNOWN = "missing_views"
"""Feature views that have never seen the request's entity; their features are null."""
STALE = "stale_views"
"""Feature views whose values were too old at the moment of prediction; their features are null, or defaults."""
LATER = "later_views"
"""Feature views whose values happened after the moment of prediction; a column that is there where there are some."""


def predict(project: Project, feature_store: FeatureStore, bundle: ModelBundle, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with their features of this moment, the prediction's columns and the columns above, order kept."""
    rows = at_prediction_time(project, requests)
    features = feature_store.online(bundle.info["feature_service"], rows, project.features.freshness)
    rows, features = completed(project, rows, features)
    return score(project, bundle, project.features.on_demand(rows).hstack(features))


def at_prediction_time(project: Project, requests: pl.DataFrame, now: datetime | None = None) -> pl.DataFrame:
    """`requests` with `event_timestamp`, the moment of prediction: `now` (or the project's clock) if none is named."""
    label = project.label
    if label.time not in requests.columns:
        requests = requests.with_columns(pl.lit(None, UTC_TIME).alias(label.time))
    if requests[label.time].null_count():
        present = pl.lit((now or project.now()) + label.horizon, UTC_TIME)
        requests = requests.with_columns(pl.col(label.time).fill_null(present))
    return requests.with_columns(label.moment())


def completed(project: Project, rows: pl.DataFrame, features: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`rows` whose fields that replace a feature hold, where the request gives none, the feature's value; and the
    other features."""
    replaced = project.overriding(features.columns)
    if not replaced:
        return rows, features
    filled = []
    for name in replaced:
        known, given = features[name], rows[name]
        if given.null_count() < rows.height:
            known = given.cast(known.dtype).zip_with(given.is_not_null(), known)
        filled.append(known)
    return rows.with_columns(filled), features.drop(replaced)


def score(project: Project, bundle: ModelBundle, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows`, which hold every feature, with the prediction's columns."""
    return rows.hstack(prediction.columns(bundle.predict(rows), bundle.info, threshold=project.service.threshold))
