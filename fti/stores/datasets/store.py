"""The dataset store: training datasets as Parquet, versioned by content through DVC, shared if a remote is set."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import yaml

from fti.errors import DataError, NotReadyError
from fti.files import file_lock, replace_file
from fti.model.records import Manifest

if TYPE_CHECKING:
    from dvc.repo import Repo

    from fti.stores.datasets.remote import DatasetRemote

from fti.stores.datasets.cache import MANIFEST, cached, manifest_in, patiently

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class TrainingDataset:
    """One version: rows by split and the manifest that says what they are."""

    version: str
    splits: Mapping[str, pl.DataFrame]
    manifest: Manifest


@dataclass(frozen=True)
class DatasetVersion:
    """What is known of a version without reading its rows."""

    version: str
    project: str
    made: datetime
    """When it was first saved, UTC."""
    rows: Mapping[str, int]
    service: str
    is_latest: bool
    is_local: bool
    is_remote: bool


@dataclass(frozen=True)
class DatasetStore:
    """A DVC repository without source control: `<root>/<project>/<version>/` beside its `<version>.dvc`.

    A version is DVC's MD5 of the folder, so equal data has one version and is stored once. `remote` is a folder or an
    `s3://bucket/prefix`: what is saved is pushed there, and what is missing here is pulled from there.
    """

    root: str
    remote: str = ""
    is_team: bool = False
    """Whether the remote is where the state of several machines lives, and not only a copy of what is here."""

    def save(self, project: str, splits: Mapping[str, pl.DataFrame], manifest: Manifest) -> str:
        """Store the splits and the manifest, make them the latest of `project`, push and return their version."""
        staged = self._folder(project) / f".staged-{uuid.uuid4().hex}"
        with self.repository() as repo:
            try:
                staged.mkdir(parents=True)
                for name, rows in splits.items():
                    rows.write_parquet(staged / f"{name}.parquet", compression="zstd")
                (staged / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=1, sort_keys=True))
                version = self._publish(repo, project, staged)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
                staged.with_name(f"{staged.name}.dvc").unlink(missing_ok=True)
            replace_file(self._folder(project) / "latest", version)
            if self._shared:
                self._shared.push(repo, self._local())
                self._shared.make_latest(project, version)
        return version

    def load(self, version: str) -> TrainingDataset:
        """The dataset called `version`, verified against its hash; from the remote when it is not here."""
        folder = self._find(version)
        self._verify(folder)
        splits = {path.stem: pl.read_parquet(path, glob=False) for path in sorted(folder.glob("*.parquet"))}
        return TrainingDataset(version, splits, manifest_in(folder))

    def manifest(self, version: str) -> Manifest:
        """The manifest of `version`, without its rows."""
        return manifest_in(self._find(version))

    def latest(self, project: str) -> str:
        """The version saved last for `project`: here, or by any machine of the team."""
        version = self._latest(project)
        if not version:
            raise NotReadyError(f"{project}: no training dataset yet. Materialize {project}/training_dataset first.")
        return version

    def resolve(self, prefix: str) -> str:
        """The only version that begins with `prefix`."""
        here = {file.stem for file in self._local()}
        known = here if prefix in here or not self._shared else here | set(self._shared.entries())
        found = sorted(version for version in known if version.startswith(prefix))
        if len(found) == 1:
            return found[0]
        if not found:
            raise NotReadyError(
                f"no training dataset {prefix!r} in {self.root}{self._and_remote()}. See `fti dataset list`."
            )
        raise DataError(f"{prefix!r} is the beginning of {len(found)} versions: {', '.join(found)}. Write more of it.")

    def versions(self) -> list[DatasetVersion]:
        """All versions, here and in the remote, newest first."""
        remote = self._shared.entries() if self._shared else {}
        here = {file.stem: file for file in self._local()}
        found = [self._described(file, version in remote) for version, file in here.items()]
        found += [
            DatasetVersion(version, entry["project"], datetime.fromisoformat(entry["made"]), entry["rows"],
                           entry["service"], False, False, True)
            for version, entry in remote.items()
            if version not in here
        ]  # fmt: skip
        return sorted(found, key=lambda version: version.made, reverse=True)

    def pull(self, version: str, to: Path | None = None) -> Path:
        """Bring `version` here, and a copy of its files into the new folder `to` when given; returns the folder."""
        folder = self._find(version)
        self._verify(folder)
        if to is None:
            return folder
        if to.exists():
            raise DataError(f"{to} exists already: name a folder that does not")
        staged = to.with_name(f".{to.name}.{uuid.uuid4().hex}")
        shutil.copytree(folder, staged)
        os.replace(staged, to)
        return to

    @property
    def _shared(self) -> DatasetRemote | None:
        from fti.stores.datasets.remote import DatasetRemote

        return DatasetRemote(self.remote, self.root) if self.remote else None

    def _and_remote(self) -> str:
        return f" or {self.remote}" if self.remote else ""

    def _local(self) -> list[Path]:
        """The `.dvc` file of every version that was saved or pulled here."""
        return sorted(path for path in Path(self.root).glob("*/*.dvc") if not path.name.startswith("."))

    def _described(self, file: Path, is_remote: bool) -> DatasetVersion:
        manifest, project = self.manifest(file.stem), file.parent.name
        is_latest = self._latest(project) == file.stem
        made = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        rows, service = manifest.rows, manifest.feature_service
        return DatasetVersion(file.stem, project, made, rows, service, is_latest, True, is_remote)

    def _latest(self, project: str) -> str:
        if self._shared and self.is_team and (version := self._shared.latest(project)):
            return version
        pointer = self._folder(project) / "latest"
        return pointer.read_text().strip() if pointer.exists() else ""

    def _folder(self, project: str) -> Path:
        return Path(self.root) / project

    @contextmanager
    def repository(self) -> Iterator[Repo]:
        """The DVC repository, made on first use; one process at a time, since DVC gives up on a busy lock."""
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.ERROR)
        root = Path(self.root)
        root.mkdir(parents=True, exist_ok=True)
        with file_lock(root / ".lock"):
            if not (root / ".dvc" / "config").exists():
                shutil.rmtree(root / ".dvc", ignore_errors=True)
                with Repo.init(str(root), no_scm=True) as made, made.config.edit() as config:
                    config["core"].update(analytics=False, check_update=False)
            with Repo(str(root), config=self._shared.config() if self._shared else None) as repo:
                yield repo

    def _publish(self, repo: Repo, project: str, staged: Path) -> str:
        """Add the folder to the cache, then rename it and its `.dvc` file after its content."""
        (stage,) = patiently(lambda: repo.add(str(staged)))
        version = str(stage.outs[0].hash_info.value).removesuffix(".dir")
        folder = self._folder(project) / version
        if not folder.exists():
            os.replace(staged, folder)
        if not (file := folder.with_name(f"{version}.dvc")).exists():  # its time tells when the version was made
            description = yaml.safe_load(staged.with_name(f"{staged.name}.dvc").read_text())
            description["outs"][0]["path"] = version
            replace_file(file, yaml.safe_dump(description, sort_keys=False))
        return version

    def _find(self, version: str) -> Path:
        """Folder of `version`, brought back from the DVC cache or the remote when it is not here."""
        found = sorted(Path(self.root).glob(f"*/{version}.dvc"))
        if not found and self._shared:
            found = [self._shared.describe(version)]
        if not found:
            raise NotReadyError(f"no training dataset {version!r} in {self.root}. Materialize training_dataset first.")
        folder = found[0].with_suffix("")
        if not folder.exists():
            from dvc.exceptions import DvcException

            try:
                with self.repository() as repo:
                    if self._shared:
                        patiently(lambda: repo.fetch(targets=[str(found[0])]))
                    patiently(lambda: repo.checkout(targets=[str(found[0])], force=True))
            except DvcException as error:
                remedy = f"Run `dvc pull {found[0].name}` in {found[0].parent}, or materialize training_dataset again."
                raise DataError(f"training dataset {version} is not in the DVC cache: {error}. {remedy}") from error
        return folder

    def _verify(self, folder: Path) -> None:
        """Compare every file with the hashes that DVC noted when it was saved."""
        noted = cached(self.root, f"{folder.name}.dir")
        remedy = f"Restore it: `dvc checkout --force {folder.name}.dvc` in {folder.parent}."
        if not noted.exists():
            raise DataError(f"training dataset {folder.name}: the DVC cache lost its file list. Materialize it again.")
        for entry in json.loads(noted.read_text()):
            path = folder / entry["relpath"]
            if not path.exists():
                raise DataError(f"training dataset {folder.name}: {path.name} is missing. {remedy}")
            if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != entry["md5"]:
                raise DataError(f"training dataset {folder.name}: {path.name} is not what was saved. {remedy}")
