"""Feature days that were written since they were last brought online: one small file each, made before the day is.

So `online_features` goes back as far as a correction of the past reaches, whatever was killed in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from fti.files import replace_file
from fti.project import Project
from fti.stores.lake import Lake

Marks = Mapping[date, bytes]
"""Day -> what its file held when it was seen."""


def mark(lake: Lake, project: Project, days: Iterable[date]) -> None:
    """`days` are about to be written."""
    folder = _folder(lake, project)
    folder.mkdir(parents=True, exist_ok=True)
    for day in days:
        replace_file(folder / str(day), uuid.uuid4().bytes, durable=False)


def pending(lake: Lake, project: Project) -> Marks:
    """Days to bring online, oldest first."""
    files = sorted(file for file in _folder(lake, project).glob("*") if not file.name.startswith("."))
    return {date.fromisoformat(file.name): file.read_bytes() for file in files}


def settle(lake: Lake, project: Project, marks: Marks) -> None:
    """These days are online. A day that was marked again in the meantime stays."""
    for day, seen in marks.items():
        path = _folder(lake, project) / str(day)
        if path.exists() and path.read_bytes() == seen:
            path.unlink(missing_ok=True)


def _folder(lake: Lake, project: Project) -> Path:
    return lake.path(f"{project.name}/journal/pending")
