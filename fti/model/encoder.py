"""Feature columns to the array that a model reads, learnt on the training split."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.model.records import ModelColumns
from fti.model.target import Target
from fti.values import as_numbers, as_texts

NUM_QUANTILES = 65
FEW_ROWS = 32
_NUMBERS = frozenset("fiub")
"""Kinds of numpy arrays that a row of numbers makes."""
MAX_CATEGORIES = 1000
"""Categories that a column keeps, the most frequent ones; the others are like unseen ones."""


@dataclass(frozen=True)
class Encoder:
    """Feature columns to the one float32 array that a network reads: numeric columns, then categorical codes.

    A missing or infinite number is NaN (the model decides what it means), also one that 32 bits cannot hold; a missing
    (or NaN), unseen or, in a column of more than 1,000 categories, rare category is code 0. A value has one code,
    whatever rows are beside it. The quantiles and missing shares are those of the training split, for networks that
    scale their input.
    """

    numeric: tuple[str, ...]
    categorical: Mapping[str, tuple[str, ...]]
    """Column -> categories of the training split; code 1 is the first."""
    quantiles: Mapping[str, tuple[float, ...]] = field(repr=False)
    """Numeric column -> 65 quantiles from minimum to maximum; zeros when the column was never known."""
    missing: Mapping[str, float] = field(repr=False)
    """Numeric column -> share of missing values."""
    target: Target = field(default_factory=Target)
    """What the model predicts."""

    @classmethod
    def fit(
        cls, frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str], target: Target | None = None
    ) -> Self:
        """Learn categories and quantiles from `frame`, the training split; a binary target when none is given."""
        _require(frame, [*numeric, *categorical])
        return cls(
            numeric=tuple(numeric),
            categorical={name: _categories(frame[name]) for name in categorical},
            quantiles={name: _quantiles(frame[name]) for name in numeric},
            missing={name: _missing_share(frame[name]) for name in numeric},
            target=target or Target(),
        )

    @classmethod
    def of(cls, columns: ModelColumns, train: pl.DataFrame) -> Self:
        """The encoder of a dataset, learnt on its training split or on a part of it."""
        if not (columns.numeric or columns.categorical):
            raise DataError(
                "the dataset has no features: a model needs at least one column beside entity, time and label"
            )
        target = Target.of(columns, train)
        return cls.fit(train, numeric=columns.numeric, categorical=columns.categorical, target=target)

    def encode(self, frame: pl.DataFrame) -> np.ndarray:
        """float32 array [rows, columns]."""
        _require(frame, [*self.numeric, *self.categorical])
        with np.errstate(over="ignore"):
            encoded = self._encode_rows(frame) if frame.height <= FEW_ROWS else None
            encoded = self._encode_columns(frame) if encoded is None else encoded
        numbers = encoded[:, : len(self.numeric)]
        numbers[np.isinf(numbers)] = np.nan
        return encoded

    @property
    def num_columns(self) -> int:
        """Columns of an encoded array."""
        return len(self.numeric) + len(self.categorical)

    def _encode_rows(self, frame: pl.DataFrame) -> np.ndarray | None:
        """Row by row: for a single request a tenth of the time that whole columns take. None when a value is neither
        text, a boolean nor a number of Python's, so that only whole columns tell what it is."""
        position = {name: index for index, name in enumerate(frame.columns)}
        numbers = [position[name] for name in self.numeric]
        codes = [(position[name], codes) for name, codes in self._codes.items()]
        encoded = np.empty((frame.height, len(numbers) + len(codes)), np.float32)
        for index, row in enumerate(frame.rows()):
            values = [math.nan if row[at] is None else row[at] for at in numbers]
            for at, known in codes:
                value = row[at]
                kind = type(value)
                if kind is str or value is None:
                    values.append(known.get(value, 0))
                elif kind is int or kind is bool:
                    values.append(known.get(str(value).lower(), 0))
                else:
                    return None
            made = np.array(values)
            if made.dtype.kind not in _NUMBERS:
                return None
            encoded[index] = made.astype(np.float64, copy=False)
        return encoded

    def _encode_columns(self, frame: pl.DataFrame) -> np.ndarray:
        encoded = np.empty((frame.height, len(self.numeric) + len(self.categorical)), np.float32)
        for column, name in enumerate(self.numeric):
            encoded[:, column] = as_numbers(frame[name]).to_numpy()
        for column, (name, known) in enumerate(self._codes.items(), start=len(self.numeric)):
            codes, listed = pl.Series(list(known.values()), dtype=pl.Float32), pl.Series(list(known), dtype=pl.String)
            found = as_texts(frame[name]).replace_strict(listed, codes, default=0, return_dtype=pl.Float32)
            encoded[:, column] = found.fill_null(0).to_numpy()
        return encoded

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of codes of each categorical column, code 0 included."""
        return tuple(len(categories) + 1 for categories in self.categorical.values())

    @cached_property
    def _codes(self) -> dict[str, dict[str | None, int]]:
        return {name: {value: code for code, value in enumerate(of, start=1)} for name, of in self.categorical.items()}

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        fields = ("numeric", "categorical", "quantiles", "missing")
        return json.dumps({**{name: getattr(self, name) for name in fields}, "target": self.target.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        found = json.loads(text)
        return cls(
            numeric=tuple(found["numeric"]),
            categorical={name: tuple(values) for name, values in found["categorical"].items()},
            quantiles={name: tuple(values) for name, values in found["quantiles"].items()},
            missing=found["missing"],
            target=Target.from_dict(found["target"]) if "target" in found else Target(),
        )


def _require(frame: pl.DataFrame, names: Sequence[str]) -> None:
    present = set(frame.columns)
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(f"features are missing: {', '.join(missing)}. Give every feature of the model's service.")


def _categories(values: pl.Series) -> tuple[str, ...]:
    known = as_texts(values).drop_nulls()
    if known.n_unique() <= MAX_CATEGORIES:
        return tuple(known.unique().sort().to_list())
    name, counts = known.name, known.value_counts(name="count")
    return tuple(counts.sort("count", name, descending=[True, False])[:MAX_CATEGORIES][name].sort().to_list())


def _known(values: pl.Series) -> np.ndarray:
    numbers = as_numbers(values).drop_nulls()
    return numbers.filter(numbers.is_finite()).to_numpy()


def _quantiles(values: pl.Series) -> tuple[float, ...]:
    known = _known(values)
    points = np.linspace(0, 1, NUM_QUANTILES)
    return tuple((np.quantile(known, points) if len(known) else np.zeros(NUM_QUANTILES)).tolist())


def _missing_share(values: pl.Series) -> float:
    return 1 - len(_known(values)) / max(len(values), 1)
