"""The line under a regression: levels that training has never seen, and numbers that nobody should follow."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from fti.model.bundle import ModelBundle, save_bundle
from fti.model.encoder import Encoder
from fti.model.records import ModelColumns, ModelInfo
from tests.training_pipeline.tables import cut, table
from training_pipeline.fitting.datamodule import TabularData
from training_pipeline.fitting.learn import Learned, learn
from training_pipeline.models.linear import fit_line, start_of

ROWS = 600
INFO = ModelInfo(task="regression", label="label", numeric=("before", "noise"), categorical=())


def learned_on(rows: pl.DataFrame) -> tuple[Learned, pl.DataFrame]:
    """A small model of the first 85 % of the rows, and the others."""
    first, second = int(0.7 * ROWS), int(0.85 * ROWS)
    splits = {"train": rows[:first], "validation": rows[first:second]}
    encoder = Encoder.of(INFO, splits["train"])
    data = TabularData(splits, encoder, label="label", seed=1)
    params = {"trees": 60, "hidden": 16, "members": 2}
    network = "training_pipeline.models.network:TabularNetwork"
    return learn(encoder, data, build=network, params=params, seed=1, max_epochs=3), rows[second:]


def r2(labels: np.ndarray, predicted: np.ndarray) -> float:
    return 1 - float(((labels - predicted) ** 2).mean() / labels.var())


def test_a_series_that_rises_is_followed_beyond_what_training_has_seen(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    level = 0.1 * np.arange(ROWS) + np.sin(np.arange(ROWS) / 5) + random.normal(0, 0.1, ROWS)
    before = np.append(level[:1], level[:-1])
    rows = pl.DataFrame({"before": before, "noise": random.normal(size=ROWS), "label": level})
    learned, future = learned_on(rows)
    assert learned.metrics["line_rest"] < 0.05
    assert learned.validation_loss < 0.001  # in units of the label, not of what the line leaves
    save_bundle(tmp_path / "model", network=learned.model, encoder=learned.encoder, info=INFO)
    predicted = ModelBundle.load(tmp_path / "model").predict(future)
    assert future["label"].min() > rows["label"][: int(0.7 * ROWS)].max()  # type: ignore[operator]
    assert r2(future["label"].to_numpy(), predicted) > 0.9


def test_there_is_no_line_where_trees_do_as_well_without() -> None:
    random = np.random.default_rng(1)
    before = random.uniform(-1, 1, ROWS)
    label = np.where(np.abs(before) > 0.5, 5.0, 0.0) + random.normal(0, 0.1, ROWS)
    rows = pl.DataFrame({"before": before, "noise": random.normal(size=ROWS), "label": label})
    learned, others = learned_on(rows)
    assert "line_rest" not in learned.metrics
    assert r2(others["label"].to_numpy(), learned.bundle({}).predict(others)) > 0.9


def test_a_line_that_a_few_huge_numbers_bend_is_not_taken() -> None:
    """Counts whose share is the label: the line of the counts says next to nothing."""
    random = np.random.default_rng(2)
    size = np.exp(random.normal(8, 2, ROWS))
    share = random.uniform(0.02, 0.2, ROWS)
    rows = pl.DataFrame({"before": size, "noise": size * share, "label": share})
    learned, _ = learned_on(rows)
    assert "line_rest" not in learned.metrics


@pytest.mark.parametrize(("times", "taken"), [(1, False), (10, True)])
def test_a_gain_that_may_be_chance_on_few_rows_takes_no_line(times: int, taken: bool) -> None:
    rows, described = table("regression")
    splits = cut(rows, seed=10)
    splits["validation"] = pl.concat([splits["validation"]] * times)
    encoder = Encoder.of(described, splits["train"])
    data = TabularData(splits, encoder, label="label", seed=1)
    assert (start_of(encoder, data, {"trees": 60}, seed=1) is not None) == taken


@pytest.mark.parametrize(("far", "taken"), [(5, False), (10, True)])
def test_a_few_rows_far_out_do_not_outvote_the_others(far: int, taken: bool) -> None:
    """A staircase, which trees know by heart, and rows beyond its end, whose squared errors are all that count."""
    random = np.random.default_rng(0)
    before = random.uniform(0, 15, 1500)
    before[-far:] = random.uniform(15, 22, far)
    rows = pl.DataFrame({"before": before, "label": np.floor(before)})
    described = ModelColumns(task="regression", label="label", numeric=("before",), categorical=())
    encoder = Encoder.of(described, rows[:1000])
    data = TabularData({"train": rows[:1000], "validation": rows[1000:]}, encoder, label="label", seed=1)
    assert (start_of(encoder, data, {"trees": 60}, seed=1) is not None) == taken


def test_the_line_follows_numbers_for_one_more_range_and_no_farther() -> None:
    rows = torch.stack([torch.linspace(0, 10, 50), torch.full((50,), 3.0), torch.full((50,), torch.nan)], dim=1)
    rows[7, 0] = torch.nan
    line = fit_line(rows, 2 * torch.nan_to_num(rows[:, 0], nan=5.0) - 1, 3)
    asked = torch.tensor([[12.0, 3.0, torch.nan], [1e30, -1e30, 1e30], [torch.nan, 0.0, 0.0]])
    expected = [23.0, 39.0, 9.0]  # the level at 12, at 20 where the numbers end, and at the median
    assert line(asked).tolist() == pytest.approx(expected, abs=1)
