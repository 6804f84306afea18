"""The stores in which the pipelines meet. None of them imports Dagster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fti.settings import Settings


def open_stores(settings: Settings) -> dict[str, Any]:
    """Every store by its resource key. Opening is cheap: each store connects when it is first used."""
    from fti.stores.dataset_store import DatasetStore
    from fti.stores.feature_store import FeatureStore
    from fti.stores.lake import Lake
    from fti.stores.model_registry import ModelRegistry
    from fti.stores.prediction_log import PredictionLog

    root = settings.root
    feast_repo = importlib.util.find_spec("feature_repo")
    assert feast_repo is not None
    assert feast_repo.submodule_search_locations is not None
    registry = ModelRegistry(settings.mlflow, str(root / "mlflow"), settings.database, settings.artifacts)
    return {
        "lake": Lake(settings.lake, settings.database),
        "feature_store": FeatureStore(
            repo=Path(feast_repo.submodule_search_locations[0]),
            root=str(root / "feast"),
            lake=settings.lake,
            registry=settings.feast_registry,
            online_store=settings.online_store,
            served=registry.served,
            database=settings.database,
        ),
        "dataset_store": DatasetStore(str(root / "datasets"), settings.datasets, bool(settings.storage_uri)),
        "model_registry": registry,
        "prediction_log": PredictionLog(str(root / "log"), f"{settings.storage}/log" if settings.storage_uri else ""),
    }
