"""Finding the projects that the settings name."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from fti.errors import NotReadyError
from fti.project import Project


def load_projects(modules: Iterable[str]) -> list[Project]:
    """The `project` of each module, for example of `fti.projects.flights`."""
    projects = []
    for name in modules:
        try:
            projects.append(importlib.import_module(name).project)
        except ModuleNotFoundError as error:
            raise NotReadyError(f"FTI_PROJECTS names {name!r}, which cannot be imported: {error}") from error
        except AttributeError:
            raise NotReadyError(f"module {name!r} has no `project`: define `project = Project(...)` in it") from None
    return projects
