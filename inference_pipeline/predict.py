"""Requests in, probabilities out: the same function behind the prediction service and the batch predictions."""

import polars as pl

from fti.project import Project
from fti.stores.feature_store import FeatureStore
from fti.stores.model_bundle import ModelBundle

TIME = "event_timestamp"
PROBABILITY = "probability"
LABEL = "label"
UNKNOWN = "missing_views"
"""Feature views that know nothing (recent enough) of the request's entity; their features are null."""


def predict(project: Project, feature_store: FeatureStore, bundle: ModelBundle, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with their features of this moment, `probability`, `label` and `missing_views`, order kept."""
    rows = project.features.on_demand(at_prediction_time(project, requests))
    return score(project, bundle, rows.hstack(feature_store.online(bundle.info["feature_service"], rows)))


def at_prediction_time(project: Project, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with `event_timestamp`, the moment of prediction."""
    return requests.with_columns(**{TIME: pl.col(project.label.time) - project.label.horizon})


def score(project: Project, bundle: ModelBundle, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows`, which hold every feature, with `probability` and `label`."""
    probability = pl.Series(PROBABILITY, bundle.predict(rows), pl.Float64)
    label = (probability >= project.service.threshold).cast(pl.Int8).alias(LABEL)
    return rows.hstack([probability, label])
