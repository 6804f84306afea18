"""Boosted trees as tensors, alone and beside the network."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from fti.project import Project
from fti.stores.encoder import Encoder
from fti.stores.model_bundle import BLOCK, outputs_of
from fti.stores.model_registry import ModelRegistry
from tests.training_pipeline.tables import job_on
from tests.training_pipeline.test_train_tasks import gain
from training_pipeline.blend import LEAN, best_weight, row_losses
from training_pipeline.datamodule import TabularData
from training_pipeline.learn import learn
from training_pipeline.train import train
from training_pipeline.trees import Trees, enough_rounds, grown_again, tree_arrays, trees_of


def rows_with_everything(num_rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, some missing, a column missing only in one half, and two columns of codes; and what they add up to."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(num_rows, 6)).astype(np.float32)
    rows[random.random((num_rows, 6)) < 0.1] = np.nan
    rows[:, 4], rows[:, 5] = random.integers(0, 200, num_rows), random.integers(1, 6, num_rows)
    rows[: num_rows // 2, 3] = np.nan
    rows[num_rows // 2 :, 3] = 1.0
    score = np.nan_to_num(rows[:, 0]) + np.isnan(rows[:, 1]) + np.isnan(rows[:, 3]) + 2 * (rows[:, 4] % 7 == 0)
    return rows, score + (rows[:, 5] == 3) + random.normal(size=num_rows) / 3


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_tensors_give_what_scikit_learn_gives(task: str) -> None:
    rows, score = rows_with_everything()
    labels = {"binary": (score > 1).astype(int), "multiclass": np.digitize(score, [0, 1, 2]), "regression": score}[task]
    kind = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    with threadpool_limits(1):
        model = kind(categorical_features=[4, 5], max_iter=30).fit(rows, labels)
    asked = rows.copy()
    asked[:50, 4] = 0
    asked[50:90, 5] = 9  # codes that the training rows had not
    asked[90:120, 4] = 230
    expected = model._raw_predict(asked)
    trees = Trees(tree_arrays(model, 30), 4 if task == "multiclass" else 1).eval()
    shapes = ({0: torch.export.Dim("rows", min=1)},)
    program = torch.export.export(trees, (torch.zeros(4, 6),), dynamic_shapes=shapes).module()
    for part in (slice(0, 1), slice(0, 300), slice(None)):
        found = program(torch.from_numpy(asked[part])).numpy()
        np.testing.assert_allclose(found.reshape(len(found), -1), expected[part], atol=1e-5)


@pytest.mark.parametrize(("task", "enough"), [("binary", 0.9), ("multiclass", 0.8), ("regression", 0.25)])
def test_trees_beside_the_network_are_trained_recorded_and_served(
    task: str, enough: float, project: Project, registry: ModelRegistry, tmp_path: Path
) -> None:
    params = {"hidden": 16, "trees": 40}
    job = job_on(project, registry, tmp_path / "datasets", task, params=params, max_epochs=4)
    result = train(job, print)
    recorded = registry.client.get_run(result.run_id).data.metrics
    assert 0 <= recorded["blend_weight"] <= 1
    assert 1 <= recorded["num_tree_rounds"] <= 40
    losses = recorded["network_validation_loss"], recorded["trees_validation_loss"]
    assert result.validation_loss <= max(losses)
    bundle = registry.run_bundle(result.run_id)
    test = job.datasets.load(job.dataset_version).splits["test"]
    predicted = bundle.predict(test)
    assert gain(task, test["label"].to_numpy(), predicted, list(bundle.info["classes"])) > enough
    np.testing.assert_allclose(bundle.predict(test[:1]), predicted[:1], rtol=1e-4, atol=1e-5)


def test_what_serves_has_learnt_from_the_validation_rows_too() -> None:
    """The newest rows have a category that is new: whoever was only checked against them cannot know it."""
    rows, score = rows_with_everything(1200)
    season = ["old"] * 800 + [("old", "new")[place % 2] for place in range(400)]
    frame = pl.DataFrame(rows[:, :4], schema=list("abcd")).with_columns(
        season=pl.Series(season), label=pl.Series(score + 3 * (np.array(season) == "new"))
    )
    described = {"task": "regression", "label": "label", "numeric": list("abcd"), "categorical": ["season"]}
    splits = {"train": frame[:800], "validation": frame[800:]}
    encoder = Encoder.of(described, splits["train"])
    answers = []
    for _ in range(2):
        data = TabularData(splits, encoder, label="label", seed=1)
        params = {"trees": 30, "hidden": 16}
        build = "training_pipeline.model:TabularNetwork"
        learned = learn(encoder, data, build=build, params=params, seed=1, max_epochs=4)
        assert learned.metrics["blend_weight"] < 1
        network = getattr(learned.model, "network", learned.model)
        losses = row_losses("regression", outputs_of(network, data.validation.rows), data.validation.labels)
        assert losses.mean() < 0.95 * learned.metrics["network_validation_loss"]
        answers.append(outputs_of(learned.model, data.validation.rows))
    assert torch.equal(*answers)


@pytest.mark.parametrize("few", [True, False])
def test_few_validation_rows_do_not_stop_the_trees_early(few: bool) -> None:
    """Rows of another season: their lowest loss comes at once, and more rounds cost little."""
    rows, score = rows_with_everything(6000)
    part = rows[:60] if few else np.tile(rows[:60], (100, 1))
    labels = np.tile(score[:60] * 0.3, 1 if few else 100)
    model = HistGradientBoostingRegressor(
        categorical_features=[4, 5], max_iter=120, early_stopping=True, n_iter_no_change=119
    )
    with threadpool_limits(1):
        model.fit(rows[2500:4000], score[2500:4000], X_val=part, y_val=labels)
    lowest = int(np.argmax(model.validation_score_))
    rounds = enough_rounds(model, part, labels, "regression")
    assert lowest < 50
    assert (lowest < rounds <= 100) if few else rounds == max(lowest, 1)


def test_the_better_side_gets_the_weight_and_few_rows_say_little() -> None:
    labels = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    good, bad = labels + 0.1 * torch.roll(labels, 1), torch.zeros(4000)
    assert best_weight("regression", good, bad, labels) < 0.1
    assert best_weight("regression", bad, good, labels) > 0.9
    assert best_weight("regression", good, good, labels) == LEAN


def test_few_validation_rows_of_another_kind_do_not_keep_the_trees_that_serve_small() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=600)
    rows = pl.DataFrame({"x": x, "label": np.sin(4 * x)})
    splits = {"train": rows[:400], "validation": rows[400:].with_columns(label=pl.lit(9.0)), "test": rows[:0]}
    encoder = Encoder.of({"numeric": ["x"], "categorical": [], "label": "label", "task": "regression"}, splits["train"])
    data = TabularData(splits, encoder, label="label", seed=0)
    for most, served in ((300, 100), (40, 40)):
        trees = trees_of(encoder, data, {"trees": most}, 0)
        assert trees is not None
        assert trees.num_rounds < 20
        assert grown_again(encoder, data, trees, {"trees": most}, 0).num_rounds == served


def test_many_rows_are_answered_in_blocks_as_few_are() -> None:
    network = torch.nn.Linear(3, 2)
    rows = torch.randn(2 * BLOCK + 7, 3)
    with torch.inference_mode():
        torch.testing.assert_close(outputs_of(network, rows), network(rows))
    assert outputs_of(network, rows[:0]).shape == (0, 2)
