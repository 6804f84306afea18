"""Users' own models: trained, saved without pickle and answering, or refused with the remedy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge

from fti.errors import DataError, NotReadyError
from fti.model.encoder import Encoder
from fti.model.estimator import is_trusted, load_estimator
from fti.project import Project
from fti.stores.datasets.store import DatasetStore
from fti.stores.registry.registry import ModelRegistry
from tests.training_pipeline import own_models
from tests.training_pipeline.tables import cut, job_on, save, table
from tests.training_pipeline.test_train_tasks import gain
from training_pipeline.fitting.train import train
from training_pipeline.fitting.tune import TuneConfig, run_study
from training_pipeline.models.build import build_model

HERE = "tests.training_pipeline.own_models"
OWN = [
    ("binary", f"{HERE}:forest", {"trees_in_forest": 20}, 0.9),
    ("multiclass", f"{HERE}:forest", {"trees_in_forest": 20}, 0.8),
    ("multiclass", "sklearn.ensemble:HistGradientBoostingClassifier", {"max_iter": 20}, 0.7),
    ("regression", f"{HERE}:ridge", {"alpha": 1.0}, 0.3),
    ("binary", f"{HERE}:Linear", {}, 0.8),
    ("multiclass", f"{HERE}:Linear", {}, 0.6),
    ("regression", f"{HERE}:Linear", {}, 0.1),
]


@pytest.mark.parametrize(("task", "build", "params", "enough"), OWN)
def test_a_model_of_ones_own_trains_and_answers(
    task: str,
    build: str,
    params: dict[str, Any],
    enough: float,
    project: Project,
    registry: ModelRegistry,
    tmp_path: Path,
) -> None:
    job = job_on(project, registry, tmp_path / "datasets", task, build=build, params=params, max_epochs=6)
    lines: list[str] = []
    result = train(job, lines.append)
    bundle = registry.run_bundle(result.run_id)
    test = job.datasets.load(job.dataset_version).splits["test"]
    predicted = bundle.predict(test)
    assert gain(task, test["label"].to_numpy(), predicted, list(bundle.info.classes)) > enough
    np.testing.assert_allclose(bundle.predict(test[:1]), predicted[:1], rtol=1e-3, atol=1e-4)
    assert bundle.predict(test[:0]).shape == (0, *predicted.shape[1:])
    assert f"validation loss {result.validation_loss:.4f}" in lines[-1]


def test_an_estimator_is_tuned_by_the_same_study(project: Project, registry: ModelRegistry, tmp_path: Path) -> None:
    store = DatasetStore(str(tmp_path))
    rows, described = table("regression")
    dataset = store.load(save(store, cut(rows), described))
    model = replace(
        project.model,
        task="regression",
        build=f"{HERE}:ridge",
        params={"alpha": 1e6},
        search_space=lambda trial: {"alpha": trial.suggest_float("alpha", 0.1, 1.0)},
    )
    study = run_study(replace(project, model=model, gates=()), dataset, registry, TuneConfig(num_trials=3))
    assert study.best_trial.user_attrs["params"]["alpha"] <= 1.0
    assert study.best_value < 0.8


def encoder_of(task: str) -> Encoder:
    rows, described = table(task)
    return Encoder.of(described, rows)


@pytest.mark.parametrize(
    ("build", "params", "task", "message"),
    [
        (f"{HERE}:Secret", {}, "regression", "types that are not trusted.*own_models.Secret.*LightningModule"),
        ("sklearn.linear_model:Ridge", {"alphabet": 1}, "regression", "does not take the parameters alphabet"),
        ("sklearn.linear_model:RidgeClassifier", {}, "binary", "without predict_proba"),
        ("sklearn.linear_model:nothing", {}, "binary", "cannot be imported"),
        (f"{HERE}:HERE", {}, "binary", "cannot be imported"),
        ("math:pi", {}, "binary", "no class or function"),
        (f"{HERE}:Branching", {}, "binary", "cannot be exported for serving"),
    ],
)
def test_what_cannot_be_built_or_saved_is_refused_before_it_is_trained(
    build: str, params: dict[str, Any], task: str, message: str
) -> None:
    with pytest.raises((DataError, NotReadyError), match=message):
        build_model(build, encoder_of(task), params)


def test_an_estimator_that_takes_no_missing_numbers_says_what_to_do(
    project: Project, registry: ModelRegistry, tmp_path: Path
) -> None:
    job = job_on(project, registry, tmp_path, "regression")
    dataset = job.datasets.load(job.dataset_version)
    splits = {**dataset.splits, "train": dataset.splits["train"].with_columns(age=None)}
    version = save(job.datasets, splits, dataset.manifest)
    with pytest.raises(DataError, match=r"Ridge could not be fitted: Input X contains NaN.*SimpleImputer"):
        train(replace(job, build="sklearn.linear_model:Ridge", params={}, dataset_version=version), print)


def test_a_seed_reaches_every_part_of_an_estimator() -> None:
    encoder, params = encoder_of("multiclass"), {"trees_in_forest": 3}
    assert build_model(f"{HERE}:forest", encoder, params, seed=3).random_state == 3


def test_a_file_with_other_types_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(skops.io.dumps(own_models.Secret()))
    with pytest.raises(DataError, match=r"not trusted in a model file: .*Secret"):
        load_estimator(path)
    for kind in ("os.system", "numpy.testing.assert_equal", "sklearn.utils.nothing", "subprocess.Popen"):
        assert not is_trusted(kind), kind
    path.write_bytes(skops.io.dumps(HistGradientBoostingClassifier().fit(np.arange(40.0).reshape(-1, 1), [0, 1] * 20)))
    assert load_estimator(path).n_iter_ > 0
    path.write_bytes(skops.io.dumps(Ridge()))
    assert load_estimator(path).alpha == 1.0


def test_build_may_be_the_class_or_function_itself(project: Project) -> None:
    assert replace(project.model, build=own_models.forest).build == f"{HERE}:forest"
    assert replace(project.model, build=own_models.Linear).build == f"{HERE}:Linear"
    for nameless in (lambda params: None, Ridge()):
        with pytest.raises(ValueError, match="define it at the top of a module"):
            replace(project.model, build=nameless)
