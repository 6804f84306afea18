"""Requests in, probabilities out: the same function behind the prediction service and the batch predictions."""

import polars as pl

from fti.project import Project
from fti.stores.feature_store import FeatureStore
from fti.stores.model_bundle import ModelBundle

TIME = "event_timestamp"
PROBABILITY = "probability"
LABEL = "label"
UNKNOWN = "unknown_entities"
"""Feature views that know nothing of the request's entity; their features are null and the model imputes them."""


def predict(project: Project, feature_store: FeatureStore, bundle: ModelBundle, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with their features of this moment, `probability`, `label` and `unknown_entities`, order kept."""
    rows = at_prediction_time(project, requests)
    features = feature_store.online(bundle.info["feature_service"], rows)
    return score(project, bundle, features.rename({"missing_views": UNKNOWN}))


def at_prediction_time(project: Project, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with `event_timestamp`, the moment of prediction."""
    return requests.with_columns(**{TIME: pl.col(project.label.time) - project.label.horizon})


def score(project: Project, bundle: ModelBundle, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows`, which hold request fields and looked-up features, with on-demand features, `probability` and `label`."""
    rows = project.features.on_demand(rows)
    probability = pl.Series(PROBABILITY, bundle.predict(rows), pl.Float64)
    label = (probability >= project.service.threshold).cast(pl.Int8).alias(LABEL)
    return rows.with_columns(probability, label)
