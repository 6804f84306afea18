"""`fti new`: a table to a project of two files."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from fti.errors import DataError, NotReadyError
from fti.files import aside
from fti.new.profile.profiler import profile
from fti.new.profile.tables import open_table
from fti.new.show import print_profile
from fti.new.write.draft import draft
from fti.new.write.features_file import features_file
from fti.new.write.project_file import project_file

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for on the command line."""

    name: str
    data: str
    label: str
    entity: tuple[str, ...] = ()
    timestamp: str | None = None
    task: str | None = None
    query: str | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    into: Path = Path("projects")
    force: bool = False


def create(wish: Wish, console: Console) -> Path:
    """Write `<into>/<name>/features.py` and `project.py`, both or none; returns their folder.

    DataError or NotReadyError, each in one sentence, for a name that cannot be, a project that is there, a table that
    cannot be read or that no model can be made of.
    """
    folder = wish.into.expanduser() / wish.name
    require_name(wish.name)
    if not wish.force:
        require_absent(folder)
    with console.status(f"reading {wish.data.rsplit('@', 1)[-1]} ..."):
        table = open_table(wish.data, query=wish.query, rules=wish.rules, missing=wish.missing)
        found = profile(table, entity=wish.entity, timestamp=wish.timestamp, label=wish.label, task=wish.task)
    print_profile(console, found)
    planned = draft(found, wish.name, datetime.now(UTC))
    write(folder, {"features.py": features_file(planned), "project.py": project_file(planned)})
    return folder


def require_name(name: str) -> None:
    """Raise DataError unless `name` can be a package of its own."""
    if not NAME.fullmatch(name) or "__" in name or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise DataError(
            f"{name!r} cannot be the name of a project: take at most 40 letters, digits and single underscores, "
            "a letter first, and no word of Python's own."
        )
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is not None:
        raise DataError(f"{name!r} is the name of an installed module ({spec.origin}): take another name.")
    if importlib.util.find_spec(f"fti.projects.{name}") is not None:
        raise DataError(f"{name!r} is the name of a project that comes with FTI: take another name.")


def require_absent(folder: Path) -> None:
    """Raise DataError when something is in `folder`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already: take another name, or write it again with --force.")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """All `files` or none: written aside, then renamed. Other files of the folder stay."""
    try:
        if folder.exists():
            _replace(folder, files)
        else:
            _make(folder, files)
    except OSError as error:
        raise NotReadyError(
            f"{folder} cannot be written: {error.strerror}. Choose another folder with --into."
        ) from error


def _make(folder: Path, files: Mapping[str, str]) -> None:
    """A new folder, by one rename."""
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    staged.mkdir(parents=True)
    try:
        for name, text in files.items():
            (staged / name).write_text(text, encoding="utf-8")
        os.rename(staged, folder)
    except OSError:
        shutil.rmtree(staged)
        raise


def _replace(folder: Path, files: Mapping[str, str]) -> None:
    """Files of a folder that is there; the old ones stay until all new ones are written."""
    with ExitStack() as written:
        for name, text in files.items():
            written.enter_context(aside(folder / name)).write_text(text, encoding="utf-8")
