"""A straight line under a regression: what it explains, network and trees need not learn.

Neither trees nor a network on squeezed numbers go on where training ends: of a series that rises they predict the level
that they have seen last. A line goes on, and the rest that it leaves has no trend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fti.model.bundle import outputs_of
from fti.model.encoder import Encoder
from training_pipeline.fitting.datamodule import TabularData
from training_pipeline.models.trees import tree_params, trees_of, validation_outputs

BETTER = 0.98
"""The line is taken when the trees' validation loss above it is at most this share of theirs without it, and lower by
more than a standard error."""
MOST_LEFT = 0.5
"""Share of the labels' variance that a line may leave: one that explains less is bent by a few huge numbers."""
PENALTY = 1.0
SMALLEST_SCALE = 1e-6
BLOCK = 65_536
LARGEST = float(np.finfo(np.float32).max) / 8


class Line(nn.Module):
    """Standardized values [rows] from float32 rows: linear in the numbers, each held within one more range on both
    sides of that of the training rows, and so is the value; a missing number is the median."""

    center: Tensor
    low: Tensor
    high: Tensor
    weight: Tensor
    bias: Tensor
    ends: Tensor

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.num_numeric = len(arrays["center"])
        for name, values in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.asarray(values, np.float32)))

    def forward(self, rows: Tensor) -> Tensor:
        numbers = rows[:, : self.num_numeric]
        known = torch.where(torch.isnan(numbers), self.center, numbers).clamp(self.low, self.high)
        value: Tensor = ((known - self.center) * self.weight).sum(1) + self.bias
        return value.clamp(self.ends[0], self.ends[1])


class Above(nn.Module):
    """The line plus a model of its residuals, which takes the trees' outputs where it has trees."""

    def __init__(self, line: nn.Module, rest: nn.Module, scale: float) -> None:
        super().__init__()
        self.line, self.rest, self.scale = line, rest, scale

    def forward(self, rows: Tensor, trees: Tensor | None = None) -> Tensor:
        rest = self.rest(rows) if trees is None else self.rest(rows, trees)
        outputs: Tensor = self.line(rows) + self.scale * rest
        return outputs


@dataclass(frozen=True)
class Start:
    """A line, and the rows with what it leaves as labels, in units of `scale`."""

    line: Line = field(repr=False)
    scale: float
    rest: TabularData = field(repr=False)


def start_of(encoder: Encoder, data: TabularData, params: Mapping[str, Any], seed: int) -> Start | None:
    """The line to start from, where trees do better above it; decided once for the same rows."""
    if encoder.target.task != "regression" or not encoder.numeric:
        return None
    key = f"start {seed} {tree_params(params)}"
    if key not in data.kept:
        start = line_under(encoder, data)
        data.kept[key] = start if is_better(encoder, data, start, params, seed) else None
    found: Start | None = data.kept[key]
    return found


def is_better(encoder: Encoder, data: TabularData, start: Start, params: Mapping[str, Any], seed: int) -> bool:
    """Whether the line explains the better part, and trees do better above it than chance would: in squared errors, and
    in absolute ones, which the few rows far out do not decide, no worse."""
    if start.scale**2 > MOST_LEFT * float(data.train.labels.var(correction=0)):
        return False
    plain, rest = (tree_errors(encoder, rows, params, seed) for rows in (data, start.rest))
    above = start.scale * rest
    gain = plain**2 - above**2
    least = max((1 - BETTER) * (plain**2).mean(), gain.std() / np.sqrt(len(gain)))
    return bool(gain.mean() >= least and above.mean() <= plain.mean())


def tree_errors(encoder: Encoder, data: TabularData, params: Mapping[str, Any], seed: int) -> np.ndarray:
    """Absolute errors of the trees on the validation split."""
    trees = trees_of(encoder, data, params, seed)
    assert trees is not None, "a regression always has trees"
    errors: np.ndarray = (validation_outputs(data, trees) - data.validation.labels).abs().double().numpy()
    return errors


def line_under(encoder: Encoder, data: TabularData) -> Start:
    """The line of the training split, and what it leaves of both."""
    line = fit_line(data.train.rows, data.train.labels, len(encoder.numeric))
    rests = [part.labels - outputs_of(line, part.rows) for part in (data.train, data.validation)]
    scale = max(float(rests[0].std(correction=0)), SMALLEST_SCALE)
    return Start(line, scale, data.relabelled(*(rest / scale for rest in rests)))


def fit_line(rows: Tensor, labels: Tensor, num_numeric: int) -> Line:
    """Ridge regression on standardized numbers."""
    numbers = rows[:, :num_numeric].numpy().clip(-LARGEST, LARGEST)
    never = np.isnan(numbers).all(axis=0)
    numbers = np.where(never, np.float32(0), numbers)
    center, least, most = np.nanmedian(numbers, 0), np.nanmin(numbers, 0), np.nanmax(numbers, 0)
    deviation = np.nanstd(numbers, 0, dtype=np.float64)
    spread = np.where(deviation > SMALLEST_SCALE * np.abs(center), deviation, np.inf)
    weight, bias = _ridge(numbers, labels.numpy().astype(np.float64), center, spread)
    ends = np.array([labels.min(), labels.max()], np.float64)
    return Line(
        {
            "center": center,
            "low": least - (most - least),
            "high": most + (most - least),
            "weight": weight / spread,
            "bias": np.asarray(bias),
            "ends": ends + np.array([-1, 1]) * (ends[1] - ends[0]),
        }
    )


def _ridge(numbers: np.ndarray, labels: np.ndarray, center: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights of `(numbers - center) / spread`, missing ones 0, and the constant; block by block."""
    size = len(center) + 1
    products, goals = np.zeros((size, size)), np.zeros(size)
    for first in range(0, len(numbers), BLOCK):
        block = numbers[first : first + BLOCK].astype(np.float64)
        scaled = np.nan_to_num((block - center) / spread)
        design = np.column_stack([scaled, np.ones(len(scaled))])
        products += design.T @ design
        goals += design.T @ labels[first : first + BLOCK]
    penalty = np.full(size, PENALTY)
    penalty[-1] = 0
    solved = np.linalg.solve(products + np.diag(penalty), goals)
    return solved[:-1], float(solved[-1])
