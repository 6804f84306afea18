"""What a model predicts, as columns: the same in a service's answer, in the prediction log and in an evaluation.

binary      `probability` of label 1, `label` 0 or 1
multiclass  `label`, the most probable class; its `probability`; `probabilities` of all classes, in their order
regression  `prediction`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import polars as pl

PROBABILITY, LABEL, PROBABILITIES, PREDICTION = "probability", "label", "probabilities", "prediction"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "binary": (PROBABILITY, LABEL),
    "multiclass": (LABEL, PROBABILITY, PROBABILITIES),
    "regression": (PREDICTION,),
}
"""Task -> names of the columns."""
WATCHED: Mapping[str, Mapping[str, list[str]]] = {
    "binary": {"numeric": [PROBABILITY], "categorical": []},
    "multiclass": {"numeric": [PROBABILITY], "categorical": [LABEL]},
    "regression": {"numeric": [PREDICTION], "categorical": []},
}
"""Task -> the columns whose spread monitoring compares with the training split's, for `fti.model.drift.reference`."""


class Outcome(Protocol):
    """What is predicted: a dataset's manifest, a model's info and its target say it."""

    @property
    def task(self) -> str:
        """Key of `COLUMNS`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a multiclass label, in the order of the probabilities."""


def columns(predicted: np.ndarray, outcome: Outcome, *, threshold: float = 0.5) -> list[pl.Series]:
    """The columns of what `ModelBundle.predict` returned for a model of this `outcome`."""
    if outcome.task == "regression":
        return [pl.Series(PREDICTION, predicted, pl.Float64)]
    if outcome.task == "binary":
        probability = pl.Series(PROBABILITY, predicted, pl.Float64)
        return [probability, (probability >= threshold).cast(pl.Int8).alias(LABEL)]
    classes, best = outcome.classes, predicted.argmax(1)
    return [
        pl.Series(LABEL, [classes[place] for place in best.tolist()], pl.String),
        pl.Series(PROBABILITY, predicted.max(1), pl.Float64),
        pl.Series(PROBABILITIES, predicted.tolist(), pl.List(pl.Float64)),
    ]
