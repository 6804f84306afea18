"""Dataset, study, run and evaluation of a training belong together, whatever else moves meanwhile."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from fti.project import Project
from fti.stores import Stores
from fti.stores.datasets.store import DatasetStore
from fti.stores.registry.registry import ModelRegistry
from training_pipeline import chain
from training_pipeline.definitions import definitions
from training_pipeline.fitting.train import train
from training_pipeline.fitting.tune import TuneConfig
from training_pipeline.launching.job import TrainingJob
from training_pipeline.launching.launch import Launcher, SubprocessLauncher

CHAIN = ("best_params", "challenger", "evaluation", "champion")
ROUNDS = int(os.environ.get("FTI_TEST_RACES", "1"))
"""Races of two trainings; one takes 25 seconds."""


@pytest.fixture
def other(saved: tuple[DatasetStore, str]) -> str:
    """Another dataset, saved later."""
    return with_rows(saved, -100)


def with_rows(saved: tuple[DatasetStore, str], rows: int) -> str:
    """A dataset of some of the training rows, which becomes the latest."""
    dataset = saved[0].load(saved[1])
    return saved[0].save("parcels", {**dataset.splits, "train": dataset.splits["train"][:rows]}, dataset.manifest)


class InProcess:
    """A launcher that trains in this process; meanwhile another training ends."""

    def __init__(self, project: Project | None = None, other: str = "") -> None:
        self.project, self.other = project, other

    def launch(self, context: dg.AssetExecutionContext, job: TrainingJob) -> dg.MaterializeResult[None]:
        result = train(job, context.log.info)
        if self.other:
            train(replace(job, dataset_version=self.other, seed=job.seed + 1, max_epochs=1), context.log.info)
        return dg.MaterializeResult(metadata=dict(result.__dict__))


def materialize(
    project: Project,
    stores: Stores,
    *nouns: str,
    launcher: Launcher | None = None,
    tags: dict[str, str] | None = None,
    instance: dg.DagsterInstance | None = None,
) -> Any:
    tune = TuneConfig(num_trials=1, epochs=1, train_rows=500).model_dump()
    return dg.materialize(
        list(definitions(project, launcher or InProcess()).assets or []),
        selection=dg.AssetSelection.assets(*(project.key(noun) for noun in nouns)),
        resources=vars(stores),
        run_config={"ops": {"parcels__best_params": {"config": tune}}} if "best_params" in nouns else None,
        tags=tags,
        instance=instance,
        raise_on_error=False,
    )


def require_consistent(registry: ModelRegistry, run_id: str, dataset: str) -> None:
    """The run, its model, its study and its evaluation are those of one dataset."""
    run = registry.client.get_run(run_id)
    assert run.data.tags["fti.dataset_version"] == dataset
    assert run.data.tags["fti.study"].startswith(f"parcels-{dataset[:12]}-")
    assert registry.run_bundle(run_id).info.dataset_version == dataset
    evaluation = registry.evaluation(run_id)
    assert (evaluation.run_id, evaluation.dataset_version) == (run_id, dataset)


def test_what_other_trainings_make_meanwhile_is_not_taken(
    project: Project, stores: Stores, saved: tuple[DatasetStore, str], other: str
) -> None:
    registry = stores.model_registry
    assert saved[0].latest("parcels") == other
    tags = chain.tags({chain.DATASET: saved[1]})
    result = materialize(project, stores, *CHAIN, launcher=InProcess(project, other), tags=tags)
    assert result.success
    champion = registry.champion("parcels")
    assert (
        registry.challenger_run("parcels") != champion.run_id == chain.made_in(result, project, "challenger")["run_id"]
    )
    require_consistent(registry, champion.run_id, saved[1])
    assert champion.tags["dataset_version"] == saved[1]


def test_an_asset_alone_takes_the_newest_complete_chain_and_names_it(
    project: Project, stores: Stores, saved: tuple[DatasetStore, str]
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        tuned = materialize(project, stores, "best_params", instance=instance)
        ids = chain.made_in(tuned, project, "best_params")
        assert ids[chain.DATASET] == saved[0].latest("parcels")
        newer = with_rows(saved, -200)  # without a study
        trained = materialize(project, stores, "challenger", instance=instance, launcher=InProcess(project, newer))
        own = chain.made_in(trained, project, "challenger")
        assert {name: own[name] for name in ids} == ids
        assert stores.model_registry.challenger_run("parcels") != own[chain.RUN]
        judged = materialize(project, stores, "evaluation", instance=instance)
        assert chain.made_in(judged, project, "evaluation")[chain.RUN] == own[chain.RUN]
        assert materialize(project, stores, "champion", instance=instance).success
        assert stores.model_registry.champion("parcels").run_id == own[chain.RUN]
        require_consistent(stores.model_registry, own[chain.RUN], ids[chain.DATASET])


def test_a_run_that_goes_on_from_another_takes_what_that_made(
    project: Project, stores: Stores, saved: tuple[DatasetStore, str], other: str
) -> None:
    tags = chain.tags({chain.DATASET: saved[1]})
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialize(project, stores, "best_params", "challenger", instance=instance, tags=tags)
        assert materialize(project, stores, "best_params", "challenger", instance=instance).success
        assert saved[0].latest("parcels") == other
        defs = dg.Definitions.merge(definitions(project, InProcess()), dg.Definitions(resources=vars(stores)))
        again = defs.resolve_job_def("parcels_training").execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(project.key("evaluation"))],
            tags={"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id},
            raise_on_error=False,
        )
        found = chain.made_in(again, project, "evaluation")
        assert found[chain.RUN] == chain.made_in(first, project, "challenger")[chain.RUN]


def training(project: Project, stores: Stores, version: str) -> Any:
    """A whole training on a dataset, its model learnt in a process of its own."""
    tags = chain.tags({chain.DATASET: version})
    return materialize(project, stores, *CHAIN, tags=tags, launcher=SubprocessLauncher())


@pytest.mark.process
def test_two_trainings_at_once_end_consistent(
    project: Project, stores: Stores, saved: tuple[DatasetStore, str]
) -> None:
    registry = stores.model_registry
    for turn in range(ROUNDS):
        datasets = [with_rows(saved, -10 * (2 * turn + place + 1)) for place in range(2)]
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(lambda version: training(project, stores, version), datasets))
        for result, version in zip(results, datasets, strict=True):
            made = chain.made_in(result, project, "evaluation")
            require_consistent(registry, made[chain.RUN], version)
        assert any(result.success for result in results)
    for found in registry.client.search_model_versions("name = 'parcels'"):
        require_consistent(registry, found.run_id, found.tags["dataset_version"])
