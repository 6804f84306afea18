"""The baseline: scikit-learn's HistGradientBoostingClassifier with its defaults, on the same rows and features."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np

from fti.stores.dataset_store import TrainingDataset
from fti.stores.model_bundle import Encoder
from training_pipeline.threads import num_threads

MAX_CATEGORIES = 254
"""What the classifier takes as a categorical column; one with more goes in as a number."""


def probabilities(dataset: TrainingDataset, folder: Path, seed: int) -> np.ndarray:
    """The baseline's probabilities on the test split, float64 [rows]; fitted once per dataset version and seed."""
    path = folder / f"{dataset.version}-{seed}.npy"
    if not path.exists():
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.npy")
        np.save(aside, fit_and_predict(dataset, seed))
        os.replace(aside, path)
    found: np.ndarray = np.load(path, allow_pickle=False)
    return found


def fit_and_predict(dataset: TrainingDataset, seed: int) -> np.ndarray:
    """Fit on the training split and predict the test split."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    manifest, train = dataset.manifest, dataset.splits["train"]
    encoder = Encoder.fit(train, numeric=manifest["numeric"], categorical=manifest["categorical"])
    few = [len(encoder.numeric) + at for at, size in enumerate(encoder.sizes) if size <= MAX_CATEGORIES]
    model = HistGradientBoostingClassifier(categorical_features=few, random_state=seed)
    with threadpool_limits(num_threads()):
        model.fit(encoder.encode(train), train[manifest["label"]].to_numpy())
        predicted: np.ndarray = model.predict_proba(encoder.encode(dataset.splits["test"]))[:, 1]
    return predicted
