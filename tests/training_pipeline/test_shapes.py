"""Tables of awkward shapes end with a model that answers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fti.errors import DataError
from fti.model.bundle import ModelBundle, save_bundle
from fti.model.encoder import Encoder
from fti.model.records import ModelInfo
from training_pipeline.fitting.datamodule import TabularData
from training_pipeline.fitting.learn import learn

RANDOM = np.random.default_rng(0)
PARAMS = {"trees": 20, "hidden": 8}


def numbers(num_rows: int, num_columns: int = 3) -> pl.DataFrame:
    return pl.DataFrame(RANDOM.normal(size=(num_rows, num_columns)), schema=[f"x{at}" for at in range(num_columns)])


def binary(rows: pl.DataFrame, column: str = "x0") -> pl.DataFrame:
    return rows.with_columns(label=(pl.col(column) > 0).cast(pl.Int8))


def all_categories(rows: int = 200) -> pl.DataFrame:
    kinds = RANDOM.choice(["a", "b", None], rows)
    return pl.DataFrame({"kind": pl.Series(kinds.tolist(), dtype=pl.String), "flag": RANDOM.random(rows) > 0.5})


SHAPES: dict[str, Callable[[], pl.DataFrame]] = {
    "thirty rows": lambda: binary(numbers(30)),
    "one class in the training rows": lambda: numbers(60).with_columns(
        label=pl.Series([0] * 50 + [1] * 10, dtype=pl.Int8)
    ),
    "constant and unknown columns": lambda: binary(numbers(90)).with_columns(one=1.0, never=pl.lit(None, pl.Float64)),
    "categories only": lambda: all_categories().with_columns(label=pl.col("flag").cast(pl.Int8)),
    "one column": lambda: binary(numbers(80, 1)),
    "infinite and huge numbers": lambda: binary(numbers(80)).with_columns(
        x1=pl.when(pl.col("x0") > 1).then(float("inf")).otherwise(-1e300), x2=pl.lit(2**53)
    ),
    "many categories": lambda: binary(numbers(3000)).with_columns(
        city=pl.Series([f"city {at % 1500}" for at in range(3000)]),
        state=pl.Series([f"{at % 300}" for at in range(3000)]),
    ),
    "many columns": lambda: binary(numbers(120, 300)),
    "a constant label": lambda: numbers(60).with_columns(label=pl.lit(3.5)),
    "a heavy tail": lambda: numbers(300).with_columns(label=pl.col("x0").exp() ** 6 * 1e9),
    "rare classes": lambda: numbers(150).with_columns(
        label=pl.Series(["a"] * 70 + ["b"] * 30 + ["c", "a"] * 24 + ["d", "e"])
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_ends_with_a_model_that_answers(shape: str, tmp_path: Path) -> None:
    rows = SHAPES[shape]()
    if shape not in ("one class in the training rows", "rare classes"):
        rows = rows.sample(fraction=1, shuffle=True, seed=1)
    first, second = rows.height * 6 // 10, rows.height * 8 // 10
    splits = {"train": rows[:first], "validation": rows[first:second]}
    features = [name for name in rows.columns if name != "label"]
    categorical = [name for name in features if not rows[name].dtype.is_numeric()]
    task = {pl.Int8: "binary", pl.String: "multiclass", pl.Float64: "regression"}[rows["label"].dtype.base_type()]
    numeric = tuple(name for name in features if name not in categorical)
    classes = tuple(sorted(rows["label"].unique())) if task == "multiclass" else ()
    info = ModelInfo(task=task, label="label", numeric=numeric, categorical=tuple(categorical), classes=classes)
    encoder = Encoder.of(info, splits["train"])
    data = TabularData(splits, encoder, label="label", seed=1)
    network = "training_pipeline.models.network:TabularNetwork"
    learned = learn(encoder, data, build=network, params=PARAMS, seed=1, max_epochs=2)
    assert np.isfinite(learned.validation_loss)
    save_bundle(tmp_path / "model", network=learned.model, encoder=encoder, info=info)
    predicted = ModelBundle.load(tmp_path / "model").predict(rows[second:])
    assert len(predicted) == rows.height - second
    assert np.isfinite(predicted).all()


def test_a_column_of_very_many_categories_keeps_the_frequent_ones() -> None:
    names = [f"rare {at}" for at in range(2000)] + ["often"] * 10
    encoder = Encoder.fit(pl.DataFrame({"name": names}), numeric=[], categorical=["name"])
    assert encoder.sizes == (1001,)
    codes = encoder.encode(pl.DataFrame({"name": ["often", "rare 1999", None]}))[:, 0].tolist()
    assert codes[0] > 0
    assert codes[1:] == [0, 0]


def test_a_dataset_without_features_is_refused() -> None:
    rows = pl.DataFrame({"label": [0, 1]})
    with pytest.raises(DataError, match="no features"):
        Encoder.of(ModelInfo(task="binary", label="label", numeric=(), categorical=()), rows)
