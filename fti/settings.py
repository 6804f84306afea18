"""Where things run: `Settings`, read once from `FTI_*` variables and `.env`, frozen afterwards."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from fti.errors import DataError
from fti.storage.sql import is_postgresql, schema_url

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
    storage_uri: str = ""
    """`s3://bucket/prefix` for the state of a team; empty: `home`. Needs `database_url` and `online_store_uri`."""
    database_url: str = ""
    """`postgresql://user:password@host/database` for journals, locks, MLflow, Feast, Optuna and Dagster, each in a
    schema of its own; empty: SQLite files below `home`."""
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
        return f"{self.storage}/lake"

    @property
    def storage(self) -> str:
        """Where files live. DataError for an address where not all state would be found by other machines."""
        if not self.storage_uri:
            return str(self.root)
        if not self.storage_uri.startswith("s3://"):
            raise DataError(
                f"FTI_STORAGE_URI is {self.storage_uri}: give s3://bucket/prefix, or leave it out and set FTI_HOME to "
                "a folder."
            )
        for name, value in (("FTI_DATABASE_URL", self.database_url), ("FTI_ONLINE_STORE_URI", self.online_store_uri)):
            if not value:
                raise DataError(
                    f"FTI_STORAGE_URI is set and {name} is not: its part of the state would stay on this machine. "
                    "Set both, or neither."
                )
        return self.storage_uri.rstrip("/")

    @property
    def database(self) -> str:
        """URL of FTI's own tables."""
        if self.database_url and not is_postgresql(self.database_url):
            raise DataError(
                "FTI_DATABASE_URL: give postgresql://user:password@host/database, or leave it out for SQLite."
            )
        return self.database_url or f"sqlite:///{self.root}/fti.db"

    @property
    def mlflow(self) -> str:
        return self.mlflow_uri or self._database_of("mlflow") or f"sqlite:///{self.root}/mlflow/mlflow.db"

    @property
    def feast_registry(self) -> str:
        return self.feast_registry_uri or self._database_of("feast") or f"sqlite:///{self.root}/feast/registry.db"

    def _database_of(self, tool: str) -> str:
        """The database for another tool's tables; empty without one that is shared."""
        return schema_url(self.database, tool) if self.database_url else ""

    @property
    def online_store(self) -> str:
        return self.online_store_uri or str(self.root / "feast" / "online.db")

    @property
    def artifacts(self) -> str:
        """Where MLflow's artifacts lie; empty for its own folder."""
        return f"{self.storage}/mlflow" if self.storage_uri else ""

    @property
    def datasets(self) -> str:
        """Where training datasets are pushed; empty for nowhere."""
        return self.dataset_remote or (f"{self.storage}/datasets" if self.storage_uri else "")

    @property
    def project_modules(self) -> tuple[str, ...]:
        """The entries of `projects`: modules and folders."""
        return tuple(name.strip() for name in self.projects.split(",") if name.strip())
