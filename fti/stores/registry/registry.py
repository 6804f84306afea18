"""The model registry: MLflow runs, model versions and aliases, and the journal of promotions."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import polars as pl

from fti.errors import ConflictError, DataError, NotReadyError
from fti.files import file_lock, replace_file
from fti.model.bundle import ModelBundle, save_bundle, write_mlmodel
from fti.model.bundle_files import CARD, EVALUATION, evaluation_in, require_whole_bundle, write_sums
from fti.model.encoder import Encoder
from fti.model.records import Evaluation, ModelInfo
from fti.storage.checksums import sealed
from fti.storage.locks import lock
from fti.storage.sql import database, is_postgresql, schema_url
from fti.stores.registry.promotions import Promotions
from fti.versions.views import ServedModel, served_model

if TYPE_CHECKING:
    import torch
    from mlflow import MlflowClient
    from optuna.storages import BaseStorage

logger = logging.getLogger("fti.registry")

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
CHALLENGER_RUN = "fti.challenger_run"
"""Experiment tag: the run that trained the challenger."""
MODEL_ID, MODEL_SUMS = "fti.model_id", "fti.model_sha256"
"""Run tags: the MLflow model that the run logged, and the SHA-256 of the list of its files' checksums."""


@dataclass(frozen=True)
class ModelVersion:
    """One registered version of a model."""

    name: str
    version: int
    run_id: str
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelRegistry:
    """Models by name; the alias `champion` is the one that serves, `previous` the one that served before.

    MLflow moves an alias without asking what it was, so promotions go through a journal in a database: a promotion
    names the champion it expects, is written down, and only then moves the aliases. One that was cut short is finished
    by the next promotion.
    """

    tracking_uri: str
    root: str
    database: str = ""
    artifacts: str = ""
    """Where models and plots lie, for example `s3://bucket/prefix`; below `root` unless given."""

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client of this registry."""
        from mlflow import MlflowClient

        if is_postgresql(self._database):
            database(self._database)  # makes the schema that MLflow's tables lie in
        Path(self.root).mkdir(parents=True, exist_ok=True)
        can_write = os.access(self.root, os.W_OK)  # the first client of a database makes its tables
        with file_lock(Path(self.root) / ".create.lock") if can_write else nullcontext():
            client = MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
            client.get_experiment("0")
        return client

    def folder(self, name: str) -> Path:
        """Folder of working state of training, for example `checkpoints`."""
        (path := Path(self.root) / name).mkdir(parents=True, exist_ok=True)
        return path

    def experiment(self, name: str) -> str:
        """Id of the experiment called `name`, made on first use."""
        with lock(self._database, "mlflow-experiment"):
            found = self.client.get_experiment_by_name(name)
            if found is not None:
                return str(found.experiment_id)
            served = self.tracking_uri.startswith(("http://", "https://", "databricks"))
            local = self.artifacts or self.folder("artifacts").resolve().as_uri()
            location = None if served else f"{local}/{name}"
            return str(self.client.create_experiment(name, artifact_location=location))

    def studies(self) -> BaseStorage:
        """Optuna's studies: a journal file, or tables in the database where that is PostgreSQL."""
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend

        if is_postgresql(self._database):
            database(self._database)  # makes the schema
            return RDBStorage(schema_url(self._database, "optuna"))
        return JournalStorage(JournalFileBackend(str(self.folder("optuna") / "journal.log")))

    def run_exists(self, run_id: str) -> bool:
        """Whether MLflow has the run and nobody deleted it."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def log_model(self, run_id: str, *, network: torch.nn.Module, encoder: Encoder, info: ModelInfo) -> str:
        """Log a model bundle as an MLflow model of the run; returns the model's id."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        run = self.client.get_run(run_id)
        params = {name: str(value) for name, value in info.params.items()}
        model = self.client.create_logged_model(run.info.experiment_id, "model", run_id, params=params)
        folder = self.folder("models") / f".{model.model_id}.{uuid.uuid4().hex}"
        save_bundle(folder, network=network, encoder=encoder, info=info)
        write_mlmodel(folder, encoder, run_id=run_id, model_id=model.model_id)
        self.client.set_tag(run_id, MODEL_SUMS, write_sums(folder))
        self.client.log_model_artifacts(model.model_id, str(folder))
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        self.client.set_tag(run_id, MODEL_ID, model.model_id)
        os.replace(folder, self.folder("models") / model.model_id)
        return str(model.model_id)

    def set_challenger(self, name: str, run_id: str) -> None:
        """Name the run whose model is to be evaluated."""
        self.client.set_experiment_tag(self.experiment(name), CHALLENGER_RUN, run_id)

    def challenger_run(self, name: str) -> str:
        """The run whose model is to be evaluated."""
        found = self.client.get_experiment_by_name(name)
        if found is None or CHALLENGER_RUN not in found.tags:
            raise NotReadyError(f"{name}: no challenger yet. Materialize {name}/challenger first.")
        return str(found.tags[CHALLENGER_RUN])

    def run_bundle(self, run_id: str) -> ModelBundle:
        """The model that a run logged; DataError when neither the copy here nor that of the registry is whole."""
        folder, fetched = self._download(run_id)
        try:
            return ModelBundle.load(folder)
        except Exception:  # a copy of a version before, without checksums, may have been fetched in part
            if fetched:
                raise
        return ModelBundle.load(self._fetch(run_id))

    def model_id(self, run_id: str) -> str:
        """Id of the MLflow model that a run logged."""
        tags = self.client.get_run(run_id).data.tags
        if MODEL_ID not in tags:
            raise NotReadyError(f"run {run_id} logged no model: it has not finished. Materialize challenger again.")
        return str(tags[MODEL_ID])

    def log_evaluation(
        self, run_id: str, evaluation: Evaluation, pictures: Mapping[str, bytes] | None = None, card: str = ""
    ) -> None:
        """Keep `evaluation` and the model card with the run and with its model, so that they travel with every copy of
        the model; pictures (file name to content) stay with the run."""
        model_id = self.model_id(run_id)
        text = json.dumps(sealed(json.loads(json.dumps(evaluation.to_json()))), indent=1)
        with TemporaryDirectory(dir=self.folder("tmp")) as folder:
            (Path(folder) / EVALUATION).write_text(text)
            (Path(folder) / CARD).write_text(card)
            self.client.log_model_artifacts(model_id, folder)
            for name, content in (pictures or {}).items():
                (Path(folder) / name).write_bytes(content)
            self.client.log_artifacts(run_id, folder, "evaluation")
        replace_file(self._download(run_id)[0] / EVALUATION, text)

    def evaluation(self, run_id: str) -> Evaluation:
        """What `log_evaluation` kept."""
        found = evaluation_in(self._download(run_id)[0])
        if found is None:
            raise NotReadyError(f"run {run_id} has not been evaluated. Materialize evaluation first.")
        return found

    def register(self, run_id: str, name: str, tags: Mapping[str, Any], description: str = "") -> ModelVersion:
        """The version of the model that `run_id` logged; made, with alias `challenger`, unless it exists."""
        with lock(self._database, "mlflow-register"):
            if not self.client.search_registered_models(f"name = '{name}'"):
                self.client.create_registered_model(name)
            found = [v for v in self.client.search_model_versions(f"name = '{name}'") if v.run_id == run_id]
            if found:
                return _version(found[0])
            model = self.client.get_logged_model(self.model_id(run_id))
            text = {key: str(value) for key, value in tags.items()}
            made = self.client.create_model_version(
                name, model.artifact_location, run_id, tags=text, model_id=model.model_id, description=description
            )
            self.client.set_registered_model_alias(name, CHALLENGER, made.version)
        return _version(made)

    def version(self, name: str, version: int) -> ModelVersion:
        """Version `version` of the model called `name`."""
        return _version(self.client.get_model_version(name, str(version)))

    def champion(self, name: str) -> ModelVersion | None:
        """The version that serves."""
        return self.by_alias(name, CHAMPION)

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that `alias` points to; None when there is no such alias."""
        from mlflow.exceptions import MlflowException

        try:
            return _version(self.client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise

    def served(self) -> list[ServedModel]:
        """The versions of all models that are champion or were the champion before, with what they read."""
        if self.tracking_uri.startswith("sqlite:///") and not Path(self.tracking_uri[len("sqlite:///") :]).exists():
            return []  # making an empty database takes seconds
        found = []
        for model in self.client.search_registered_models():
            for alias in (CHAMPION, PREVIOUS):
                if (version := self.by_alias(model.name, alias)) is not None:
                    tags = {**self.client.get_run(version.run_id).data.tags, **version.tags}
                    found.append(served_model(model.name, version.version, alias, tags))
        return found

    def promote(self, name: str, version: int, *, expected: int | None, reason: str) -> None:
        """Make `version` the champion if the champion still is `expected`; ConflictError otherwise."""
        with lock(self._database, "promote"):
            self._finish(name)
            champion = self.champion(name)
            current = champion.version if champion else None
            if current != expected:
                raise ConflictError(
                    f"{name}: the champion is version {current}, not {expected} as this promotion expected. "
                    "Evaluate the challenger against the new champion and promote again."
                )
            self.promotions.add(name, version, previous=current, reason=reason)
            self._finish(name)

    def finish_promotions(self, name: str) -> None:
        """Do what is left of promotions whose process was killed."""
        with lock(self._database, "promote"):
            self._finish(name)

    @property
    def promotions(self) -> Promotions:
        """The journal of all models."""
        return Promotions(self._database, Path(self.root) / "promotions.db")

    @property
    def _database(self) -> str:
        return self.database or f"sqlite:///{self.root}/fti.db"

    def journal(self, name: str) -> pl.DataFrame:
        """Promotions of `name`, oldest first: version, previous, reason, promoted_at (UTC)."""
        return self.promotions.table(name)

    def bundle(self, version: ModelVersion) -> ModelBundle:
        """The model of `version`, downloaded once."""
        return self.run_bundle(version.run_id)

    def _finish(self, name: str) -> None:
        """Move the aliases of promotions that are written down but not done."""
        for promotion in self.promotions.of(name):
            if not promotion.is_applied:
                if promotion.previous is not None and promotion.previous != promotion.version:
                    self.client.set_registered_model_alias(name, PREVIOUS, str(promotion.previous))
                self.client.set_registered_model_alias(name, CHAMPION, str(promotion.version))
                self.promotions.settle(promotion.number)

    def _download(self, run_id: str) -> tuple[Path, bool]:
        """Local folder of a run's model, and whether it was fetched now: because it was not there, or not whole."""
        folder, digest = self._place(run_id)
        if not folder.exists():
            return self._fetch(run_id), True
        try:
            require_whole_bundle(folder, digest)
        except DataError as error:
            logger.warning("%s: fetched again", error)
            return self._fetch(run_id), True
        return folder, False

    def _place(self, run_id: str) -> tuple[Path, str]:
        """Where the model of a run lies here, and the SHA-256 of its list of checksums."""
        tags = self.client.get_run(run_id).data.tags
        return self.folder("models") / self.model_id(run_id), tags.get(MODEL_SUMS, "")

    def _fetch(self, run_id: str) -> Path:
        """Fetch the model of a run from the registry, and put it in the place of what is here once it is whole."""
        from mlflow.artifacts import download_artifacts

        folder, digest = self._place(run_id)
        location = self.client.get_logged_model(folder.name).artifact_location
        with (
            file_lock(self.folder("locks") / f"{folder.name}.lock"),
            TemporaryDirectory(dir=self.folder("tmp")) as fetched,
        ):
            found = download_artifacts(artifact_uri=location, dst_path=fetched, tracking_uri=self.tracking_uri)
            try:
                require_whole_bundle(Path(found), digest)
            except DataError as error:
                raise DataError(
                    f"the model of run {run_id} is damaged in the registry, at {location}: {error} Put a whole copy "
                    "there, or make another version the champion."
                ) from error
            if folder.exists():
                os.replace(folder, Path(fetched) / "damaged")
            os.replace(found, folder)
        return folder


def _version(found: Any) -> ModelVersion:
    return ModelVersion(found.name, int(found.version), found.run_id, found.source, dict(found.tags))
