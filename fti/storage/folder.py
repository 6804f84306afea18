"""Blobs as files below a folder of this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fti.files import create_file, replace_file
from fti.storage.blob import Blob


@dataclass(frozen=True)
class Folder:
    """Blobs as files below a folder of this machine."""

    uri: str

    @property
    def path(self) -> Path:
        return Path(self.uri)

    def at(self, prefix: str) -> Folder:
        """The blobs below `prefix`, as an address of its own."""
        return Folder(str(self.path / prefix))

    def address(self, key: str) -> str:
        """What other libraries open: the file's path."""
        return str(self.path / key)

    @property
    def options(self) -> dict[str, str] | None:
        """Storage options for polars."""
        return None

    def read(self, key: str) -> bytes:
        """The whole blob; FileNotFoundError where there is none."""
        return (self.path / key).read_bytes()

    def exists(self, key: str) -> bool:
        return (self.path / key).exists()

    def size(self, key: str) -> int:
        """Bytes of the blob; FileNotFoundError where there is none."""
        return (self.path / key).stat().st_size

    def write(self, key: str, content: bytes) -> None:
        """Put `content` in the place of what the blob holds."""
        replace_file(self.path / key, content)

    def create(self, key: str, content: bytes) -> bool:
        """Write a blob that is not there yet; whether it was this call that made it."""
        return create_file(self.path / key, content)

    def entries(self, prefix: str = "", *, recursive: bool = True) -> Iterator[Blob]:
        """The blobs below the folder `prefix` (or right in it), hidden ones (`.name`) left out."""
        for folder, folders, names in os.walk(self.path / prefix):
            folders[:] = sorted(name for name in folders if name[0] != "." and recursive)
            for name in sorted(name for name in names if name[0] != "."):
                path = Path(folder) / name
                try:
                    about = path.stat()
                except FileNotFoundError:  # deleted in this moment
                    continue
                modified = datetime.fromtimestamp(about.st_mtime, UTC)
                yield Blob(path.relative_to(self.path).as_posix(), about.st_size, modified)

    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders right below `prefix`."""
        root = self.path / prefix
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else []

    def delete(self, *keys: str) -> None:
        """Delete the blobs, in this order; one that is not there is no error."""
        for key in keys:
            (self.path / key).unlink(missing_ok=True)

    def fetch(self, key: str, target: Path) -> None:
        """Copy a blob into a new file `target`."""
        shutil.copyfile(self.path / key, target)
