"""`fti lineage`: where a model version comes from, back to the raw partitions. Reads the stores; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fti.errors import NotReadyError
from fti.project import Project
from fti.project.loading import find_project, load_projects
from fti.settings import Settings
from fti.storage.periods import period_of
from fti.stores import Stores
from fti.versions.fingerprint import STATIC, recorded
from fti.versions.source_hash import digest
from fti.versions.views import served_model

if TYPE_CHECKING:
    from rich.tree import Tree

    from fti.model.records import Manifest
    from fti.stores.registry.registry import ModelRegistry, ModelVersion


def lineage(project: Project, version: ModelVersion, stores: Stores) -> dict[str, Any]:
    """The chain of one model version: model, run, dataset, service, views, sources, git commit."""
    registry = stores.model_registry
    run = registry.client.get_run(version.run_id)
    tags = {**run.data.tags, **version.tags}
    dataset = tags.get("dataset_version") or tags["fti.dataset_version"]
    manifest = stores.dataset_store.manifest(dataset)
    reads = served_model(version.name, version.version, "", tags)
    return {
        "model": _model(registry, version),
        "run": {
            "id": version.run_id,
            "experiment": run.info.experiment_id,
            "started": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
            "dagster_run": tags.get("dagster.run_id", ""),
            "job": tags.get("fti.job_key", ""),
        },
        "dataset": {"version": dataset, "rows": manifest.rows, "ranges": manifest.ranges},
        "service": {"name": manifest.feature_service, "version": reads.service_version},
        "views": _views(stores.feature_store, manifest),
        "sources": _sources(project, stores.lake, manifest),
        "git": {"commit": tags.get("mlflow.source.git.commit", ""), "dirty": tags.get("fti.git_dirty") == "true"},
    }


def find_version(registry: ModelRegistry, name: str, wanted: str) -> ModelVersion:
    """Version `wanted` of the model called `name`: a number or an alias."""
    from mlflow.exceptions import MlflowException

    if not wanted.isdigit():
        found = registry.by_alias(name, wanted)
        if found is None:
            raise NotReadyError(f"{name} has no {wanted!r}: write a version's number, champion, previous or challenger")
        return found
    try:
        return registry.version(name, int(wanted))
    except MlflowException as error:
        raise NotReadyError(f"{name} has no version {wanted}: {error.message}") from error


def _model(registry: ModelRegistry, version: ModelVersion) -> dict[str, Any]:
    found = registry.client.get_model_version(version.name, str(version.version))
    journal = registry.journal(version.name)
    promoted = journal.filter(journal["version"] == version.version)["promoted_at"].to_list()
    metrics = {name: value for name, value in sorted(version.tags.items()) if name.startswith("test_")}
    return {
        "name": version.name,
        "version": version.version,
        "aliases": sorted(found.aliases),
        "promoted": promoted[-1].isoformat(timespec="seconds") if promoted else "",
        "metrics": metrics,
    }


def _views(store: Any, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """View -> number of features, the version that the dataset was made of, the version registered now."""
    try:
        now = store.versions(manifest.feature_service)
    except NotReadyError:
        now = {}
    return {
        view: {"features": len(features), "version": manifest.versions.get(view, ""), "registered": now.get(view, "")}
        for view, features in manifest.feature_views.items()
    }


def _sources(project: Project, lake: Any, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Source -> its days (and months), the fingerprint of them all, those whose rows are not the same any more, and
    whether the code still has it; if not, nothing is known of its rows."""
    answer, declared = {}, {source.name for source in project.sources}
    for name, prints in manifest.raw.items():
        periods = sorted(prints)
        answer[name] = {
            "from": periods[0] if periods else "",
            "to": periods[-1] if periods else "",
            "days": sum(period_of(stem) == "day" for stem in periods),
            "months": sum(period_of(stem) == "month" for stem in periods),
            "fingerprint": digest(*(prints[stem] for stem in periods)) if len(periods) != 1 else prints[periods[0]],
            "changed": changed_periods(project, lake, name, prints) if name in declared else [],
            "in_code": name in declared,
        }
    return answer


def changed_periods(project: Project, lake: Any, name: str, prints: Mapping[str, str]) -> list[str]:
    """Days (and months) of a source whose rows in the lake have another fingerprint than in `prints`, or are gone."""
    now = recorded(project, lake, name, prints)
    return [stem for stem, fingerprint in prints.items() if now.get(stem, "") != fingerprint]


def run(settings: Settings, model: str, project_name: str, *, as_json: bool) -> int:
    """Print the lineage of `model`: `flights/2`, or a version or alias of `project_name` or of the only project."""
    from rich.console import Console

    from fti.stores import open_stores

    name, _, wanted = model.rpartition("/")
    project = _project(settings, name or project_name)
    stores = open_stores(settings)
    found = lineage(project, find_version(stores.model_registry, project.name, wanted), stores)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        Console().print(tree(found))
    return 0


def _project(settings: Settings, name: str) -> Project:
    if name:
        return find_project(settings.project_modules, name)
    projects = load_projects(settings.project_modules)
    if len(projects) != 1:
        known = ", ".join(project.name for project in projects)
        raise NotReadyError(f"there are several projects: write one of {known} before the slash")
    return projects[0]


def tree(found: Mapping[str, Any]) -> Tree:
    """The chain as a tree, the model on top."""
    from rich.tree import Tree

    model, run_, dataset, service = found["model"], found["run"], found["dataset"], found["service"]
    aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    top = Tree(f"[bold]model {model['name']}/{model['version']}[/]{aliases}  promoted {model['promoted'] or 'never'}")
    git = found["git"]
    commit = f"{git['commit'] or 'unknown'}{' with changes that were not committed' if git['dirty'] else ''}"
    training = top.add(f"MLflow run {run_['id']}  started {run_['started']}")
    training.add(f"git commit {commit}")
    training.add(f"Dagster run {run_['dagster_run'] or 'none'}")
    rows = training.add(f"dataset {dataset['version']}")
    for split, number in dataset["rows"].items():
        first, last = dataset["ranges"][split]
        rows.add(f"{split}: {number:,} rows, {first[:16]} .. {last[:16]}")
    views = rows.add(f"feature service {service['name']}  version {service['version'] or 'unknown'}")
    for view, of in found["views"].items():
        now = "" if of["registered"] in ("", of["version"]) else f"  [yellow]now {of['registered']}[/]"
        views.add(f"{view}  {of['features']} features  version {of['version'] or 'unknown'}{now}")
    raw = views.add("raw sources")
    for source, of in found["sources"].items():
        raw.add(_source_line(source, of))
    return top


def _source_line(name: str, source: Mapping[str, Any]) -> str:
    counts = [f"{source[unit]} {unit}" for unit in ("months", "days") if source[unit]] or ["0 days"]
    span = "one table" if source["from"] == STATIC else f"{' and '.join(counts)}, {source['from']} .. {source['to']}"
    changed = source["changed"]
    state = f"  [yellow]{len(changed)} changed since, the first {changed[0]}[/]" if changed else "  unchanged"
    state = state if source["in_code"] else "  [yellow]the project has no such source any more[/]"
    return f"{name}  {span}  {source['fingerprint']}{state}"
