"""The model for tables beside the baseline, scikit-learn's HistGradientBoosting with its defaults, on the same rows.

    python -m benchmarks.model_quality                              tables that installed packages ship
    python -m benchmarks.model_quality titanic.csv:survived ...     your own: FILE:LABEL[:TIME[:LEFT_OUT,...]]

With TIME the rows are cut in its order, otherwise at random. Text that hardly ever repeats is left out.

One JSON line per table: metric of both sides on unseen rows, `ratio` (1.02: 2 % better than the baseline) and seconds.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import polars as pl
from sklearn import metrics

from fti.model.records import Manifest, ModelInfo
from fti.stores.datasets.store import TrainingDataset
from training_pipeline.models import baseline

TEXT = (pl.String, pl.Boolean, pl.Categorical)
MAX_CLASSES = 30
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}


def shipped() -> dict[str, tuple[pl.DataFrame, str, str | None]]:
    """Tables that need no file: rows, label, column of time."""
    from sklearn import datasets

    from fti.projects.nycflights import read_csv

    found: dict[str, tuple[pl.DataFrame, str, str | None]] = {}
    for name in ("breast_cancer", "wine", "iris", "digits", "diabetes"):
        data = getattr(datasets, f"load_{name}")()
        columns = [f"x{place}" for place in range(data.data.shape[1])]
        names = getattr(data, "target_names", None) if name != "diabetes" else None
        label = data.target if names is None else np.array([str(names[place]) for place in data.target])
        found[name] = (pl.DataFrame(data.data, schema=columns).with_columns(label=pl.Series(label)), "label", None)
    flights = read_csv("flights.csv.zip").sample(50_000, seed=0)
    known = ["year", "month", "day", "sched_dep_time", "sched_arr_time", "carrier", "origin", "dest", "distance"]
    found["flights_delay"] = (flights.select(*known, "arr_delay").drop_nulls("arr_delay"), "arr_delay", None)
    found["flights_origin"] = (flights.select("hour", "carrier", "dest", "dep_delay", "origin"), "origin", None)
    return found


def read(path: str) -> pl.DataFrame:
    """A table of a CSV or JSON file."""
    if ".json" in path:
        import pandas

        return pl.from_pandas(pandas.read_json(path))
    return pl.read_csv(path, infer_schema_length=None, null_values=["NA", "", "?"], ignore_errors=True)


def dataset_of(name: str, rows: pl.DataFrame, label: str, moment: str | None, seed: int) -> TrainingDataset:
    """70, 15 and 15 % of the rows, at random or in the order of time."""
    rows = rows.drop_nulls(label)
    labels = rows[label]
    numeric = labels.dtype.is_numeric() and labels.n_unique() > 2
    task = "regression" if numeric else "binary" if labels.n_unique() == 2 else "multiclass"
    if task != "regression":
        rows = rows.with_columns(pl.col(label).cast(pl.String)).filter(pl.len().over(label) >= 5)
        if task == "binary":
            rows = rows.with_columns((pl.col(label) == rows[label].max()).cast(pl.Int8))
        elif rows[label].n_unique() > MAX_CLASSES:
            raise ValueError(f"{name}: {rows[label].n_unique()} classes of {label}")
    rows = rows.sort(moment) if moment else rows.sample(fraction=1.0, shuffle=True, seed=seed)
    features = [column for column in rows.columns if column not in (label, moment)]
    categorical = [
        column for column in features if rows[column].dtype in TEXT and rows[column].n_unique() <= rows.height / 2
    ]
    numbers = [column for column in features if rows[column].dtype.is_numeric()]
    first, second = int(rows.height * 0.7), int(rows.height * 0.85)
    splits = {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}
    classes = tuple(sorted(rows[label].unique())) if task == "multiclass" else ()
    if task == "regression":
        splits = {split: part.with_columns(pl.col(label).cast(pl.Float64)) for split, part in splits.items()}
    manifest = Manifest(task=task, label=label, numeric=tuple(numbers), categorical=tuple(categorical), classes=classes)
    return TrainingDataset(name, splits, manifest)


def measure(dataset: TrainingDataset, predicted: np.ndarray) -> dict[str, float]:
    """Metrics on the test split; first the one that is compared."""
    labels = dataset.splits["test"][dataset.manifest.label].to_numpy()
    if dataset.manifest.task == "regression":
        return {
            "rmse": float(np.sqrt(np.mean((labels - predicted) ** 2))),
            "r2": float(metrics.r2_score(labels, predicted)),
        }
    if dataset.manifest.task == "binary":
        log_loss = float(metrics.log_loss(labels, predicted, labels=[0, 1]))
        return {"roc_auc": float(metrics.roc_auc_score(labels, predicted)), "log_loss": log_loss}
    classes = np.array(dataset.manifest.classes)
    best = classes[predicted.argmax(1)]
    return {
        "macro_f1": float(metrics.f1_score(labels, best, average="macro", zero_division=0)),
        "log_loss": float(metrics.log_loss(labels, predicted, labels=classes)),
    }


def compare(dataset: TrainingDataset, seed: int, overrides: dict[str, Any]) -> dict[str, Any]:
    """Both sides on one dataset."""
    from fti.model.encoder import Encoder
    from fti.tables import tabular
    from training_pipeline.fitting.datamodule import TabularData
    from training_pipeline.fitting.learn import learn

    began = time.perf_counter()
    beside = measure(dataset, baseline.fit_and_predict(dataset, seed))
    middle = time.perf_counter()
    params = {**tabular.DEFAULTS, **overrides}
    encoder = Encoder.of(dataset.manifest, dataset.splits["train"])
    data = TabularData(dataset.splits, encoder, label=dataset.manifest.label, seed=seed)
    build = "training_pipeline.models.network:TabularNetwork"
    learned = learn(encoder, data, build=build, params=params, seed=seed, max_epochs=tabular.MAX_EPOCHS)
    ours = measure(dataset, learned.bundle(ModelInfo.of(dataset.manifest)).predict(dataset.splits["test"]))
    task, (metric, *_) = dataset.manifest.task, ours
    ratio = ours[metric] / beside[metric] if task != "regression" else beside[metric] / ours[metric]
    return {
        "table": dataset.version,
        "task": task,
        "rows": sum(part.height for part in dataset.splits.values()),
        "columns": dataset.manifest.num_features,
        "metric": metric,
        "model": round(ours[metric], 5),
        "baseline": round(beside[metric], 5),
        "ratio": round(ratio, 4),
        "log_loss": [round(side["log_loss"], 4) for side in (ours, beside) if "log_loss" in side],
        "seconds": round(time.perf_counter() - middle, 1),
        "baseline_seconds": round(middle - began, 1),
        **{name: round(value, 4) for name, value in learned.metrics.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_quality", description=__doc__)
    parser.add_argument("tables", nargs="*", help="FILE:LABEL[:TIME[:LEFT_OUT,...]]")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--params", type=json.loads, default={}, help="JSON that overrides the defaults")
    given = parser.parse_args()
    tables = {}
    for table in given.tables:
        path, label, moment, left_out, *_ = [*table.split(":"), "", ""]
        rows = read(path).drop(left_out.split(","), strict=False)
        tables[table.rsplit("/", 1)[-1]] = rows, label, moment or None
    for name, (rows, label, moment) in (tables or shipped()).items():
        result = compare(dataset_of(name, rows, label, moment, given.seed), given.seed, given.params)
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
