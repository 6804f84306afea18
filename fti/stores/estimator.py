"""What a fitted scikit-learn-like estimator predicts, in the shapes of `ModelBundle.predict`."""

from __future__ import annotations

from typing import Any

import numpy as np

from fti.stores.target import Target


def predictions(estimator: Any, rows: np.ndarray, target: Target) -> np.ndarray:
    """Predictions for encoded rows [rows, columns]; classifiers were fitted on 0 and 1, or on indexes of classes."""
    if target.task == "regression":
        return np.asarray(estimator.predict(rows), np.float64).reshape(len(rows))
    return class_columns(np.asarray(estimator.predict_proba(rows), np.float64), estimator.classes_, target)


def class_columns(probabilities: np.ndarray, known: np.ndarray, target: Target) -> np.ndarray:
    """Probabilities of the classes `known` as those of all classes of `target`; one that is not known has 0."""
    num_classes = 2 if target.task == "binary" else target.num_outputs
    every = np.zeros((len(probabilities), num_classes))
    every[:, np.asarray(known, np.int64)] = probabilities
    return every[:, 1] if target.task == "binary" else every
