"""The asset `best_params`: a seeded Optuna study on part of the training rows; it goes on where it was left."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from fti.project import Project
from fti.stores.datasets.store import DatasetStore, TrainingDataset
from fti.stores.registry.registry import ModelRegistry
from training_pipeline.chain import DATASET, STUDY, dataset_of
from training_pipeline.dataset.asset import GROUP

if TYPE_CHECKING:
    import optuna

PARAMS = "params"
"""Attribute of a trial: the hyperparameters that it stands for."""
LOSS_DIGITS = 5


class TuneConfig(dg.Config):
    """The study of this run."""

    num_trials: int | None = None
    """In all, finished ones of earlier runs included; the project's number when not given."""
    epochs: int = 4
    train_rows: int = 60_000
    """Training rows that a trial learns from, drawn at random once per study."""


def study_name(project: Project, version: str, config: TuneConfig) -> str:
    """A study belongs to one dataset and one size of trial."""
    return f"{project.name}-{version[:12]}-{config.epochs}x{config.train_rows}"


def open_study(registry: ModelRegistry, name: str, seed: int) -> "optuna.Study":
    """The study called `name`, made on first use."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=name,
        storage=registry.studies(),
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=4),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1),
        direction="minimize",
        load_if_exists=True,
    )


def run_study(
    project: Project,
    dataset: TrainingDataset,
    registry: ModelRegistry,
    config: TuneConfig,
    report: Callable[[str], None] = print,
) -> "optuna.Study":
    """Run the trials that are missing; the first is the project's defaults, so the best is never worse than those."""
    name = study_name(project, dataset.version, config)
    study = open_study(registry, name, project.model.seed)
    finished = len(finished_trials(study))
    wanted = config.num_trials or project.model.num_trials
    if finished >= wanted:
        return study
    study = open_study(registry, name, project.model.seed + finished)  # resumed: no draw is repeated
    study.enqueue_trial(dict(project.model.params), skip_if_exists=True)
    objective = Objective(project, dataset, config)
    study.optimize(objective, n_trials=wanted - finished, callbacks=[lambda _, trial: report(trial_line(trial))])
    return study


def trial_line(trial: "optuna.trial.FrozenTrial") -> str:
    """How a trial ended, in one line."""
    values = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in trial.params.items()}
    params = ", ".join(f"{name} {value}" for name, value in values.items())
    state = trial.state.name.lower() if trial.value is None else f"validation loss {trial.value:.{LOSS_DIGITS}f}"
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    return f"trial {trial.number + 1}  {state}  {seconds:.1f} s  {params}"


def finished_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Trials that came to an end, pruned ones included; those of a killed process do not count."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


class Objective:
    """Validation loss of one trial; encodes the rows once for all trials."""

    def __init__(self, project: Project, dataset: TrainingDataset, config: TuneConfig) -> None:
        from fti.model.encoder import Encoder
        from training_pipeline.fitting.datamodule import TabularData

        self.project, self.config, described = project, config, dataset.manifest
        train = dataset.splits["train"]
        rows = min(config.train_rows, train.height)
        train = train.sample(rows, seed=project.model.seed)
        self.encoder = Encoder.of(described, train)
        self.make_data = lambda params: TabularData(
            {**dataset.splits, "train": train},
            self.encoder,
            label=described.label,
            batch_size=int(params.get("batch_size", 0)),
            seed=project.model.seed,
        )
        self.data: dict[int, TabularData] = {}

    def __call__(self, trial: "optuna.Trial") -> float:
        from training_pipeline.fitting.fit import MONITOR
        from training_pipeline.fitting.learn import learn
        from training_pipeline.fitting.pruning import Pruning

        model = self.project.model
        params = {**model.params, **model.search_space(trial)}
        trial.set_user_attr(PARAMS, params)
        batch_size = int(params.get("batch_size", 0))
        if batch_size not in self.data:
            self.data = {batch_size: self.make_data(params)}
        learned = learn(
            self.encoder,
            self.data[batch_size],
            build=str(model.build),
            params=params,
            seed=model.seed,
            max_epochs=self.config.epochs,
            callbacks=[Pruning(trial, MONITOR)],
        )
        return learned.validation_loss


def best_params(project: Project, version: str, registry: ModelRegistry, study: str = "") -> tuple[str, dict[str, Any]]:
    """The study of this dataset, the newest where none is named, and the parameters of its best trial.

    Without a study: no name and the project's defaults.
    """
    import optuna

    storage = registry.studies()
    prefix = f"{project.name}-{version[:12]}-"
    names = [study] if study else [own for own in optuna.get_all_study_names(storage) if own.startswith(prefix)]
    studies = [optuna.load_study(study_name=name, storage=storage) for name in names]
    done = [(trials[-1].datetime_complete, found) for found in studies if (trials := _complete(found))]
    if not done:
        return "", dict(project.model.params)
    newest = max(done, key=lambda pair: pair[0])[1]
    return newest.study_name, dict(newest.best_trial.user_attrs[PARAMS])


def _complete(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def trial_table(study: "optuna.Study") -> pl.DataFrame:
    """One row per trial, best first."""
    rows = [
        {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "validation loss": None if trial.value is None else round(trial.value, LOSS_DIGITS),
            **trial.params,
        }
        for trial in finished_trials(study)
    ]
    return pl.DataFrame(rows, infer_schema_length=None).sort("validation loss", nulls_last=True)


def tune_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `best_params`."""

    @dg.asset(
        key=project.key("best_params"),
        group_name=GROUP,
        description="Hyperparameters with the lowest validation loss in an Optuna study.",
        deps=[project.key("training_dataset")],
        kinds={"optuna"},
        owners=[f"team:{project.owner}"],
    )
    def best_params(
        context: dg.AssetExecutionContext,
        config: TuneConfig,
        dataset_store: dg.ResourceParam[DatasetStore],
        model_registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.MaterializeResult:
        dataset = dataset_store.load(dataset_of(context, project, dataset_store))
        study = run_study(project, dataset, model_registry, config, context.log.info)
        return dg.MaterializeResult(metadata={DATASET: dataset.version, **metadata(study)})

    return best_params


def metadata(study: "optuna.Study") -> dict[str, Any]:
    """What Dagster shows of a study."""
    from training_pipeline.judging.plots import study_history
    from training_pipeline.judging.tables import inline, markdown

    params: Mapping[str, Any] = study.best_trial.user_attrs[PARAMS]
    table = trial_table(study)
    return {
        STUDY: study.study_name,
        "best_params": dict(params),
        "best_validation_loss": study.best_value,
        "num_trials": table.height,
        "trials": dg.MetadataValue.md(markdown(table)),
        "history": dg.MetadataValue.md(inline(study_history(table), "validation loss by trial")),
    }
