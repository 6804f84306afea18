"""A project's whole life in small, below a temporary folder: what checks look at is made once, when first asked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from fti.errors import DataError
from fti.project import Project
from fti.project.labels import label_rows
from fti.settings import Settings
from fti.stores import Stores
from fti.testing.sample import Sample, choose, cut, of_some_entities, read
from fti.times import TIME
from fti.views.view import make_views

if TYPE_CHECKING:
    from feature_pipeline.batch.validate import Verdict
    from fti.model.bundle import ModelBundle
    from fti.stores.datasets.store import TrainingDataset
    from fti.stores.features.store import FeatureStore, ViewSchema
    from fti.stores.registry.registry import ModelVersion
    from fti.testing.remember import RememberingRegistry
    from training_pipeline.launching.job import TrainingJob


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a rehearsal looks at."""

    rows: int
    """Labelled rows that features are made for."""
    training_rows: int
    max_raw_rows: int
    """More raw rows than this in one table: some of its entities are left out."""
    cuts: int
    """Moments at which the past is compared with and without the future."""
    trials: int
    epochs: int


QUICK = Size(rows=5_000, training_rows=2_000, max_raw_rows=200_000, cuts=2, trials=3, epochs=1)
FULL = Size(rows=30_000, training_rows=10_000, max_raw_rows=1_000_000, cuts=5, trials=8, epochs=3)


