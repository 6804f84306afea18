"""Small datasets of all three tasks, from tables that scikit-learn ships."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn import datasets

from fti.model.records import Manifest, ModelColumns
from fti.project import Project, Task
from fti.stores.datasets.store import DatasetStore
from fti.stores.registry.registry import ModelRegistry
from training_pipeline.launching.job import TrainingJob, training_job

MOMENT = datetime(2024, 1, 1, tzinfo=UTC)


def table(task: Task) -> tuple[pl.DataFrame, ModelColumns]:
    """Rows with the column `label`, and what is said of their columns."""
    load = {
        "binary": datasets.load_breast_cancer,
        "multiclass": datasets.load_wine,
        "regression": datasets.load_diabetes,
    }
    found = load[task]()
    names = [name.replace(" ", "_") for name in found.feature_names][:12]
    rows = pl.DataFrame(found.data[:, :12].astype(np.float32), schema=names)
    label = pl.Series("label", found.target)
    first = rows[names[0]]
    rows = rows.with_columns(
        size=pl.when(first > first.quantile(0.7)).then(pl.lit("large")).when(first > first.median()).then(pl.lit("mid"))
    )
    if task == "multiclass":
        label = label.replace_strict(dict(enumerate(found.target_names)), return_dtype=pl.String)
    dtype = {"binary": pl.Int8, "multiclass": pl.String, "regression": pl.Float64}[task]
    classes = tuple(sorted(label.unique())) if task == "multiclass" else ()
    described = ModelColumns(task=task, label="label", numeric=tuple(names), categorical=("size",), classes=classes)
    return rows.with_columns(label.cast(dtype), event_timestamp=MOMENT), described


def cut(rows: pl.DataFrame, seed: int = 0) -> dict[str, pl.DataFrame]:
    """Splits at random: 60, 20 and 20 %."""
    rows = rows.sample(fraction=1, shuffle=True, seed=seed)
    first, second = rows.height * 6 // 10, rows.height * 8 // 10
    return {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}


def save(store: DatasetStore, splits: dict[str, pl.DataFrame], described: ModelColumns) -> str:
    """The dataset's version."""
    manifest = Manifest.of(
        described,
        project="parcels",
        feature_service="parcels_v1",
        ranges={name: [MOMENT.isoformat()] * 2 for name in splits},
        rows={name: part.height for name, part in splits.items()},
    )
    return store.save("parcels", splits, manifest)


def job_on(project: Project, registry: ModelRegistry, folder: Path, task: Task, **changes: Any) -> TrainingJob:
    """A training of `project`'s model on the table of `task`; `changes` are the job's."""
    store = DatasetStore(str(folder))
    rows, described = table(task)
    version = save(store, cut(rows), described)
    params = {"hidden": 16, "learning_rate": 1e-2}
    job = training_job(project, store, registry, dataset_version=version, params=params, max_epochs=3)
    return replace(job, **changes)
