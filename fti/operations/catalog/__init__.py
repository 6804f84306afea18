"""`fti catalog`: every source, view and feature of the projects on one page of HTML, which needs no server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fti.settings import Settings


def write(settings: Settings, out: Path) -> Path:
    """Write `index.html` into `out`, aside and then renamed; returns its path."""
    from fti.files import replace_file
    from fti.operations.catalog.contents import entry
    from fti.operations.catalog.page import page
    from fti.project.loading import load_projects
    from fti.stores import open_stores

    stores = open_stores(settings)
    entries = [entry(project, stores) for project in load_projects(settings.project_modules)]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "index.html"
    replace_file(path, page(entries, made_at=datetime.now(UTC)))
    return path
