"""Finding the projects that the settings name: modules, and folders that hold one project in each subfolder.

A project that cannot be loaded takes no other down: it is kept as `Broken`, and only what asks for it by name fails.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fti.errors import NotReadyError
from fti.project import Project
from fti.settings import Settings

logger = logging.getLogger("fti.project.loading")

FILE = "project.py"
"""What makes a subfolder a project: `<subfolder>/project.py`, imported as `<subfolder>.project`."""

_IMPORTING = {__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
"""Files on the stack of every import."""


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A project that could not be loaded: what went wrong in one line, where, and the whole traceback."""

    name: str
    error: str
    where: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"project {self.name!r} is broken: {self.error}{f' ({self.where})' if self.where else ''}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One module that should hold a `project`; `folder` is where it lies, for one that was found in a folder."""

    module: str
    folder: Path | None = None

    @property
    def name(self) -> str:
        """What the project is called until it tells its own name."""
        parts = self.module.split(".")
        return re.sub(r"\W", "_", parts[0] if self.folder else parts[-1])


@dataclass(frozen=True)
class Loaded:
    """The projects that loaded, in the order of the settings, and those that did not."""

    projects: tuple[Project, ...]
    broken: tuple[Broken, ...]

    def named(self, name: str) -> Project:
        """The project called `name`; a NotReadyError that tells why there is none."""
        for project in self.projects:
            if project.name == name:
                return project
        for broken in self.broken:
            if broken.name == name:
                raise NotReadyError(f"{broken}. Correct it and run this again.")
        known = [project.name for project in self.projects]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}."
        raise NotReadyError(f"FTI_PROJECTS has no project {name!r}: {hint}")


def load(entries: Iterable[str], *, features: bool = False) -> Loaded:
    """Every project of `entries`: module names, and folders (an entry with a slash or a leading dot).

    With `features` the modules with the Feast objects are imported too, so that a mistake in one is found here.
    """
    projects: list[Project] = []
    broken: list[Broken] = []
    for entry in _found(entries):
        taken = {project.name for project in projects}
        found = _load(entry, taken, features)
        if isinstance(found, Project):
            projects.append(found)
        else:
            broken.append(found)
    return Loaded(tuple(projects), tuple(broken))


def load_projects(entries: Iterable[str]) -> list[Project]:
    """The projects of `entries` that load; the others are logged with their tracebacks and left out."""
    loaded = load(entries)
    for broken in loaded.broken:
        logger.error("%s\n%s", broken, broken.traceback)
    return list(loaded.projects)


def find_project(entries: Iterable[str], name: str) -> Project:
    """The project called `name`; a NotReadyError with what is broken in it, or with the nearest name."""
    return load(entries).named(name)


def is_folder(entry: str) -> bool:
    """Whether an entry of FTI_PROJECTS means a folder, not a module."""
    return "/" in entry or os.sep in entry or entry.startswith((".", "~"))


def folders(entries: Iterable[str]) -> list[Path]:
    """The folders among `entries`, absolute."""
    return [Path(entry).expanduser().resolve() for entry in entries if is_folder(entry)]


def absolute(entries: Iterable[str]) -> list[str]:
    """The same entries, whatever the working directory."""
    return [str(folders([entry])[0]) if is_folder(entry) else entry for entry in entries]


def add_folders(settings: Settings) -> None:
    """Make the projects of the settings' folders importable, in this process and in those that it starts."""
    _add(folders(settings.project_modules))


def _add(places: Iterable[Path]) -> None:
    """The folders come first: of two folders that held projects of one name, the one asked for now counts."""
    for place in reversed([str(place) for place in places]):
        if place in sys.path:
            sys.path.remove(place)
        sys.path.insert(0, place)
        inherited = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != place]
        os.environ["PYTHONPATH"] = os.pathsep.join([place, *inherited])
    importlib.invalidate_caches()


def _found(entries: Iterable[str]) -> list[Entry]:
    """The modules to import. A folder that is not there has no projects."""
    entries = list(entries)
    _add(folders(entries))
    if (here := os.getcwd()) not in sys.path:  # as `python -m` has it; an installed command has not
        sys.path.append(here)
    found = []
    for entry in entries:
        if is_folder(entry):
            (folder,) = folders([entry])
            inside = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
            found += [Entry(module=f"{name}.project", folder=folder) for name in inside if name[0] not in "._"]
        else:
            found.append(Entry(module=entry))
    return list(dict.fromkeys(found))


def _load(entry: Entry, taken: set[str], features: bool) -> Project | Broken:
    """The project of one entry. User code runs here, and may fail in any way: this is the boundary."""
    try:
        return _project(entry, taken, features)
    except NotReadyError as error:
        return Broken(name=entry.name, error=str(error), where=_place(entry))
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a user's module raises, the others go on
        lines = traceback.format_exception(error)
        told = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
        return Broken(name=entry.name, error=told, where=_where(error, entry), traceback="".join(lines))


def _project(entry: Entry, taken: set[str], features: bool) -> Project:
    if entry.folder:
        _require_own_name(entry.module.split(".")[0], entry.folder)
    module = importlib.import_module(entry.module)
    project = getattr(module, "project", None)
    inside = f"{entry.module}.{Path(FILE).stem}"  # in a package with the two files that `fti new` writes
    if not isinstance(project, Project) and hasattr(module, "__path__") and importlib.util.find_spec(inside):
        project = getattr(importlib.import_module(inside), "project", None)
    if not isinstance(project, Project):
        raise NotReadyError(f"module {entry.module!r} has no `project`: write `project = Project(...)` in it")
    if not project.name.isidentifier():
        raise NotReadyError(f"its name {project.name!r} is no identifier: use letters, digits and underscores")
    if project.name in taken:
        raise NotReadyError(f"there is another project {project.name!r}: give one of them another name")
    if features:
        importlib.import_module(project.features.repo)
    return project


def _require_own_name(name: str, folder: Path) -> None:
    """`import <name>` must find the subfolder, and not what an earlier import or a package of that name left."""
    if not name.isidentifier():
        raise NotReadyError(f"the folder {name!r} is no Python identifier: use letters, digits and underscores")
    others = [path for path in sys.path if Path(path or ".").resolve() != folder]
    spec = importlib.machinery.PathFinder.find_spec(name, others)
    if name in sys.stdlib_module_names or (spec is not None and spec.has_location):
        raise NotReadyError(f"{name!r} is the name of an installed Python package: rename the folder")
    old = getattr(sys.modules.get(f"{name}.project"), "__file__", None)
    if old and Path(old).resolve().parent != folder / name:
        for module in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[module]


def _place(entry: Entry) -> str:
    return str(entry.folder / entry.module.split(".")[0] / FILE) if entry.folder else entry.module


def _where(error: BaseException, entry: Entry) -> str:
    """File and line at which the user's own code failed; where it is not on the stack, the innermost line."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in _IMPORTING]
    package = entry.module.split(".")[0]
    own = [frame for frame in frames if package in Path(frame.filename).with_suffix("").parts] or frames
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else f"FTI_PROJECTS names {entry.module!r}"
