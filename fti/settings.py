"""Where things run: `Settings`, read once from `FTI_*` variables and `.env`, frozen afterwards."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from fti.errors import DataError

_MEANS_SOMETHING = re.compile(r"[?{}]|%[0-9A-Fa-f]{2}")
"""In the addresses of databases, as Dagster and MLflow write them, and in the progress that DVC shows."""


class Settings(BaseSettings):
    """Every location that FTI reads or writes. Empty URIs mean the embedded default below `home`."""

    model_config = SettingsConfigDict(env_prefix="FTI_", env_file=".env", frozen=True, extra="ignore")

    home: Path = Path(".fti")
    """Folder of all local state."""
    projects: str = "fti.projects.flights,./projects"
    """Comma-separated modules, each with a `project`, and folders (with a slash or a leading dot), whose subfolders
    with a `project.py` are projects. A folder that is not there has no projects."""
    lake_uri: str = ""
    """Root of raw and feature rows."""
    mlflow_uri: str = ""
    """MLflow's tracking server or database."""
    feast_registry_uri: str = ""
    """Database of Feast's registry, an SQLAlchemy URL."""
    online_store_uri: str = ""
    """SQLite file of the online features, or `redis://host:6379/0`."""
    events_uri: str = ""
    """Where accepted events wait: empty for a log below `home`, or `redis://host:6379/0` for a Redis Stream."""
    events_token: str = ""
    """Bearer token that `POST /events` asks for; empty asks for none."""
    dataset_remote: str = ""
    """Folder or `s3://bucket/prefix` to which training datasets are pushed; empty: none."""
    host: str = "127.0.0.1"
    """Address that servers listen on."""
    service_port: int = 3000
    """Port of the first project's prediction service; the others follow."""
    dagster_port: int = 3001
    """Port of Dagster's UI."""
    mlflow_port: int = 5000
    """Port of MLflow's UI."""
    events_port: int = 3100
    """Port of the service that accepts events."""

    @property
    def root(self) -> Path:
        """`home`, absolute. DataError for a name that Dagster, MLflow or DVC would read as another one."""
        root = self.home.expanduser().resolve()
        if found := _MEANS_SOMETHING.search(str(root)):
            raise DataError(
                f"FTI_HOME is {root}: Dagster, MLflow and DVC read {found[0]!r} in a path as something else. Choose a "
                "folder without '?', '{', '}' and '%' before two digits."
            )
        return root

    @property
    def lake(self) -> str:
        return self.lake_uri or str(self.root / "lake")

    @property
    def mlflow(self) -> str:
        return self.mlflow_uri or f"sqlite:///{self.root}/mlflow/mlflow.db"

    @property
    def feast_registry(self) -> str:
        return self.feast_registry_uri or f"sqlite:///{self.root}/feast/registry.db"

    @property
    def online_store(self) -> str:
        return self.online_store_uri or str(self.root / "feast" / "online.db")

    @property
    def project_modules(self) -> tuple[str, ...]:
        """The entries of `projects`: modules and folders."""
        return tuple(name.strip() for name in self.projects.split(",") if name.strip())
