"""The label of a model: what the network learns from it, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.model.records import ModelColumns
from fti.project import Task

LABEL_TYPES = {"binary": pl.Int8(), "multiclass": pl.String(), "regression": pl.Float64()}
"""Task -> type of the label's column."""
SMALLEST_DEVIATION = 1e-12
SMALLEST_PROBABILITY = 1e-12
EXAMPLES = 3
"""Values named in a message."""


@dataclass(frozen=True)
class Target:
    """Labels to numbers and outputs to predictions.

    task          labels as a network sees them          outputs of a network             predictions, float64
    binary        float32 [rows], 0 or 1                 logits [rows]                    probability of 1 [rows]
    multiclass    int64 [rows], index of the class       logits [rows, classes]           probabilities [rows, classes]
    regression    float32 [rows], standardized           standardized values [rows]       values [rows]
    """

    task: Task = "binary"
    classes: tuple[str, ...] = ()
    """Multiclass: the names of the classes."""
    mean: float = 0.0
    deviation: float = 1.0
    """Regression: mean and standard deviation of the training labels."""

    @classmethod
    def fit(cls, labels: pl.Series, task: Task = "binary", classes: Sequence[str] = ()) -> Self:
        """Learn from the labels of the training split."""
        if task != "regression":
            return cls(task, tuple(classes))
        known = labels.cast(pl.Float64).to_numpy()
        deviation = float(known.std())
        return cls(task, (), float(known.mean()), deviation if deviation > SMALLEST_DEVIATION else 1.0)

    @classmethod
    def of(cls, columns: ModelColumns, train: pl.DataFrame) -> Self:
        """The target of a dataset."""
        return cls.fit(train[columns.label], columns.task, columns.classes)

    @property
    def num_outputs(self) -> int:
        """Outputs per row."""
        return len(self.classes) if self.task == "multiclass" else 1

    def encode(self, labels: pl.Series) -> np.ndarray:
        """Labels as a network sees them."""
        if self.task == "binary":
            return labels.cast(pl.Float32).to_numpy(writable=True)
        if self.task == "regression":
            return ((labels.cast(pl.Float64).to_numpy() - self.mean) / self.deviation).astype(np.float32)
        return self._indexes(labels)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """Predictions from the outputs of a network."""
        raw = outputs.astype(np.float64)
        if self.task == "regression":
            return raw * self.deviation + self.mean
        if self.task == "binary":
            return 1 / (1 + np.exp(-np.clip(raw, -700, 700)))
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def outputs(self, predictions: np.ndarray) -> np.ndarray:
        """Outputs, float32, that `decode` turns into these predictions."""
        if self.task == "regression":
            return ((predictions - self.mean) / self.deviation).astype(np.float32)
        known = np.clip(predictions, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        outputs: np.ndarray = np.log(known) if self.task == "multiclass" else np.log(known / (1 - known))
        return outputs.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        return cls(found["task"], tuple(found["classes"]), found["mean"], found["deviation"])

    def _indexes(self, labels: pl.Series) -> np.ndarray:
        index = {name: place for place, name in enumerate(self.classes)}
        names = labels.cast(pl.String).to_list()
        unknown = sorted({str(name) for name in names if name not in index})
        if unknown:
            raise DataError(
                f"labels that are no class of the dataset: {', '.join(unknown[:5])}. Make the dataset anew."
            )
        return np.array([index[name] for name in names], np.int64)


def typed_label(rows: pl.DataFrame, name: str, task: str) -> pl.DataFrame:
    """`rows` whose label is known, in the type of its task; DataError when there is a value that the task cannot have.
    A number that is not finite is not known."""
    rows = rows.filter(pl.col(name).is_not_null())
    given = rows[name]
    values = given.cast(LABEL_TYPES[task], strict=False)
    if task == "binary":
        bad = ~(values.is_in([0, 1]) & (values.cast(given.dtype, strict=False) == given)).fill_null(False)
    else:
        bad = values.is_null()
    if bad.any():
        examples = ", ".join(repr(value) for value in given.filter(bad).unique(maintain_order=True)[:EXAMPLES])
        takes = {"binary": "0 or 1", "multiclass": "text", "regression": "a number"}[task]
        raise DataError(f"the label {name!r} of a {task} model is {takes}, not {examples}: map it in `Label.rows`.")
    rows = rows.with_columns(values)
    return rows.filter(values.is_finite()) if task == "regression" else rows
