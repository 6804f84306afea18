"""`fti plan`: what the code has differently from what is deployed, what that would recompute, and which models it
touches. Reads the Feast registry, the lake, the newest dataset and the model registry; writes nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fti.errors import FtiError, NotReadyError
from fti.project import Project
from fti.project.loading import load_projects
from fti.settings import Settings
from fti.stores import Stores
from fti.versions import views as versions
from fti.versions.changes import Change, readers, refused

if TYPE_CHECKING:
    from rich.table import Table

RECOMPUTES = {"new", versions.SCHEMA, versions.TRANSFORM, versions.UPSTREAM}
"""Changes after which the rows of a view are made again; a TTL or a service's members change no row."""


@dataclass(frozen=True)
class Step:
    """One change, with what follows from it."""

    change: Change
    days: int
    """Daily partitions in the lake that would be made again."""
    models: tuple[str, ...]
    """Served models that read it."""
    refused: bool

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self.change) | {"days": self.days, "models": list(self.models), "refused": self.refused}
        return found | ({"accept": self.change.accepted_as} if self.refused else {})


@dataclass(frozen=True)
class Plan:
    """All that a project's code changes."""

    project: str
    steps: tuple[Step, ...]
    stale_days: int
    """Days of features in the lake that other code than the present made."""
    outdated: tuple[str, ...]
    """What was made of other versions of features: the newest dataset, the served models; in sentences."""

    @property
    def changed(self) -> bool:
        return bool(self.steps or self.stale_days or self.outdated)

    def as_dict(self) -> dict[str, Any]:
        steps = [step.as_dict() for step in self.steps]
        return {"changes": steps, "stale_days": self.stale_days, "outdated": list(self.outdated)}


def plan(project: Project, stores: Stores) -> Plan:
    """Compare the code of `project` with the stores; FtiError when the code does not hold together."""
    from fti.stores.features.registration import pending, read_by

    feast = stores.feature_store.feast
    versions.require_features(project)
    found = pending(feast, project)
    models = read_by(feast, stores.model_registry.served())
    stopped = {change.name for change, _ in refused(found, models, project.features.accept_changes)}
    steps = tuple(
        Step(
            change,
            _days(project, stores.lake, change),
            tuple(str(model) for model in readers(change, models)),
            change.name in stopped,
        )
        for change in found
    )
    return Plan(project.name, steps, _stale_days(project, stores.lake), _outdated(project, stores, models))


def _days(project: Project, lake: Any, change: Change) -> int:
    """Daily partitions to make again; a new view gets every day that the project has raw rows of."""
    if change.what != "view" or not RECOMPUTES.intersection(change.kinds):
        return 0
    if change.deployed:
        return len(lake.days(f"{project.name}/features/{change.name}"))
    daily = [source for source in project.features.sources if project.source(source).timestamp]
    return max((len(lake.days(f"{project.name}/raw/{source}")) for source in daily), default=0)


def _stale_days(project: Project, lake: Any) -> int:
    """Days of `features` in the lake that other code made."""
    from feature_pipeline.batch.chunks import Journal

    journal = Journal(lake, project)
    return sum(len(days) for days, version in journal.versions() if version != journal.version)


def _outdated(project: Project, stores: Stores, models: Sequence[versions.ServedModel]) -> tuple[str, ...]:
    """What holds values of other versions than the code has."""
    code = versions.view_versions(project) | {
        name: item.version for name, item in versions.services_of(project).items()
    }
    lines = []
    datasets = stores.dataset_store
    try:
        latest = datasets.latest(project.name)
    except NotReadyError:
        latest = ""
    if latest and (old := _others(datasets.manifest(latest).versions, code)):
        lines.append(f"dataset {latest[:12]} was made of other versions of {old}: materialize training_dataset again")
    for model in models:
        if model.model == project.name and (
            old := _others({**model.views, model.service: model.service_version}, code)
        ):
            lines.append(f"model {model} was trained on other versions of {old}: train again")
    return tuple(lines)


def _others(recorded: Mapping[str, str], code: dict[str, str]) -> str:
    """Names whose recorded version is not the code's, in words; those that the code no longer has do not count."""
    return ", ".join(name for name, version in recorded.items() if version and code.get(name, version) != version)


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the plan of every project; 0 when nothing changed, 2 when something did, 1 when one has no plan."""
    from rich.console import Console

    from fti.stores import open_stores

    stores, plans, problems = open_stores(settings), [], []
    for project in load_projects(settings.project_modules):
        try:
            plans.append(plan(project, stores))
        except FtiError as error:
            problems.append(str(error))
    if as_json:
        print(json.dumps({found.project: found.as_dict() for found in plans}, indent=1))
    else:
        console = Console()
        for found in plans:
            _print(console, found)
    for problem in problems:
        print(f"fti: {problem}", file=sys.stderr)
    return 1 if problems else 2 if any(found.changed for found in plans) else 0


def _print(console: Any, found: Plan) -> None:
    if not found.changed:
        console.print(f"{found.project}: the code is what is deployed.")
        return
    if found.steps:
        console.print(_table(found))
    if found.stale_days:
        console.print(f"{found.project}: other code made {found.stale_days} days of features: materialize them again")
    for line in found.outdated:
        console.print(f"{found.project}: {line}")
    stopped = [step.change.accepted_as for step in found.steps if step.refused]
    if stopped:
        wanted = ", ".join(f'"{name}"' for name in stopped)
        console.print(
            "[red]refused[/]: a champion reads what was changed in place, so nothing will be registered.\n"
            "  Give the changed view and its feature service new names and train on those, or write\n"
            f"  [bold]accept_changes=({wanted},)[/] in the project's Features.",
            soft_wrap=True,
        )


def _table(found: Plan) -> Table:
    from rich.table import Table

    table = Table(title=f"{found.project}: code against what is deployed")
    table.add_column("name", no_wrap=True)
    for title in ("change", "version", "days to make again", "served models", ""):
        table.add_column(title, justify="right" if title.startswith("days") else "left", no_wrap=title == "version")
    for step in found.steps:
        change = step.change
        version = "\n".join(text for text in (change.deployed, change.code and f"-> {change.code}") if text)
        kinds = ", ".join(change.kinds) + (f"\n[dim]{change.detail}[/]" if change.detail else "")
        verdict = "[red]refused[/]" if step.refused else "[green]ok[/]"
        row = (
            f"{change.name}\n[dim]{change.what}[/]",
            kinds,
            version,
            str(step.days),
            "\n".join(step.models) or "-",
            verdict,
        )
        table.add_row(*row)
    return table
