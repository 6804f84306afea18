"""A small world of real flights, with every store filled by our own code: features, a dataset, a registered model."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from fti.model import drift
from fti.model.encoder import Encoder
from fti.model.records import Evaluation, Manifest, ModelInfo
from fti.project import Project
from fti.projects.flights import project as flights
from fti.settings import Settings
from fti.stores import Stores, open_stores
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelVersion
from inference_pipeline.batch import requests_of
from inference_pipeline.serving.predict import at_prediction_time, score

FROM = datetime(2013, 2, 1, tzinfo=UTC)
TRAIN = datetime(2013, 2, 10, tzinfo=UTC)
LIVE = datetime(2013, 3, 10, tzinfo=UTC)
END = datetime(2013, 3, 20, tzinfo=UTC)


class Logistic(torch.nn.Module):
    """Standardize, missing to the mean, one linear layer. float32 [rows, columns] to logits [rows]."""

    def __init__(self, inputs: np.ndarray) -> None:
        super().__init__()
        spread = np.nan_to_num(np.nanstd(inputs, axis=0))
        self.register_buffer("mean", torch.from_numpy(np.nan_to_num(np.nanmean(inputs, axis=0)).astype(np.float32)))
        self.register_buffer("scale", torch.from_numpy(1 / np.maximum(spread, 1e-3).astype(np.float32)))
        self.linear = torch.nn.Linear(inputs.shape[1], 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.nan_to_num((rows - self.mean) * self.scale, nan=0.0)).squeeze(1)


@dataclass(frozen=True)
class World:
    """Stores below one folder and what lies in them. Traffic is asked for in `[LIVE, END)`."""

    settings: Settings
    project: Project
    stores: Stores
    dataset_version: str

    def requests(self, start: datetime = LIVE, end: datetime = END) -> pl.DataFrame:
        """Requests whose moment of prediction lies in the range, oldest first."""
        tables = {name: self.stores.lake.read(f"flights/raw/{name}").collect() for name in self.project.label.sources}
        rows = requests_of(self.project, tables)
        return rows.filter(pl.col("event_timestamp").is_between(start, end, closed="left")).sort("event_timestamp")

    def bodies(self, number: int) -> list[dict[str, Any]]:
        """JSON bodies of the first requests of `LIVE`."""
        rows = self.requests(LIVE, LIVE + timedelta(days=3)).head(number).select(list(self.project.service.request))
        return [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
            for row in rows.iter_rows(named=True)
        ]

    def register(self, seed: int = 0) -> ModelVersion:
        """A new version of the model: trained, logged, registered, not promoted."""
        return register(self.project, self.stores, self.dataset_version, seed)

    def promote(self, version: ModelVersion) -> None:
        """Make `version` the champion."""
        registry = self.stores.model_registry
        champion = registry.champion("flights")
        expected = champion.version if champion else None
        registry.promote("flights", version.version, expected=expected, reason="test")

    def demote(self) -> None:
        """Take the champion away, if there is one."""
        registry = self.stores.model_registry
        if registry.champion("flights") is not None:
            registry.client.delete_registered_model_alias("flights", "champion")


def build(home: Path, project: Project = flights) -> World:
    """Everything up to a dataset; no model yet."""
    settings = Settings(home=home)
    stores = open_stores(settings)
    tables = {source.name: source.read(FROM, END) for source in project.sources}
    for source in project.sources:
        name = f"flights/raw/{source.name}"
        if source.timestamp:
            stores.lake.write(name, tables[source.name], time=source.timestamp, start=FROM, end=END)
        else:
            stores.lake.write_static(name, tables[source.name])
    for view, rows in project.features.rows(tables, FROM, END).items():
        stores.lake.write(f"flights/features/{view}", rows, time="event_timestamp", start=FROM, end=END)
    stores.feature_store.apply(project)
    stores.feature_store.materialize(project.features.service, FROM, LIVE)
    return World(settings, project, stores, save_dataset(project, stores, tables))


def save_dataset(project: Project, stores: Stores, tables: dict[str, pl.DataFrame]) -> str:
    """Training rows of `[TRAIN, LIVE)`, their manifest beside them."""
    labelled = at_prediction_time(project, project.label.rows(tables)).drop_nulls(project.label.name)
    rows = labelled.filter(pl.col("event_timestamp").is_between(TRAIN, LIVE, closed="left")).sort("event_timestamp")
    rows = project.features.on_demand(stores.feature_store.historical(project.features.service, rows))
    looked_up = [
        name for names in stores.feature_store.feature_names(project.features.service).values() for name in names
    ]
    features = [*looked_up, *project.features.on_demand_names, *project.model.categorical]
    numeric = [name for name in dict.fromkeys(features) if name not in project.model.categorical]
    manifest = Manifest(
        project=project.name,
        task="binary",
        feature_service=project.features.service,
        numeric=tuple(numeric),
        categorical=project.model.categorical,
        label=project.label.name,
        reference=drift.reference(rows, numeric=numeric, categorical=project.model.categorical),
    )
    splits = {"train": rows, "validation": rows.tail(500), "test": rows.tail(1000)}
    version: str = stores.dataset_store.save(project.name, splits, manifest)
    return version


def register(project: Project, stores: Stores, dataset_version: str, seed: int) -> ModelVersion:
    """Fit `Logistic` on the dataset and register it."""
    dataset = stores.dataset_store.load(dataset_version)
    train, manifest = dataset.splits["train"], dataset.manifest
    encoder = Encoder.of(manifest, train)
    torch.manual_seed(seed)
    network = fit(encoder.encode(train), train[project.label.name].to_numpy().astype(np.float32))
    registry = stores.model_registry
    run_id = registry.client.create_run(registry.experiment(project.name)).info.run_id
    info = ModelInfo.of(manifest, dataset_version=dataset_version, run_id=run_id)
    registry.log_model(run_id, network=network, encoder=encoder, info=info)
    scored = train.select("event_timestamp", probability=pl.Series(registry.run_bundle(run_id).predict(train)))
    reference = drift.reference(scored, numeric=["probability"], categorical=[])
    evaluation = Evaluation(
        run_id=run_id,
        dataset_version=dataset_version,
        task="binary",
        metrics={},
        reference_predictions={"predictions": reference, "overall": {"roc_auc": 0.7}},
    )
    registry.log_evaluation(run_id, evaluation)
    version: ModelVersion = registry.register(run_id, project.name, {"seed": seed})
    return version


def fit(inputs: np.ndarray, labels: np.ndarray) -> Logistic:
    """A regularized logistic regression."""
    network, target = Logistic(inputs), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05, weight_decay=1e-3)
    rows = torch.from_numpy(inputs)
    for _ in range(120):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(rows), target).backward()
        optimizer.step()
    return network


def log_traffic(world: World, version: ModelVersion, log: PredictionLog) -> None:
    """Log what `version` predicts for all requests of the live days, with the features known at their moments."""
    bundle = world.stores.model_registry.bundle(version)
    requests = world.project.features.on_demand(world.requests())
    rows = score(world.project, bundle, world.stores.feature_store.historical("delay_model_v1", requests))
    log.append(
        "flights",
        rows.with_row_index("number").select(
            pl.format("request-{}", "number").alias("request_id"),
            pl.exclude("number"),
            pl.col("event_timestamp").alias("served_at"),
            pl.lit(version.version, pl.Int64).alias("model_version"),
            pl.lit([], pl.List(pl.String)).alias("missing_views"),
        ),
    )
