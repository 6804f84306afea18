"""The dataset store: training datasets as Parquet, versioned by content through DVC."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml
from filelock import FileLock

from fti.errors import DataError, NotReadyError

if TYPE_CHECKING:
    from dvc.repo import Repo

SPLITS = ("train", "validation", "test")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TrainingDataset:
    """One version: rows by split and the manifest that says what they are.

    The manifest holds `project`, `feature_service`, `feature_views`, `numeric`, `categorical`, `label`, `ranges`,
    `rows`, `statistics`, `reference` (see `fti.drift.reference`) and what it was created from.
    """

    version: str
    splits: Mapping[str, pl.DataFrame]
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class DatasetStore:
    """A DVC repository without source control: `<root>/<project>/<version>/` beside its `<version>.dvc`.

    A version is DVC's MD5 of the folder, so equal data has one version and is stored once.
    """

    root: str

    def save(self, project: str, splits: Mapping[str, pl.DataFrame], manifest: Mapping[str, Any]) -> str:
        """Store the splits and the manifest, make them the latest of `project` and return their version."""
        staged = self._folder(project) / f".staged-{uuid.uuid4().hex}"
        with self._repo() as repo:
            try:
                staged.mkdir(parents=True)
                for name, rows in splits.items():
                    rows.write_parquet(staged / f"{name}.parquet", compression="zstd")
                (staged / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
                version = self._publish(repo, project, staged)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
                staged.with_name(f"{staged.name}.dvc").unlink(missing_ok=True)
            _replace_text(self._folder(project) / "latest", version)
        return version

    def load(self, version: str) -> TrainingDataset:
        """The dataset called `version`, verified against its hash."""
        folder = self._find(version)
        self._verify(folder)
        splits = {path.stem: pl.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
        return TrainingDataset(version, splits, json.loads((folder / MANIFEST).read_text()))

    def latest(self, project: str) -> str:
        """The version saved last for `project`."""
        pointer = self._folder(project) / "latest"
        if not pointer.exists():
            raise NotReadyError(f"{project}: no training dataset yet. Materialize {project}/training_dataset first.")
        return pointer.read_text().strip()

    def _folder(self, project: str) -> Path:
        return Path(self.root) / project

    @contextmanager
    def _repo(self) -> Iterator[Repo]:
        """The DVC repository, made on first use; one process at a time, since DVC gives up on a busy lock."""
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.ERROR)
        root = Path(self.root)
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            if not (root / ".dvc" / "config").exists():
                shutil.rmtree(root / ".dvc", ignore_errors=True)
                with Repo.init(str(root), no_scm=True) as made, made.config.edit() as config:
                    config["core"].update(analytics=False, check_update=False)
            with Repo(str(root)) as repo:
                yield repo

    def _publish(self, repo: Repo, project: str, staged: Path) -> str:
        """Add the folder to the cache, then rename it and its `.dvc` file after its content."""
        (stage,) = repo.add(str(staged))
        version = str(stage.outs[0].hash_info.value).removesuffix(".dir")
        folder = self._folder(project) / version
        if not folder.exists():
            os.replace(staged, folder)
        description = yaml.safe_load(staged.with_name(f"{staged.name}.dvc").read_text())
        description["outs"][0]["path"] = version
        _replace_text(self._dvc_file(folder), yaml.safe_dump(description, sort_keys=False))
        return version

    def _find(self, version: str) -> Path:
        """Folder of `version`, brought back from the DVC cache or remote when only its `.dvc` file is here."""
        found = sorted(Path(self.root).glob(f"*/{version}.dvc"))
        if not found:
            raise NotReadyError(f"no training dataset {version!r} in {self.root}. Materialize training_dataset first.")
        folder = found[0].with_suffix("")
        if not folder.exists():
            from dvc.exceptions import DvcException

            try:
                with self._repo() as repo:
                    repo.checkout(targets=[str(found[0])], force=True)
            except DvcException as error:
                remedy = f"Run `dvc pull {found[0].name}` in {found[0].parent}, or materialize training_dataset again."
                raise DataError(f"training dataset {version} is not in the DVC cache: {error}. {remedy}") from error
        return folder

    def _verify(self, folder: Path) -> None:
        """Compare every file with the hashes that DVC noted when it was saved."""
        noted = Path(self.root, ".dvc", "cache", "files", "md5", folder.name[:2], f"{folder.name[2:]}.dir")
        remedy = f"Restore it: `dvc checkout --force {folder.name}.dvc` in {folder.parent}."
        if not noted.exists():
            raise DataError(f"training dataset {folder.name}: the DVC cache lost its file list. Materialize it again.")
        for entry in json.loads(noted.read_text()):
            path = folder / entry["relpath"]
            if not path.exists():
                raise DataError(f"training dataset {folder.name}: {path.name} is missing. {remedy}")
            if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != entry["md5"]:
                raise DataError(f"training dataset {folder.name}: {path.name} is not what was saved. {remedy}")

    @staticmethod
    def _dvc_file(folder: Path) -> Path:
        return folder.with_name(f"{folder.name}.dvc")


def _replace_text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    aside.write_text(text)
    os.replace(aside, path)
