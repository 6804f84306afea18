"""Which dataset, study and MLflow run a stage works on, so that two trainings at once never mix.

A stage takes what the stage before it made in the same Dagster run, or in a run that this one is a re-execution of;
then what the run's tags name; then, where an asset is materialized alone, the newest chain that is complete so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from fti.errors import NotReadyError
from fti.project import Project

if TYPE_CHECKING:
    from fti.stores.datasets.store import DatasetStore
    from fti.stores.registry.registry import ModelRegistry

DATASET, STUDY, RUN = "dataset_version", "study", "run_id"
"""Metadata of the assets of a training."""
NAMES = (DATASET, STUDY, RUN)
Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext
Ids = Mapping[str, str]
"""Of `NAMES`, those that are known."""


def dataset_of(context: Context, project: Project, datasets: DatasetStore) -> str:
    """The dataset that a study searches on."""
    made = _named(context, project, "training_dataset", DATASET) or _last(context, project, "training_dataset", DATASET)
    return made.get(DATASET) or datasets.latest(project.name)


def study_of(context: Context, project: Project, datasets: DatasetStore) -> tuple[str, str]:
    """The dataset that a training learns from, and the study whose best parameters it takes.

    The study is empty where none is named: then the newest of the dataset is meant.
    """
    made = _named(context, project, "best_params", STUDY)
    if not made and not (made := _named(context, project, "training_dataset", DATASET)):
        made = _last(context, project, "best_params", STUDY)  # a newer dataset may be waiting for its study
    return made.get(DATASET) or datasets.latest(project.name), made.get(STUDY, "")


def challenger_of(context: Context, project: Project, registry: ModelRegistry) -> str:
    """The MLflow run whose model is to be evaluated."""
    made = _named(context, project, "challenger", RUN) or _last(context, project, "challenger", RUN)
    return made.get(RUN) or registry.challenger_run(project.name)


def evaluated_of(context: Context, project: Project, registry: ModelRegistry) -> str:
    """The MLflow run whose model is to be promoted, or is asked about once more."""
    made = _named(context, project, "evaluation", RUN) or _last(context, project, "evaluation", RUN)
    return made.get(RUN) or registry.challenger_run(project.name)


def tags(ids: Ids) -> dict[str, str]:
    """Tags of a Dagster run that works on these."""
    return {f"fti/{name}": ids[name] for name in NAMES if ids.get(name)}


def made_in(result: dg.ExecuteInProcessResult, project: Project, noun: str) -> Ids:
    """What the asset `noun` has made in a run in this process."""
    key = dg.AssetKey(project.key(noun))
    for event in result.get_asset_materialization_events():
        if event.asset_key == key:
            return _ids(event.materialization)
    raise NotReadyError(f"{project.name}/{noun} was not materialized in run {result.run_id}: see its log.")


def _named(context: Context, project: Project, noun: str, name: str) -> Ids:
    """What `noun` made in this run or in one that this is a re-execution of, or what the tags name; empty without
    `name`."""
    key = dg.AssetKey(project.key(noun))
    for run in _lineage(context):
        for entry in reversed(context.instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)):
            made = entry.asset_materialization
            if made is not None and made.asset_key == key:
                return _ids(made)
    found = {own: tag for own in NAMES if (tag := context.run.tags.get(f"fti/{own}"))}
    return found if name in found else {}


def _last(context: Context, project: Project, noun: str, name: str) -> Ids:
    """What `noun` made when it was last materialized; empty without `name`, as versions before wrote it."""
    entry = context.instance.get_latest_materialization_event(dg.AssetKey(project.key(noun)))
    made = None if entry is None else entry.asset_materialization
    found = {} if made is None else _ids(made)
    return found if name in found else {}


def _lineage(context: Context) -> Iterator[dg.DagsterRun]:
    """This run, and the runs that it is a re-execution of."""
    run: dg.DagsterRun | None = context.run
    while run is not None:
        yield run
        parent = run.tags.get("dagster/parent_run_id")
        run = context.instance.get_run_by_id(parent) if parent else None


def _ids(made: dg.AssetMaterialization) -> dict[str, str]:
    return {name: str(made.metadata[name].value) for name in NAMES if name in made.metadata}
