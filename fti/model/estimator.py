"""A scikit-learn-like estimator in a bundle: what it predicts, and its file, written and read by skops, not pickle."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fti.errors import DataError
from fti.model.program import read_bytes
from fti.model.target import Target

TRUSTED = ("sklearn", "numpy", "scipy")
"""Packages whose classes a model file may hold, beside Python's own containers..."""
TRUSTED_TOO = ("functools.partial", "sklearn.utils.validation.check_array")
"""...and what scikit-learn's gradient boosting keeps of itself."""


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


def dump_estimator(estimator: Any) -> bytes:
    """The estimator as skops writes it. DataError, with the remedy, when a part of it could not be read again."""
    from skops.io import dumps
    from skops.io.exceptions import UnsupportedTypeException

    try:
        content: bytes = dumps(estimator)
    except UnsupportedTypeException as error:
        raise DataError(f"{type(estimator).__name__} cannot be saved without pickle: {error}. {_REMEDY}") from error
    require_trusted(content, type(estimator).__name__)
    return content


def load_estimator(path: Path) -> Any:
    """The estimator of a file, after making sure that it holds trusted types only."""
    from skops.io import loads

    content = read_bytes(path)
    return loads(content, trusted=require_trusted(content, str(path)))


def require_trusted(content: bytes, name: str) -> list[str]:
    """The types in the file that skops does not know but we trust; DataError when there are others."""
    from skops.io import get_untrusted_types

    found: list[str] = get_untrusted_types(data=content)
    refused = [kind for kind in found if not is_trusted(kind)]
    if refused:
        raise DataError(f"{name} holds types that are not trusted in a model file: {', '.join(refused)}. {_REMEDY}")
    return found


_REMEDY = (
    "Build the model from classes of scikit-learn (a Pipeline of them is one), or give Model.build a LightningModule."
)


def is_trusted(kind: str) -> bool:
    """Whether `package.module.Name` is a class of a trusted package, and not one that the package only imports."""
    if kind in TRUSTED_TOO:
        return True
    module, _, name = kind.rpartition(".")
    if module.partition(".")[0] not in TRUSTED:
        return False
    found = getattr(import_module(module), name, None)
    return isinstance(found, type) and found.__module__.partition(".")[0] in TRUSTED
