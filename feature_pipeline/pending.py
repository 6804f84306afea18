"""Feature days (or months, where these are kept) that were written since they were last brought online: one small
file each, made before its rows are written.

So `online_features` goes back as far as a correction of the past reaches, whatever was killed in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from fti.files import replace_file
from fti.periods import by_stem
from fti.project import Project
from fti.stores.lake import Lake

Marks = Mapping[str, bytes]
"""Day or month -> what its file held when it was seen."""


def mark(lake: Lake, project: Project, days: Iterable[date]) -> None:
    """`days` are about to be written."""
    folder = _folder(lake, project)
    folder.mkdir(parents=True, exist_ok=True)
    for stem in by_stem(days, project.partition_by):
        replace_file(folder / stem, uuid.uuid4().bytes, durable=False)


def pending(lake: Lake, project: Project) -> Marks:
    """What to bring online, oldest first."""
    files = sorted(file for file in _folder(lake, project).glob("*") if not file.name.startswith("."))
    return {file.name: file.read_bytes() for file in files}


def settle(lake: Lake, project: Project, marks: Marks) -> None:
    """These are online. What was marked again in the meantime stays."""
    for stem, seen in marks.items():
        path = _folder(lake, project) / stem
        if path.exists() and path.read_bytes() == seen:
            path.unlink(missing_ok=True)


def _folder(lake: Lake, project: Project) -> Path:
    return lake.path(f"{project.name}/journal/pending")
