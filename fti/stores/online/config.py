"""The online store's part of `feature_store.yaml`. Feast looks for it beside the store's class."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from feast.repo_config import FeastConfigBaseModel
from pydantic import field_validator, model_validator

from fti.stores.online.backend import is_redis


class PackedOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`online_store:` in `feature_store.yaml`."""

    type: Literal["fti.stores.online_store.PackedOnlineStore"] = "fti.stores.online_store.PackedOnlineStore"
    path: str = "online.db"
    """File of an SQLite database, or the URL of a Redis server: `redis://host:6379/0`."""
    key_ttl_seconds: int | None = None
    """Redis only: an entity that is not written for this long is forgotten, all its views together."""

    @field_validator("path")
    @classmethod
    def _make_folder(cls, path: str) -> str:
        """The folder is made here, so that the registry beside it can be opened in a fresh clone."""
        if not is_redis(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        return path

    @model_validator(mode="after")
    def _only_redis_forgets(self) -> PackedOnlineStoreConfig:
        if self.key_ttl_seconds is not None and not is_redis(self.path):
            raise ValueError("key_ttl_seconds needs Redis: SQLite forgets nothing by itself")
        return self
