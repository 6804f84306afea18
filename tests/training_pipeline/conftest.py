"""A small learnable use case: does a parcel arrive late? 120 days, a few thousand rows, known in closed form."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fti.project import Dataset, Features, Label, Model, Monitor, Project, RequestField, Service, Source, View
from fti.project.gate import Floor, NoWorseThanChampion, SliceFloor
from fti.settings import Settings
from fti.stores import Stores, open_stores
from fti.stores.datasets.store import DatasetStore
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelRegistry
from fti.times import UTC_TIME
from tests.registries import empty_registry
from training_pipeline.dataset.asset import manifest, split

START = datetime(2024, 1, 1, tzinfo=UTC)
VIEWS = {"depot": ["load", "backlog"]}


def parcels(num_rows: int = 6000, days: int = 120, seed: int = 0) -> pl.DataFrame:
    """Parcels with their features; late when the depot is loaded, more so for the slow carrier."""
    random = np.random.default_rng(seed)
    load, backlog = random.normal(size=num_rows), random.normal(size=num_rows)
    carrier = random.choice(["fast", "slow", "usual"], num_rows)
    score = 1.5 * load - 1.0 + 1.2 * (carrier == "slow") + 0.3 * backlog
    late = random.random(num_rows) < 1 / (1 + np.exp(-score))
    due = [START + timedelta(days=days * (row + 0.5) / num_rows) for row in range(num_rows)]
    rows = pl.DataFrame(
        {
            "parcel": np.arange(num_rows),
            "carrier": carrier,
            "due": due,
            "late": late.astype(np.int8),
            "load": load.astype(np.float32),
            "backlog": backlog.astype(np.float32),
            "weekday": [str(moment.isoweekday()) for moment in due],
        },
        schema_overrides={"due": UTC_TIME},
    )
    return rows.with_columns(
        known_at=pl.col("due") + timedelta(hours=1),
        event_timestamp=pl.col("due") - timedelta(hours=2),
        backlog=pl.when(pl.col("parcel") % 7 == 0).then(None).otherwise(pl.col("backlog")),
    )


def search_space(trial: Any) -> dict[str, Any]:
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 2e-2, log=True)}


def label_rows(tables: Any) -> pl.DataFrame:
    return tables["parcels"].select("parcel", "carrier", "due", "late", "known_at")


@pytest.fixture(scope="session")
def project() -> Project:
    return Project(
        name="parcels",
        description="Will this parcel arrive late?",
        sources=(
            Source(name="parcels", read=lambda start, end: parcels(), schema={}, key=("parcel",), timestamp="due"),
        ),
        features=Features(
            repo="tests.training_pipeline.parcels_features",
            service="parcels_v1",
            views=(View(name="depot", entity=("parcel",), inputs=("parcels",), lookback=timedelta(days=1)),),
            on_demand=lambda rows: rows,
            on_demand_names=("weekday",),
        ),
        label=Label(
            name="late",
            rows=label_rows,
            sources=("parcels",),
            key=("parcel",),
            time="due",
            horizon=timedelta(hours=2),
            delay=timedelta(days=1),
        ),
        dataset=Dataset(
            start=START,
            until=START + timedelta(days=120),
            validation=timedelta(days=15),
            test=timedelta(days=30),
        ),
        model=Model(
            task="binary",
            categorical=("weekday",),
            params={"learning_rate": 1e-2, "hidden": 16, "layers": 2, "members": 2, "dropout": 0.0, "batch_size": 256},
            search_space=search_space,
            num_trials=3,
            max_epochs=4,
        ),
        gates=(
            Floor(metric="roc_auc", minimum=0.6),
            NoWorseThanChampion(metric="log_loss", tolerance=0.01),
            SliceFloor(column="carrier", metric="roc_auc", minimum=0.55, min_rows=100),
        ),
        service=Service(
            request={"parcel": RequestField(dtype=pl.Int64, description="Number", example=1)}, threshold=0.5
        ),
        monitor=Monitor(
            window=timedelta(days=7),
            min_rows=50,
            quantile=1.0,
            factor=1.0,
            max_drifted_share=0.5,
            performance_tolerance=0.1,
            retrain_on=("no_data_drift",),
            cooldown=timedelta(days=7),
            max_retrains_per_30_days=2,
            retrain_validation=timedelta(days=7),
            retrain_test=timedelta(days=7),
        ),
        partitions_start=START,
        slices=("carrier",),
    )


@pytest.fixture(scope="session")
def saved(project: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetStore, str]:
    """A store with the dataset of the parcels, and its version."""
    store = DatasetStore(str(tmp_path_factory.mktemp("datasets")))
    splits = split(parcels(), project.dataset)
    return store, store.save(project.name, splits, manifest(project, VIEWS, splits, project.dataset))


@pytest.fixture(scope="session")
def feature_store(project: Project, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """The parcels' features, offline and online."""
    store = open_stores(Settings(home=tmp_path_factory.mktemp("parcels"))).feature_store
    rows = parcels().select("parcel", "event_timestamp", *VIEWS["depot"])
    Lake(store.lake).write_static("parcels/features/depot", rows)
    store.apply(project)
    store.materialize(project.features.service, START, START + timedelta(days=120))
    return store


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    """A registry of its own for every test."""
    return empty_registry(tmp_path / "registry")


@pytest.fixture
def stores(
    tmp_path: Path, saved: tuple[DatasetStore, str], registry: ModelRegistry, feature_store: FeatureStore
) -> Stores:
    """A dataset and its feature service; lake and log are empty."""
    lake, log = Lake(str(tmp_path / "lake")), PredictionLog(str(tmp_path / "log"))
    return Stores(lake, feature_store, saved[0], registry, log)
