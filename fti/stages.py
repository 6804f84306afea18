"""The stages as plain functions, polars frames in and out: no Dagster, no state; what they need on disk is temporary.

>>> from fti import evaluate, load_project, make_dataset, make_features, predict, read_raw, train
>>> project = load_project("flights")                                                      # doctest: +SKIP
>>> tables = read_raw(project)                                                             # doctest: +SKIP
>>> views = make_features(project, tables)                                                 # doctest: +SKIP
>>> splits = make_dataset(project, tables, views)                                          # doctest: +SKIP
>>> model = train(project, splits)                                                         # doctest: +SKIP
>>> evaluate(model, splits)["model"]["roc_auc"]                                            # doctest: +SKIP
0.78
>>> predict(model, splits["test"].head(3)).select("probability", "label")                  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from fti.errors import DataError
from fti.project import Project
from fti.project.loading import find_project
from fti.settings import Settings

if TYPE_CHECKING:
    from fti.model.bundle import ModelBundle

Frames = Mapping[str, pl.DataFrame]


def load_project(name: str) -> Project:
    """The project called `name` among those that FTI_PROJECTS names; NotReadyError with what is wrong with it."""
    return find_project(Settings().project_modules, name)


def read_raw(project: Project, start: datetime | None = None, end: datetime | None = None) -> dict[str, pl.DataFrame]:
    """Source -> its valid rows of `[start, end)`, by default all that the first dataset needs. DataError when a rule
    is broken that rows cannot be set aside for."""
    from feature_pipeline.batch.ingest import read_valid

    start, end = start or project.partitions_start, end or project.dataset.until + project.label.horizon
    verdicts = {source.name: read_valid(project, source, start, end) for source in project.sources}
    _require([problem for verdict in verdicts.values() for problem in verdict.problems])
    return {name: verdict.good for name, verdict in verdicts.items()}


def make_features(
    project: Project, tables: Frames, start: datetime | None = None, end: datetime | None = None
) -> dict[str, pl.DataFrame]:
    """Feature view -> its rows that became known in `[start, end)`, by default all up to the end of the dataset."""
    from feature_pipeline.batch.transform import make_features as made

    return made(project, tables, start or project.partitions_start, end or project.dataset.until)


def make_dataset(project: Project, tables: Frames, views: Frames) -> dict[str, pl.DataFrame]:
    """`train`, `validation` and `test`: the labelled rows of `tables` with the features of `views` as they were known
    at each row's moment of prediction, `event_timestamp`."""
    from training_pipeline.dataset.asset import with_features
    from training_pipeline.dataset.labelled import entity_rows, sampled
    from training_pipeline.dataset.split import drawn_by, split

    cut = project.dataset
    rows, _ = sampled(entity_rows(project, tables, cut.start, cut.until), cut.max_rows, project.label.key)
    with TemporaryDirectory(prefix="fti-") as home:
        store = _store_of(project, Path(home), views)
        return split(with_features(project, store, rows), cut, key=drawn_by(project, rows))


def train(
    project: Project, splits: Frames, *, params: Mapping[str, Any] | None = None, max_epochs: int | None = None
) -> ModelBundle:
    """The project's model, fitted on `train` with `params` over its own and stopped by `validation`."""
    from fti.model.encoder import Encoder
    from fti.model.records import ModelInfo
    from training_pipeline.dataset.manifest import manifest
    from training_pipeline.fitting.datamodule import TabularData
    from training_pipeline.fitting.learn import learn

    model, described = project.model, manifest(project, _features(project), splits, project.dataset)
    chosen = {**model.params, **(params or {})}
    encoder = Encoder.of(described, splits["train"])
    batch_size = int(chosen.get("batch_size", 0))
    data = TabularData(splits, encoder, label=described.label, batch_size=batch_size, seed=model.seed)
    learned = learn(
        encoder, data, build=str(model.build), params=chosen, seed=model.seed, max_epochs=max_epochs or model.max_epochs
    )
    info = ModelInfo.of(described, threshold=project.service.threshold, params=chosen, seed=model.seed)
    return learned.bundle(info)


def evaluate(model: ModelBundle, splits: Frames) -> dict[str, dict[str, float | None]]:
    """Metrics on `test` of the `model`, of `gradient_boosting` on the same features (learnt from `train` and
    `validation`), and of the `prior`."""
    from fti.model.records import Manifest
    from fti.stores.datasets.store import TrainingDataset
    from training_pipeline.judging.measure import prior, scores
    from training_pipeline.models.baseline import fit_and_predict

    info, test = model.info, splits["test"]
    labels, known = test[info.label].to_numpy(), splits["train"][info.label].to_numpy()
    predicted = {
        "model": model.predict(test),
        "gradient_boosting": fit_and_predict(TrainingDataset("", splits, Manifest.of(info)), info.seed),
        "prior": prior(known, test.height, info),
    }
    return {name: scores(labels, values, info) for name, values in predicted.items()}


def predict(model: ModelBundle, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows`, which hold every feature, with the prediction's columns: `probability` and `label`, or `prediction`."""
    from fti.model import prediction

    return rows.hstack(prediction.columns(model.predict(rows), model.info, threshold=model.info.threshold))


def _store_of(project: Project, home: Path, views: Frames) -> Any:
    """A feature store below `home` that holds `views`."""
    from fti.stores import open_stores

    nowhere = dict.fromkeys(
        ("storage_uri", "database_url", "mlflow_uri", "feast_registry_uri", "online_store_uri", "dataset_remote"), ""
    )
    stores = open_stores(Settings(home=home, **nowhere))  # type: ignore[arg-type]
    store = stores.feature_store
    store.apply(project)
    wanted = store.feature_names(project.features.service)
    _require([f"feature view {view!r} was not made" for view in wanted if view not in views])
    for view in wanted:
        stores.lake.write_static(f"{project.name}/features/{view}", views[view])
    return store


def _features(project: Project) -> dict[str, list[str]]:
    """Feature view -> the features of it that the project's service reads."""
    from fti.versions.views import own_service

    members = own_service(project).feature_view_projections
    return {view.name_to_use(): [feature.name for feature in view.features] for view in members}


def _require(problems: list[str]) -> None:
    if problems:
        raise DataError("; ".join(problems))