@dataclass(frozen=True)
class Rehearsal:
    """Stages from raw rows to a model that answers. Each one is made on first use; what it raises, its users see."""

    project: Project
    home: Path
    size: Size

    @cached_property
    def settings(self) -> Settings:
        """Everything below `home`, whatever the environment says."""
        return Settings(
            home=self.home,
            storage_uri="",
            database_url="",
            mlflow_uri="",
            feast_registry_uri="",
            online_store_uri="",
            events_uri="",
            dataset_remote="",
        )

    @cached_property
    def stores(self) -> Stores:
        """Empty stores below `home`."""
        from fti.stores import open_stores

        return open_stores(self.settings)

    # --- raw rows ---

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """What the feature pipeline says of the raw rows, by source."""
        from feature_pipeline.batch.ingest import read_valid

        project, (start, end) = self.project, choose(self.project, self.size.rows)
        names = [*project.features.sources, *project.label.sources]
        since, until = start - project.features.lookback, end + project.label.horizon
        tables = read(project, names, since, until)
        largest = max(rows.height for rows in tables.values())
        if largest > self.size.max_raw_rows:
            tables = of_some_entities(project, tables, -(-largest // self.size.max_raw_rows))
        self.__dict__["window"] = (start, end)
        known = {name: replace(project.source(name), read=lambda *_, rows=rows: rows) for name, rows in tables.items()}
        return {
            name: read_valid(project, source, max(since, project.partitions_start), until)
            for name, source in known.items()
        }

    @cached_property
    def sample(self) -> Sample:
        """The rows that the rest of the rehearsal is made of."""
        tables = {name: verdict.good for name, verdict in self.verdicts.items()}
        start, end = self.__dict__["window"]
        return Sample(start, end, tables)

    # --- features ---

    def make(self, tables: Mapping[str, pl.DataFrame], start: datetime, end: datetime) -> dict[str, pl.DataFrame]:
        """What the views make of raw rows, of which each sees those before `end` and from its own lookback on."""
        made: dict[str, pl.DataFrame] = {}
        for view in self.project.features.views:
            own = {name: tables[name] for name in view.sources}
            made |= make_views([view], cut(self.project, own, start=start - view.lookback, end=end), start, end)
        return made

    @cached_property
    def views(self) -> dict[str, pl.DataFrame]:
        """Feature rows of the sample's days."""
        return self.make(self.sample.tables, self.sample.start, self.sample.end)

    @cached_property
    def feature_store(self) -> FeatureStore:
        """The feature store with the project's Feast objects."""
        store: FeatureStore = self.stores.feature_store
        store.apply(self.project)
        return store

    @cached_property
    def schemas(self) -> dict[str, ViewSchema]:
        """Feature view -> its columns in Feast, of every feature service in the project's Feast module."""
        services = self.feature_store.services(self.project)
        return {view: schema for name in services for view, schema in self.feature_store.schemas(name).items()}

    def keys(self, view: str) -> list[str]:
        """Columns that identify a row of a view."""
        schema = self.schemas.get(view)
        if schema is None:
            raise DataError(f"Features.views has the view {view!r}, which no feature service of the project has")
        return [*schema.keys, TIME]

    @cached_property
    def online(self) -> FeatureStore:
        """The feature store with the sample's features offline and online."""
        lake, store = self.stores.lake, self.feature_store
        for view, rows in self.views.items():
            lake.write_static(f"{self.project.name}/features/{view}", rows.sort(TIME, maintain_order=True))
        store.materialize(self.project.features.service, self.sample.start, self.sample.end, record=True)
        return store

    # --- label and training rows ---

    @cached_property
    def all_label_rows(self) -> pl.DataFrame:
        """Label rows of all raw rows that were read, asked at `event_timestamp`."""
        label = self.project.label
        rows = label_rows(self.project, {name: self.sample.tables[name] for name in label.sources})
        return rows.with_columns(label.moment())

    @cached_property
    def label_rows(self) -> pl.DataFrame:
        """Label rows that are asked within the sample."""
        inside = pl.col(TIME).is_between(self.sample.start, self.sample.end, closed="left")
        return self.all_label_rows.filter(inside)

    @cached_property
    def labelled(self) -> pl.DataFrame:
        """Label rows with a label, in the type of its task, oldest first."""
        from fti.model.target import typed_label

        label = self.project.label
        return typed_label(self.label_rows, label.name, self.project.model.task).sort(TIME, *label.key)

    @cached_property
    def requests(self) -> pl.DataFrame:
        """What is known of each label row when it is asked: `event_timestamp`, and the request's fields less those that
        replace features."""
        features = chain(*self.online.feature_names(self.project.features.service).values())
        left_out = self.project.overriding(features)
        names = [name for name in self.project.service.request if name not in left_out]
        return self.label_rows.select(*(name for name in names if name in self.label_rows.columns), TIME)

    @cached_property
    def featured(self) -> pl.DataFrame:
        """The newest labelled rows with every feature, oldest first."""
        from training_pipeline.dataset.asset import with_features

        return with_features(self.project, self.online, self.labelled.tail(self.size.rows))

    @cached_property
    def training_rows(self) -> pl.DataFrame:
        """Some labelled rows with every feature, oldest first."""
        rows = self.featured
        return rows.sample(min(self.size.training_rows, rows.height), seed=self.project.model.seed).sort(TIME)

    def save_dataset(self, splits: Mapping[str, pl.DataFrame]) -> str:
        """The version of a training dataset of these rows."""
        from training_pipeline.dataset.manifest import manifest

        service = self.project.features.service
        views = self.online.feature_names(service)
        described = manifest(self.project, views, splits, self.project.dataset, versions=self.online.versions(service))
        version: str = self.stores.dataset_store.save(self.project.name, splits, described)
        return version

    @cached_property
    def dataset(self) -> TrainingDataset:
        """The training rows in three splits: of ten neighbours in time eight train, so that no split lacks a class."""
        place = pl.int_range(pl.len()) % 10
        parts = {"train": place < 8, "validation": place == 8, "test": place == 9}
        splits = {name: self.training_rows.filter(part) for name, part in parts.items()}
        found: TrainingDataset = self.stores.dataset_store.load(self.save_dataset(splits))
        return found

    # --- model and service ---

    def job(self, version: str, epochs: int) -> TrainingJob:
        """A training of the project's model with its default parameters."""
        from training_pipeline.launching.job import training_job

        stores, params = self.stores, self.project.model.params
        return training_job(
            self.project,
            stores.dataset_store,
            stores.model_registry,
            dataset_version=version,
            params=params,
            max_epochs=epochs,
        )

    def train(self, version: str, epochs: int) -> str:
        """Train afresh; returns the MLflow run."""
        from training_pipeline.fitting.train import train

        job = self.job(version, epochs)
        shutil.rmtree(job.folder, ignore_errors=True)
        job.__dict__["registry"] = self.registry  # where `TrainingJob.registry` keeps the one that it opens
        return train(job, lambda _: None).run_id

    @cached_property
    def registry(self) -> RememberingRegistry:
        """The model registry, which also remembers every model as it was trained."""
        from fti.testing.remember import RememberingRegistry

        opened = self.stores.model_registry
        return RememberingRegistry(opened.tracking_uri, opened.root)

    @cached_property
    def run_id(self) -> str:
        """The run of the model that the checks ask."""
        return self.train(self.dataset.version, self.size.epochs)

    @cached_property
    def bundle(self) -> ModelBundle:
        """The trained model, read back from where it was saved."""
        return self.registry.run_bundle(self.run_id)

    @cached_property
    def champion(self) -> ModelVersion:
        """The trained model as the version that serves."""
        name = self.project.name
        version = self.registry.register(self.run_id, name, {})
        self.registry.promote(name, version.version, expected=None, reason="check")
        return version
