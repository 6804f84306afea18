"""What a use case *is*: one immutable `Project` value, which all three pipelines read. It is cheap to import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from fti.errors import DataError
from fti.project.gate import Gate, require_measurable
from fti.project.service import Freshness as Freshness
from fti.project.service import RequestField as RequestField
from fti.project.service import Service as Service
from fti.project.source import Expectation as Expectation
from fti.project.source import Source as Source
from fti.project.source import expect as expect
from fti.storage.periods import Period, first_day, stem_of
from fti.views.view import View as View
from fti.views.view import make_views

if TYPE_CHECKING:
    import optuna
    import polars as pl

Tables = Mapping[str, "pl.DataFrame"]
"""Raw rows by source name."""
Task = Literal["binary", "multiclass", "regression"]
"""What a label is: 0 or 1, the name of a class (text), or a number."""


def _unchanged(requests: pl.DataFrame) -> pl.DataFrame:
    return requests


@dataclass(frozen=True, kw_only=True)
class Features:
    """The feature views of the project, and the Feast service that the model reads of them."""

    repo: str
    """Module with the Feast objects, for example `feature_repo.flights`; imported only where Feast is needed."""
    service: str
    """Name, with its version, of the Feast FeatureService that the model reads, for example `delay_model_v1`."""
    views: tuple[View, ...]
    """What is made: the views of every service in `repo`."""
    on_demand: Callable[[pl.DataFrame], pl.DataFrame] = _unchanged
    """Request columns in, the same frame with the on-demand features added out; used offline and by the service."""
    on_demand_names: tuple[str, ...] = ()
    """The features that `on_demand` adds; the model reads them beside those of the service."""
    expectations: Mapping[str, tuple[Expectation, ...]] = field(default_factory=dict)
    """Feature view -> expectations on its rows."""
    accept_changes: tuple[str, ...] = ()
    """Changes in place that the served model may get, as `fti plan` names them: `origin_delays@680e033f1920`."""
    max_quarantined_share: float = 0.0
    """As in `Source`, for the rows of each view."""
    freshness: Mapping[str, Freshness] = field(default_factory=dict)
    """Feature view -> how old its values may be when they are served."""

    def __post_init__(self) -> None:
        if twice := {view.name for view in self.views if [other.name for other in self.views].count(view.name) > 1}:
            raise ValueError(f"Features.views has {', '.join(sorted(twice))} twice: give each view a name of its own")

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that the views read; every one of them is an upstream asset of `features`."""
        return tuple(dict.fromkeys(name for view in self.views for name in view.sources))

    @property
    def lookback(self) -> timedelta:
        """The longest lookback of a view."""
        return max((view.lookback for view in self.views), default=timedelta(0))

    def view(self, name: str) -> View:
        """The view called `name`."""
        for view in self.views:
            if view.name == name:
                return view
        raise DataError(f"Features.views has no view {name!r}, which {self.repo} has: correct its name, or declare it")

    def rows(self, tables: Tables, start: datetime, end: datetime) -> dict[str, pl.DataFrame]:
        """View -> its rows that became known in `[start, end)`, of the raw rows of `[start - lookback, end)`."""
        return make_views(self.views, tables, start, end)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is predicted, for whom, and when it becomes known.

    `rows(tables)` returns one row per prediction that could be asked: the key, every request field, `name` (the
    label; null when it never becomes known) and `known_at` (UTC). The moment of prediction is `time - horizon`.
    """

    name: str
    """Column of the label, in the type of the task: 0 or 1, text, or a number."""
    rows: Callable[[Tables], pl.DataFrame]
    """See above; a pure function of the raw tables."""
    sources: tuple[str, ...]
    """Sources that `rows` reads."""
    key: tuple[str, ...]
    """Request fields that identify the row; joins logged predictions with their labels."""
    time: str
    """Request field of the predicted moment, such as a scheduled departure; an optional one, left out, means now."""
    horizon: timedelta
    """How long before `time` the prediction is asked for."""
    delay: timedelta
    """How long after `time` a label can still become known."""

    def moment(self) -> pl.Expr:
        """The moment of prediction, `time - horizon`, as the column `event_timestamp`."""
        import polars as pl

        from fti.times import TIME

        return (pl.col(self.time) - self.horizon).alias(TIME)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """How a training dataset is cut: by time, newest rows last, `[start, until)`.

    Test is the last `test` before `until`, validation the `validation` before that, train everything older. With
    `shares` it is cut at random instead.
    """

    start: datetime
    """Oldest moment of prediction; leave the windows of the features time to fill."""
    until: datetime
    """End of the first dataset; a retraining moves it to the present."""
    validation: timedelta
    """Decides when training stops and which trial is best."""
    test: timedelta
    """What the gates and the model card look at; nothing else sees it."""
    shares: tuple[float, float, float] | None = None
    """Shares of train, validation and test rows in `[start, until)`, chosen by a hash of the entity (where there are
    few: of the label's key), so that rows stay where they are. The test score is then not the future's."""
    max_rows: int = 2_000_000
    """Labelled rows at most: of more, those with the lowest hashes of the label's key, as the model card then says."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model, its fixed and its searched hyperparameters."""

    task: Task
    """Decides label, loss, metrics and answers."""
    categorical: tuple[str, ...]
    """Features to embed; all others are numeric."""
    params: Mapping[str, Any]
    """Defaults of every hyperparameter."""
    search_space: Callable[[optuna.Trial], dict[str, Any]]
    """Hyperparameters that a trial suggests; they override `params`."""
    num_trials: int
    """Trials of the study, the first of which has the defaults."""
    build: str | Callable[..., Any] = "training_pipeline.models.network:TabularNetwork"
    """A LightningModule class, a scikit-learn-like estimator (`training_pipeline.models.build`), or its
    `module:attribute`."""
    seed: int = 7
    """Decides every random number of study and training."""
    max_epochs: int = 12
    """Training stops earlier when the validation loss falls no more."""

    def __post_init__(self) -> None:
        if isinstance(self.build, str):
            return
        name = getattr(self.build, "__qualname__", "<instance>")
        if "<" in name:
            raise ValueError(f"Model.build is {name}, which no import finds: define it at the top of a module")
        object.__setattr__(self, "build", f"{self.build.__module__}:{name}")


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """When traffic counts as drifted, and how often a drift may retrain.

    A statistic is compared with its own values between weeks of the training data (`quantile`), so seasonal noise
    that the model has already seen is no drift.
    """

    window: timedelta
    """Logged predictions of this long before a report are compared with the training rows."""
    min_rows: int = 200
    """Fewer logged rows in the window decide nothing."""
    quantile: float = 1.0
    """A feature drifted when its distance is over this quantile of the training weeks' own distances..."""
    factor: float = 1.0
    """...times this factor."""
    max_drifted_share: float = 0.25
    """Share of drifted features from which `no_data_drift` fails."""
    performance_tolerance: float = 0.05
    """Log loss over the expectation of the model's own probabilities from which `no_performance_drift` fails."""
    retrain_on: tuple[str, ...] = ("no_data_drift", "no_prediction_drift", "no_performance_drift")
    """Checks whose failure requests a retraining."""
    cooldown: timedelta
    """Least time between two retrainings that drift asks for."""
    max_retrains_per_30_days: int = 2
    """Most retrainings that drift may ask for in 30 days."""
    retrain_validation: timedelta
    retrain_test: timedelta
    """Validation and test of a retraining's dataset: short, because the newest rows are the ones to learn from."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """One use case. `fti.testing.check_project` says whether it holds together."""

    name: str
    """A Python identifier: first part of the asset keys, name of the model and of the folders below `FTI_HOME`."""
    description: str
    """The question that the model answers, in a sentence."""
    sources: tuple[Source, ...]
    """Where raw rows come from."""
    features: Features
    """What is made of them."""
    label: Label
    """What is predicted."""
    dataset: Dataset
    """How rows become training, validation and test."""
    model: Model
    """What learns."""
    gates: tuple[Gate, ...]
    """What a challenger must show on the test split before it may serve."""
    service: Service
    """What is asked."""
    monitor: Monitor
    """When to worry, and when to train again."""
    partitions_start: datetime
    """First day, UTC."""
    partitions_end: datetime | None = None
    """End of the last day, for data that has one; without it every past day is a partition."""
    replayed: bool = False
    """Whether data of the past is played again: the project's clock (`now`) then never passes `partitions_end`."""
    partition_by: Period = "day"
    """What is one file and one partition; months suit thousands of days. Late rows make their whole month again."""
    chunk_days: int = 92
    """Days that one step of a backfill reads, makes, checks and writes at once: its bound on memory."""
    slices: tuple[str, ...] = ()
    """Columns whose values get metrics of their own."""
    owner: str = "fti"
    """Team that is shown as the owner of the assets."""

    def __post_init__(self) -> None:
        require_measurable(self.gates, self.model.task)
        if self.chunk_days < 1:
            raise ValueError(f"project {self.name}: chunk_days must be 1 or more, not {self.chunk_days}")

    def key(self, noun: str) -> list[str]:
        """Asset key of `noun`."""
        return [self.name, noun]

    def job(self, name: str) -> str:
        """Dagster's name of the job, schedule or sensor `name`, for example `training`."""
        return f"{self.name}_{name}"

    def op(self, noun: str) -> str:
        """Dagster's name of the step that makes the asset `noun`."""
        return "__".join(self.key(noun))

    def run_config(self, **configs: Mapping[str, Any]) -> dict[str, Any]:
        """A Dagster run's configuration, of that of its assets by noun."""
        return {"ops": {self.op(noun): {"config": dict(config)} for noun, config in configs.items()}}

    def now(self) -> datetime:
        """The project's clock: the present, or the end of its data where that is `replayed`."""
        present = datetime.now(UTC)
        return min(present, self.partitions_end or present) if self.replayed else present

    def partition(self, moment: date) -> str:
        """Key of the partition that holds `moment`."""
        return first_day(stem_of(moment, self.partition_by)).isoformat()

    def source(self, name: str) -> Source:
        """The source called `name`."""
        declared = {source.name: source for source in self.sources}
        if name not in declared:
            raise DataError(f"project {self.name} has no source {name!r}: correct its name, or declare it")
        return declared[name]

    def overriding(self, features: Iterable[str]) -> list[str]:
        """Request fields that replace the feature of their name, of `features`."""
        own = set(features)
        return [name for name in self.service.request if name in own and name not in self.label.key]

    @property
    def streamed(self) -> dict[str, Source]:
        """Sources whose rows also come as events, by name."""
        return {source.name: source for source in self.sources if source.streamed}

    def raw_keys(self, names: Sequence[str]) -> list[list[str]]:
        """Asset keys of the raw tables `names`."""
        return [self.key(f"raw_{name}") for name in names]
