"""Requests in, predictions out: the same function behind the prediction service and the batch predictions.

Requests that are not answered: a view's policy is `reject` and its values are too old.
"""

from dataclasses import asdict
from datetime import datetime, timedelta

import polars as pl

from fti.http.app import RequestError
from fti.model import prediction
from fti.model.bundle import ModelBundle
from fti.project import Project
from fti.stores.features.store import FeatureStore
from fti.times import TIME, UTC_TIME
from inference_pipeline.serving.request import Problem

UNKNOWN = "missing_views"
"""Feature views that have never seen the request's entity; their features are null."""
STALE = "stale_views"
"""Feature views whose values were too old at the moment of prediction; their features are null, or defaults."""
LATER = "later_views"
"""Feature views whose values happened after the moment of prediction; a column that is there where there are some."""
CONFLICT = 409
"""The request is well-formed; the state of the feature store forbids an answer."""


def predict(project: Project, feature_store: FeatureStore, bundle: ModelBundle, requests: pl.DataFrame) -> pl.DataFrame:
    """`requests` with their features of this moment, the prediction's columns and the columns above, order kept."""
    rows = at_prediction_time(project, requests)
    features = feature_store.online(bundle.info.feature_service, rows, project.features.freshness)
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


class StaleFeatures(RequestError):
    """Values of `views` are older than their policy allows."""

    def __init__(self, views: list[str], problems: list[Problem]) -> None:
        details = [asdict(problem) for problem in problems]
        error = "features are too old for a prediction; materialize them, then ask again"
        super().__init__(CONFLICT, error, details=details)
        self.views = views


def refuse(project: Project, store: FeatureStore, service: str, rows: pl.DataFrame) -> dict[int, StaleFeatures]:
    """Place of each row of `rows` that must not be answered -> what its client is told."""
    rejecting = {view for view, policy in project.features.freshness.items() if policy.on_stale == "reject"}
    if not rejecting:
        return {}
    stale = {place: views for place, views in enumerate(rows[STALE].to_list()) if rejecting.intersection(views)}
    if not stale:
        return {}
    events = store.online_events(service, rows[list(stale)])
    moments = rows[TIME][list(stale)].to_list()
    found = {}
    for (place, views), event, moment in zip(stale.items(), events.iter_rows(named=True), moments, strict=True):
        problems = []
        for view in views:
            if view in rejecting:
                age, most = moment - event[view], project.features.freshness[view].max_age
                problems.append(Problem(view, f"is {_words(age)} old", f"at most {_words(most)}"))
        found[place] = StaleFeatures(views, problems)
    return found


def _words(age: timedelta) -> str:
    return str(timedelta(seconds=round(age.total_seconds())))
