"""Where dataset versions are shared: a DVC remote (a folder, or a prefix of an S3 bucket) with an index beside it.

DVC's remote holds content by its hash and knows no versions. So each version has a small JSON file
`<remote>/versions/<project>/<version>.json`, written last: a version in the index is there as a whole, and one that
is not is pushed again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fti.errors import DataError, NotReadyError
from fti.files import replace_file
from fti.storage.blobs import Blobs, open_blobs
from fti.stores.datasets.cache import cached, manifest_in, patiently

if TYPE_CHECKING:
    from dvc.repo import Repo

NAME = "fti"
INDEX = "versions"
T = TypeVar("T")
_md5 = partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True)
class DatasetRemote:
    """The remote at `url` of the DVC repository in `root`. S3 takes its credentials, region and endpoint from the
    usual `AWS_*` variables."""

    url: str
    root: str

    def config(self) -> dict[str, Any]:
        """DVC's configuration of the remote."""
        remote = {"url": self._url}
        if self._is_s3 and (endpoint := os.environ.get("AWS_ENDPOINT_URL")):
            remote["endpointurl"] = endpoint
        return {"core": {"remote": NAME}, "remote": {NAME: remote}}

    def push(self, repo: Repo, files: Sequence[Path]) -> None:
        """Push the versions of these `.dvc` files that the index lacks, verify them there, then put them into it.

        What an earlier push, cut short, left behind is pushed with them.
        """
        here = set(self._ask(self._index))
        for file in files:
            if file.stem in here:
                continue
            self._ask(lambda file=file: self._drop_partial(file.stem))  # type: ignore[misc]
            self._ask(lambda file=file: patiently(lambda: repo.push(targets=[str(file)], remote=NAME)))  # type: ignore[misc]
            self._ask(lambda file=file: self._verify(file.stem))  # type: ignore[misc]
            manifest = manifest_in(file.with_suffix(""))
            entry = {
                "version": file.stem,
                "project": file.parent.name,
                "made": datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(),
                "rows": manifest.rows,
                "service": manifest.feature_service,
                "dvc": file.read_text(),
            }
            self._ask(lambda entry=entry: self._write(entry))  # type: ignore[misc]

    def entries(self) -> dict[str, dict[str, Any]]:
        """Version -> its entry in the index."""
        return {version: self._entry(path) for version, path in self._ask(self._index).items()}

    def describe(self, version: str) -> Path:
        """The `.dvc` file of a version of the remote, written here as it was made there."""
        found = self._ask(self._index)
        if version not in found:
            raise NotReadyError(
                f"no training dataset {version!r} in {self.root} or {self.url}. See `fti dataset list`."
            )
        entry = self._entry(found[version])
        file = Path(self.root, entry["project"], f"{version}.dvc")
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, entry["dvc"])
        made = datetime.fromisoformat(entry["made"]).timestamp()
        os.utime(file, (made, made))
        return file

    @property
    def _is_s3(self) -> bool:
        return self.url.startswith("s3://")

    @property
    def _url(self) -> str:
        return self.url if "://" in self.url else str(Path(self.url).expanduser().resolve())

    @property
    def _blobs(self) -> Blobs:
        return open_blobs(self._url)

    def _index(self) -> dict[str, str]:
        """Version -> its index file."""
        keys = (blob.key for blob in self._blobs.entries(INDEX))
        return {Path(key).stem: key for key in keys if key.endswith(".json")}

    def _entry(self, key: str) -> dict[str, Any]:
        text = self._ask(lambda: self._blobs.read(key))
        try:
            entry: dict[str, Any] = json.loads(text)
        except ValueError:
            entry = {}
        if not {"project", "made", "rows", "service", "dvc"} <= set(entry):
            address = self._blobs.address(key)
            raise DataError(
                f"{address} is no entry of a dataset remote's index: remove it, the next save writes its own"
            )
        return entry

    def _write(self, entry: dict[str, Any]) -> None:
        self._blobs.write(f"{INDEX}/{entry['project']}/{entry['version']}.json", json.dumps(entry, indent=1).encode())

    def make_latest(self, project: str, version: str) -> None:
        """The version that `latest` gives from now on."""
        self._ask(lambda: self._blobs.write(f"{INDEX}/{project}/latest", version.encode()))

    def latest(self, project: str) -> str:
        """The version that was saved last for `project`; empty when there is none."""
        key = f"{INDEX}/{project}/latest"
        return self._ask(lambda: self._blobs.read(key).decode().strip() if self._blobs.exists(key) else "")

    def _verify(self, version: str) -> None:
        """Every object of the version is in the remote, as large as here; the list of files byte by byte."""
        listed = cached(self.root, f"{version}.dir").read_bytes()
        if self._blobs.read(_object(f"{version}.dir")) != listed:
            raise OSError(f"the file list of {version} is not what was pushed")
        for entry in json.loads(listed):
            here = cached(self.root, entry["md5"])
            same = self._blobs.size(_object(entry["md5"])) == here.stat().st_size
            if not same or not (self._is_s3 or self._is_whole(entry["md5"])):
                raise OSError(f"{entry['relpath']} of {version} is not what was pushed")

    def _drop_partial(self, version: str) -> None:
        """Remove what a push that was killed has written in part to a folder: DVC takes an object for whole that is
        there."""
        if self._is_s3:
            return
        listed = json.loads(cached(self.root, f"{version}.dir").read_bytes())
        for name in (f"{version}.dir", *(entry["md5"] for entry in listed)):
            if self._blobs.exists(_object(name)) and not self._is_whole(name):
                self._blobs.delete(_object(name))

    def _is_whole(self, name: str) -> bool:
        """Whether an object in a folder is what its name says."""
        with Path(self._blobs.address(_object(name))).open("rb") as file:
            return hashlib.file_digest(file, _md5).hexdigest() == name.removesuffix(".dir")

    def _ask(self, work: Callable[[], T]) -> T:
        """What `work` returns; what keeps the remote from answering becomes a DataError that names it."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
        from dvc.exceptions import DvcException

        try:
            return work()
        except (DvcException, DataError, OSError, BotoCoreError, ClientError) as error:
            raise DataError(
                f"the dataset remote {self.url} cannot be used ({type(error).__name__}: {error}). What was saved is "
                "whole on this machine; mend FTI_DATASET_REMOTE or the AWS_* variables and save again."
            ) from error


def _object(name: str) -> str:
    """Where DVC keeps the object whose hash is `name`."""
    return f"files/md5/{name[:2]}/{name[2:]}"
