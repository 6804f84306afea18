"""A project with one of its views changed."""

from dataclasses import replace
from typing import Any

from fti.project import Project


def with_view(project: Project, name: str, **changes: Any) -> Project:
    """The project whose view `name` has other fields; `then` is done to its rows."""
    then = changes.pop("then", None)
    view = project.features.view(name)
    if then is not None:
        changes["rows"] = lambda *inputs: then(view.rows(*inputs))
    views = tuple(replace(view, **changes) if view.name == name else view for view in project.features.views)
    return replace(project, features=replace(project.features, views=views))
