"""Boosted trees, alone and beside the network."""

from pathlib import Path

import lightgbm
import numpy as np
import polars as pl
import pytest
import torch

from fti.model.bundle import BLOCK, ModelBundle, outputs_of, save_bundle
from fti.model.encoder import Encoder
from fti.model.records import ModelColumns, ModelInfo
from fti.project import Project
from fti.stores.registry.registry import ModelRegistry
from tests.training_pipeline.tables import job_on
from tests.training_pipeline.test_train_tasks import gain
from training_pipeline.fitting.datamodule import TabularData
from training_pipeline.fitting.learn import learn
from training_pipeline.fitting.train import train
from training_pipeline.models.blend import LEAN, best_weight, blend, row_losses
from training_pipeline.models.network import TabularNetwork
from training_pipeline.models.trees import boost, enough_rounds, grown_again, trees_of


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
def test_a_saved_model_answers_as_before_also_for_categories_that_are_new(task: str, tmp_path: Path) -> None:
    rows, score = rows_with_everything()
    frame = pl.DataFrame(rows, schema=list("abcdef")).with_columns(pl.col("e", "f").cast(pl.Int64).cast(pl.String))
    labels = {"binary": (score > 1).astype(np.int8), "regression": score}
    labels["multiclass"] = np.array(["none", "low", "mid", "high"])[np.digitize(score, [0, 1, 2])]
    frame = frame.with_columns(label=pl.Series(labels[task]))
    classes = tuple(sorted(frame["label"].unique())) if task == "multiclass" else ()
    described = ModelInfo(task=task, label="label", numeric=tuple("abcd"), categorical=("e", "f"), classes=classes)
    splits = {"train": frame[:1000], "validation": frame[1000:]}
    encoder = Encoder.of(described, splits["train"])
    data = TabularData(splits, encoder, label="label", seed=1)
    booster = trees_of(encoder, data, {"trees": 30}, 0)
    assert booster is not None
    asked = frame.with_columns(pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("new")).otherwise("e").alias("e"))
    for weight in (0.4, 1):
        network = TabularNetwork(encoder, {"hidden": 8})
        model = ModelBundle(encoder, described, blend(network.eval(), booster, weight))
        folder = tmp_path / str(weight)
        save_bundle(folder, network=model.model, encoder=encoder, info=described)
        saved = ModelBundle.load(folder)
        for part in (slice(0, 1), slice(0, 300), slice(0, 0)):
            np.testing.assert_allclose(saved.predict(asked[part]), model.predict(asked[part]), atol=1e-6)


def test_a_class_that_training_has_not_seen_is_unlikely_and_not_impossible() -> None:
    rows, score = rows_with_everything()
    splits = {"train": pl.DataFrame({"a": rows[:, 0], "label": np.where(score > 1, "b", "d")})}
    described = ModelColumns(task="multiclass", label="label", numeric=("a",), categorical=(), classes=tuple("abcd"))
    encoder = Encoder.of(described, splits["train"])
    labels = encoder.target.encode(splits["train"]["label"])
    booster = boost(encoder, (encoder.encode(splits["train"]), labels), params={"trees": 20}, seed=0)
    predicted = encoder.target.decode(booster.predict(rows[:, :1], raw_score=True))
    assert predicted[:, [0, 2]].min() > 1e-6
    assert predicted[:, [0, 2]].max() < 1e-2


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
    assert gain(task, test["label"].to_numpy(), predicted, list(bundle.info.classes)) > enough
    np.testing.assert_allclose(bundle.predict(test[:1]), predicted[:1], rtol=1e-4, atol=1e-5)


def test_what_serves_has_learnt_from_the_validation_rows_too() -> None:
    """The newest rows have a category that is new: whoever was only checked against them cannot know it."""
    rows, score = rows_with_everything(1200)
    season = ["old"] * 800 + [("old", "new")[place % 2] for place in range(400)]
    frame = pl.DataFrame(rows[:, :4], schema=list("abcd")).with_columns(
        season=pl.Series(season), label=pl.Series(score + 3 * (np.array(season) == "new"))
    )
    described = ModelColumns(task="regression", label="label", numeric=tuple("abcd"), categorical=("season",))
    splits = {"train": frame[:800], "validation": frame[800:]}
    encoder = Encoder.of(described, splits["train"])
    answers = []
    for _ in range(2):
        data = TabularData(splits, encoder, label="label", seed=1)
        params = {"trees": 30, "hidden": 16}
        build = "training_pipeline.models.network:TabularNetwork"
        learned = learn(encoder, data, build=build, params=params, seed=1, max_epochs=4)
        assert learned.metrics["blend_weight"] < 1
        network = learned.model.program.network if learned.metrics["blend_weight"] else learned.model
        losses = row_losses("regression", outputs_of(network, data.validation.rows), data.validation.labels)
        assert losses.mean() < 0.95 * learned.metrics["network_validation_loss"]
        answers.append(outputs_of(learned.model, data.validation.rows))
    assert torch.equal(*answers)


@pytest.mark.parametrize("few", [True, False])
def test_few_validation_rows_do_not_stop_the_trees_early(few: bool) -> None:
    """Rows of another season: their lowest loss comes at once, and more rounds cost little."""
    rows, score = rows_with_everything(6000)
    part = rows[:60] if few else np.tile(rows[:60], (100, 1))
    noisy = score[:60] * 0.6 + np.random.default_rng(1).normal(size=60)
    labels = np.tile(noisy, 1 if few else 100)
    train = lightgbm.Dataset(rows[2500:4000], score[2500:4000], categorical_feature=[4, 5])
    booster = lightgbm.train(
        {"verbosity": -1, "num_threads": 1, "learning_rate": 0.1},
        train,
        120,
        valid_sets=[train.create_valid(part, labels)],
        callbacks=[lightgbm.early_stopping(119, verbose=False)],
        keep_training_booster=True,
    )
    lowest = booster.best_iteration
    rounds = enough_rounds(booster, part, labels, task="regression")
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
    described = ModelColumns(task="regression", label="label", numeric=("x",), categorical=())
    encoder = Encoder.of(described, splits["train"])
    data = TabularData(splits, encoder, label="label", seed=0)
    for most, served in ((300, 100), (40, 40)):
        trees = trees_of(encoder, data, {"trees": most}, 0)
        assert trees is not None
        assert trees.current_iteration() < min(most, 40)
        assert grown_again(encoder, data, trees, {"trees": most}, 0).current_iteration() == served


def test_many_rows_are_answered_in_blocks_as_few_are() -> None:
    network = torch.nn.Linear(3, 2)
    rows = torch.randn(2 * BLOCK + 7, 3)
    with torch.inference_mode():
        torch.testing.assert_close(outputs_of(network, rows), network(rows))
    assert outputs_of(network, rows[:0]).shape == (0, 2)
