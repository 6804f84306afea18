"""Generated projects in tests: written, imported, and their rows made as the pipelines make them."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import ModuleType

import polars as pl
from rich.console import Console

from fti.new.write.project import Wish, create
from fti.project import Project


def new(folder: Path, name: str, data: Path | str, label: str, **wishes: object) -> str:
    """`fti new`, into `folder`; returns what it printed."""
    console = Console(width=100, file=io.StringIO())
    create(Wish(name=name, data=str(data), label=label, into=folder, **wishes), console)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined]


@contextmanager
def imported(folder: Path, name: str) -> Iterator[tuple[Project, ModuleType]]:
    """The project `name` and its module of Feast objects; both are forgotten afterwards."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield importlib.import_module(f"{name}.project").project, importlib.import_module(f"{name}.features")
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.split(".")[0] == name]:
            del sys.modules[module]


def raw_rows(project: Project) -> dict[str, pl.DataFrame]:
    """All rows of the project's sources."""
    end = project.partitions_end or datetime.max
    return {source.name: source.read(project.partitions_start, end) for source in project.sources}


def feature_rows(project: Project) -> dict[str, pl.DataFrame]:
    """All rows of its feature views."""
    assert project.partitions_end
    return project.features.rows(raw_rows(project), project.partitions_start, project.partitions_end)


def feast_schemas(module: ModuleType) -> dict[str, dict[str, object]]:
    """Feature view -> its columns with their polars types, as Feast has them."""
    from feast import FeatureView

    from fti.stores.features.online.types import polars_type

    views = [value for value in vars(module).values() if isinstance(value, FeatureView)]
    return {view.name: {field.name: polars_type(field.dtype) for field in view.schema} for view in views}
