"""The stores in which the pipelines meet. None of them imports Dagster."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fti.settings import Settings
    from fti.stores.datasets.store import DatasetStore
    from fti.stores.features.store import FeatureStore
    from fti.stores.lake.store import Lake
    from fti.stores.predictions.log import PredictionLog
    from fti.stores.registry.registry import ModelRegistry


@dataclass(frozen=True)
class Stores:
    """Every store. The names are the keys of Dagster's resources."""

    lake: Lake
    feature_store: FeatureStore
    dataset_store: DatasetStore
    model_registry: ModelRegistry
    prediction_log: PredictionLog


def open_stores(settings: Settings) -> Stores:
    """The stores of these settings. Opening is cheap: each connects when it is first used."""
    from fti.stores.datasets.store import DatasetStore
    from fti.stores.features.store import FeatureStore
    from fti.stores.lake.store import Lake
    from fti.stores.predictions.log import PredictionLog
    from fti.stores.registry.registry import ModelRegistry

    root = settings.root
    feast_repo = importlib.util.find_spec("feature_repo")
    assert feast_repo is not None
    assert feast_repo.submodule_search_locations is not None
    registry = ModelRegistry(settings.mlflow, str(root / "mlflow"), settings.database, settings.artifacts)
    return Stores(
        lake=Lake(settings.lake, settings.database),
        feature_store=FeatureStore(
            repo=Path(feast_repo.submodule_search_locations[0]),
            root=str(root / "feast"),
            lake=settings.lake,
            registry=settings.feast_registry,
            online_store=settings.online_store,
            served=registry.served,
            database=settings.database,
        ),
        dataset_store=DatasetStore(str(root / "datasets"), settings.datasets, bool(settings.storage_uri)),
        model_registry=registry,
        prediction_log=PredictionLog(str(root / "log"), f"{settings.storage}/log" if settings.storage_uri else ""),
    )
