from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fti.errors import ConflictError, GateError
from fti.model.records import Evaluation
from fti.project import Project
from fti.project.gate import Floor
from fti.stores import Stores
from fti.stores.datasets.store import DatasetStore
from fti.stores.features.store import FeatureStore
from fti.stores.registry.registry import ModelRegistry
from training_pipeline.definitions import definitions
from training_pipeline.fitting.train import train
from training_pipeline.fitting.tune import TuneConfig, best_params, finished_trials, run_study
from training_pipeline.judging.promote import promote_challenger
from training_pipeline.launching.job import TrainingJob, training_job
from training_pipeline.launching.launch import Launcher

CHAIN = ("best_params", "challenger", "evaluation", "champion")
TUNE = TuneConfig(num_trials=2, epochs=1, train_rows=1000)


class InProcess:
    """A launcher that trains in this process: quicker than one that starts another."""

    def launch(self, context: dg.AssetExecutionContext, job: TrainingJob) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=dict(train(job, context.log.info).__dict__))


def materialize(
    project: Project, stores: Stores, *nouns: str, reason: str = "test", launcher: Launcher | None = None
) -> Any:
    return dg.materialize(
        list(definitions(project, launcher).assets or []),
        selection=dg.AssetSelection.assets(*(project.key(noun) for noun in nouns)),
        resources=vars(stores),
        run_config={"ops": {"parcels__best_params": {"config": TUNE.model_dump()}}} if "best_params" in nouns else None,
        tags={"fti/reason": reason},
        raise_on_error=False,
    )


def nothing_to_compare() -> None:
    """These challengers read no features."""


def test_a_champion_alone_is_refused_while_online_differs_from_offline(
    project: Project, stores: Stores, registry: ModelRegistry, feature_store: FeatureStore
) -> None:
    assert materialize(project, stores, "challenger", "evaluation", launcher=InProcess()).success
    test = stores.dataset_store.load(stores.dataset_store.latest("parcels")).splits["test"]
    newest = test.sort("event_timestamp").tail(1).select("parcel", "event_timestamp", "load", "backlog")
    service = project.features.service
    feature_store.write_online(service, {"depot": newest.with_columns(load=pl.col("load") + 1)})
    try:
        refused = materialize(project, stores, "champion")
        (error,) = [event.step_failure_data.error for event in refused.all_events if event.is_step_failure]
        assert "GateError" in error.to_string()
        assert "parcels: the challenger is not promoted. Online differs from offline" in error.to_string()
        assert "depot.load in 1 rows" in error.to_string()
        assert registry.champion("parcels") is None
    finally:
        feature_store.write_online(service, {"depot": newest})
    assert materialize(project, stores, "champion").success
    assert registry.champion("parcels") is not None


def test_job_and_schedule_have_the_names_that_others_ask_for(project: Project) -> None:
    defs = definitions(project)
    assert [job.name for job in defs.jobs or []] == ["parcels_training"]
    assert [schedule.name for schedule in defs.schedules or []] == ["parcels_monthly_retraining"]


@pytest.mark.process
def test_the_chain_ends_with_a_champion_and_doing_it_again_changes_nothing(project: Project, stores: Stores) -> None:
    registry = stores.model_registry
    result = materialize(project, stores, *CHAIN)
    assert result.success
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == dict.fromkeys(
        ("roc_auc_reaches_floor", "log_loss_no_worse_than_champion", "roc_auc_reaches_floor_in_every_carrier"), True
    )
    champion = registry.champion("parcels")
    metrics = registry.evaluation(champion.run_id).metrics
    assert metrics["challenger"]["roc_auc"] > 0.7 > metrics["prior"]["roc_auc"]
    assert metrics["challenger"]["roc_auc"] > metrics["baseline"]["roc_auc"] - 0.05
    assert registry.bundle(champion).info.reference_predictions["overall"]["rows"] > 0

    assert materialize(project, stores, *CHAIN, launcher=InProcess()).success
    assert registry.champion("parcels") == champion
    assert registry.journal("parcels")["reason"].to_list() == ["test"]

    other = replace(project, model=replace(project.model, seed=99))
    assert materialize(
        other, stores, "challenger", "evaluation", "champion", reason="newer", launcher=InProcess()
    ).success
    second, previous = registry.champion("parcels"), registry.by_alias("parcels", "previous")
    assert (second.version, previous.version) == (2, 1)
    assert "champion" in registry.evaluation(second.run_id).metrics

    strict = replace(project, gates=(Floor(metric="roc_auc", minimum=0.999),), model=replace(project.model, seed=100))
    failed = materialize(strict, stores, "challenger", "evaluation", "champion", launcher=InProcess())
    assert not failed.success
    (check,) = failed.get_asset_check_evaluations()
    assert "does not reach the floor 0.9990" in check.description
    run_id = registry.challenger_run("parcels")
    with pytest.raises(GateError, match="does not reach the floor"):
        promote_challenger(registry, "parcels", run_id, reason="past the checks", require_parity=nothing_to_compare)
    assert registry.champion("parcels") == second


def test_a_champion_that_changed_since_the_evaluation_is_not_overwritten(
    project: Project, stores: Stores, registry: ModelRegistry
) -> None:
    runs = []
    for seed in (1, 2):
        other = replace(project, model=replace(project.model, seed=seed, max_epochs=1))
        datasets = stores.dataset_store
        job = training_job(
            other, datasets, registry, dataset_version=datasets.latest("parcels"), params=project.model.params
        )
        runs.append(train(job, print).run_id)
        evaluation = Evaluation(run_id=runs[-1], dataset_version="d", task="binary", metrics={"challenger": {}})
        registry.log_evaluation(runs[-1], evaluation)
    assert promote_challenger(registry, "parcels", runs[0], reason="a", require_parity=nothing_to_compare)[1]
    with pytest.raises(ConflictError, match="the champion is version 1, not None"):
        promote_challenger(registry, "parcels", runs[1], reason="b", require_parity=nothing_to_compare)


def test_a_study_goes_on_where_it_was_left(
    project: Project, saved: tuple[DatasetStore, str], registry: ModelRegistry
) -> None:
    dataset = saved[0].load(saved[1])
    assert best_params(project, saved[1], registry) == ("", project.model.params)
    first = run_study(project, dataset, registry, TUNE).trials
    assert first[0].params["learning_rate"] == project.model.params["learning_rate"]
    longer = run_study(project, dataset, registry, TuneConfig(num_trials=3, epochs=1, train_rows=1000))
    assert [trial.number for trial in finished_trials(longer)] == [0, 1, 2]
    assert longer.trials[:2] == first
    best = longer.best_trial.user_attrs["params"]
    assert best_params(project, saved[1], registry) == (longer.study_name, best)
    assert best_params(project, "another", registry, longer.study_name) == (longer.study_name, best)
