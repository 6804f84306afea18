"""The baseline: scikit-learn's HistGradientBoosting with its defaults, on the model's features.

It learns from all rows before the test split, as the model for tables does in the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from fti.files import aside
from fti.model.encoder import Encoder
from fti.model.estimator import class_columns, predictions
from fti.stores.datasets.store import TrainingDataset
from training_pipeline.fitting.threads import num_threads

METHOD = "all-rows"
"""Names predictions that are kept: another one where they would be others."""
MAX_CATEGORIES = 254
"""What scikit-learn takes as a categorical column; one with more goes in as a number."""


def probabilities(dataset: TrainingDataset, folder: Path, seed: int) -> np.ndarray:
    """The baseline's predictions on the test split, as `ModelBundle.predict` gives them; fitted once per dataset
    version and seed."""
    path = folder / f"{dataset.version}-{seed}-{METHOD}.npy"
    if not path.exists():
        predicted = fit_and_predict(dataset, seed)
        with aside(path) as own, own.open("wb") as file:
            np.save(file, predicted)
    found: np.ndarray = np.load(path, allow_pickle=False)
    return found


def boostable(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`rows` as scikit-learn's boosting takes them: it fails on a column of which no training row is known."""
    return np.where(np.isnan(train).all(axis=0), np.float32(0), rows)


def fit_and_predict(dataset: TrainingDataset, seed: int) -> np.ndarray:
    """Fit on the training and validation splits and predict the test split."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    train, test = pl.concat([dataset.splits["train"], dataset.splits["validation"]]), dataset.splits["test"]
    encoder, label = Encoder.of(dataset.manifest, train), dataset.manifest.label
    few = [len(encoder.numeric) + at for at, size in enumerate(encoder.sizes) if size <= MAX_CATEGORIES]
    kind = HistGradientBoostingRegressor if encoder.target.task == "regression" else HistGradientBoostingClassifier
    labels = train[label].to_numpy() if encoder.target.task != "multiclass" else encoder.target.encode(train[label])
    if encoder.target.task != "regression" and len(np.unique(labels)) == 1:
        return class_columns(np.ones((test.height, 1)), labels[:1], encoder.target)
    with threadpool_limits(num_threads()):
        rows = encoder.encode(train)
        model = kind(categorical_features=few, random_state=seed).fit(boostable(rows, rows), labels)
        return predictions(model, boostable(rows, encoder.encode(test)), encoder.target)
