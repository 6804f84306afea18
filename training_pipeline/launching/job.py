"""A training job: everything that one training depends on, as JSON that travels to the process that trains."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from fti.errors import NotReadyError
from fti.project import Project
from fti.stores.datasets.store import DatasetStore
from fti.stores.registry.registry import ModelRegistry

CODE = (
    "training_pipeline.models.build",
    "training_pipeline.fitting.datamodule",
    "training_pipeline.fitting.fit",
    "training_pipeline.fitting.learn",
    "training_pipeline.models.trees",
    "training_pipeline.models.blend",
    "training_pipeline.models.linear",
    "fti.model.encoder",
    "fti.model.target",
)
"""Modules that, beside the model's own, decide what a training gives."""


@dataclass(frozen=True)
class TrainingJob:
    """One training. Equal jobs give the same model, so a finished one is not done again."""

    project: str
    build: str
    dataset_version: str
    params: Mapping[str, Any]
    seed: int
    max_epochs: int
    tracking_uri: str
    registry_root: str
    dataset_root: str
    dataset_remote: str = ""
    database: str = ""
    artifacts: str = ""
    is_team: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of the MLflow run, for example the Dagster run."""

    @cached_property
    def key(self) -> str:
        """Hash of what decides the result: dataset, parameters, seed, epochs, code and torch."""
        names = ("project", "build", "dataset_version", "params", "seed", "max_epochs")
        decides = {name: getattr(self, name) for name in names}
        decides["code"] = [_source_hash(name) for name in (*CODE, self.build.partition(":")[0])]
        decides["packages"] = [version(name) for name in ("torch", "pytorch-lightning", "scikit-learn", "lightgbm")]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def folder(self) -> Path:
        """Checkpoints, the MLflow run's id and, at the end, the result."""
        return self.registry.folder("checkpoints") / self.key

    @cached_property
    def registry(self) -> ModelRegistry:
        return ModelRegistry(self.tracking_uri, self.registry_root, self.database, self.artifacts)

    @cached_property
    def datasets(self) -> DatasetStore:
        return DatasetStore(self.dataset_root, self.dataset_remote, self.is_team)

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


def training_job(
    project: Project,
    datasets: DatasetStore,
    registry: ModelRegistry,
    *,
    dataset_version: str,
    params: Mapping[str, Any],
    max_epochs: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> TrainingJob:
    """The job that trains the project's model on a dataset."""
    return TrainingJob(
        project=project.name,
        build=str(project.model.build),
        dataset_version=dataset_version,
        params=dict(params),
        seed=project.model.seed,
        max_epochs=max_epochs or project.model.max_epochs,
        tracking_uri=registry.tracking_uri,
        registry_root=registry.root,
        dataset_root=datasets.root,
        dataset_remote=datasets.remote,
        database=registry.database,
        artifacts=registry.artifacts,
        is_team=datasets.is_team,
        tags=dict(tags or {}),
    )


def _source_hash(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise NotReadyError(
            f"Model.build names the module {module!r}, which cannot be found: install it or mend the name"
        )
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
