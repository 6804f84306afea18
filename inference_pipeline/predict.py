"""Requests in, probabilities out: the same function behind the prediction service and the batch predictions."""

import polars as pl

from fti.project import Project
from fti.stores.feature_store import FeatureStore
from fti.stores.model_bundle import ModelBundle

TIME = "event_timestamp"
PROBABILITY = "probability"
LABEL = "label"
UNKNOWN = "missing_views"
"""Feature views that have never seen the request's entity; their features are null."""
STALE = "stale_views"
"""Feature views whose values were too old at the moment of prediction; their features are null, or defaults."""


def predict(project: Project, feature_store: FeatureStore, bundle: ModelBundle, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with their features of this moment, `probability`, `label` and the two columns above, order kept."""
    rows = project.features.on_demand(at_prediction_time(project, requests))
    features = feature_store.online(bundle.info["feature_service"], rows, project.features.freshness)
    return score(project, bundle, rows.hstack(features))


def at_prediction_time(project: Project, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with `event_timestamp`, the moment of prediction."""
    return requests.with_columns(**{TIME: pl.col(project.label.time) - project.label.horizon})


def score(project: Project, bundle: ModelBundle, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows`, which hold every feature, with `probability` and `label`."""
    probability = pl.Series(PROBABILITY, bundle.predict(rows), pl.Float64)
    label = (probability >= project.service.threshold).cast(pl.Int8).alias(LABEL)
    return rows.hstack([probability, label])
