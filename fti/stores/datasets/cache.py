"""A dataset's manifest, DVC's cache of a repository, and its lock."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fti.model.records import Manifest

MANIFEST = "manifest.json"
PATIENCE = 300
"""Seconds to wait while somebody else holds DVC's own lock."""
T = TypeVar("T")


def manifest_in(folder: Path) -> Manifest:
    """The manifest of the version in `folder`."""
    return Manifest.from_json(json.loads((folder / MANIFEST).read_text()), folder / MANIFEST)


def cached(root: str, name: str) -> Path:
    """Where DVC's cache keeps the object whose hash is `name`."""
    return Path(root, ".dvc", "cache", "files", "md5", name[:2], name[2:])


def patiently(work: Callable[[], T]) -> T:
    """What `work` returns, done again while a `dvc` command of somebody else holds the repository's lock."""
    from dvc.lock import LockError

    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except LockError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
