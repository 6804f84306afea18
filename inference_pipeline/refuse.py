"""Requests that are not answered, because a view's policy is `reject` and its values are too old."""

from datetime import timedelta

import polars as pl

from fti.project import Project
from fti.stores.feature_store import FeatureStore
from inference_pipeline.predict import STALE, TIME
from inference_pipeline.request import Problem, RequestError

CONFLICT = 409
"""The request is well-formed; the state of the feature store forbids an answer."""


class StaleFeatures(RequestError):
    """Values of `views` are older than their policy allows."""

    def __init__(self, views: list[str], problems: list[Problem]) -> None:
        super().__init__(CONFLICT, "features are too old for a prediction; materialize them, then ask again", problems)
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
