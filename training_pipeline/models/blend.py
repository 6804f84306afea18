"""The network and the trees as one model: their outputs weighted by what the validation split says."""

from __future__ import annotations

import numpy as np
from lightgbm import Booster
from torch import Tensor, nn

from fti.model.boosted import Boosted
from fti.project import Task

STEPS = 20
"""Weights that are tried: 0, 1/20, ... 1."""
LEAN = 0.65
"""The trees' weight where validation does not say: a little over even, since a network errs further on rows unlike
those that it has learnt from."""
EQUAL = 1e-7
"""Losses that differ by less differ by rounding."""


class Blend(nn.Module):
    """`weight` of the trees' outputs and the rest of the network's, in log-odds or standardized values."""

    def __init__(self, network: nn.Module | None, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight

    def forward(self, rows: Tensor, trees: Tensor) -> Tensor:
        outputs = self.weight * trees
        return outputs if self.network is None else outputs + (1 - self.weight) * self.network(rows)


def blend(network: nn.Module, booster: Booster, weight: float) -> nn.Module | Boosted:
    """The blended model; the one alone where the other has no weight."""
    if not weight:
        return network
    return Boosted(Blend(network if weight < 1 else None, weight).eval(), booster)


def row_losses(task: Task, outputs: Tensor, labels: Tensor) -> np.ndarray:
    """Log loss or squared error of every row, float64."""
    if task == "binary":
        losses = nn.functional.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
    elif task == "multiclass":
        losses = nn.functional.cross_entropy(outputs, labels, reduction="none")
    else:
        losses = (outputs - labels) ** 2
    return losses.double().numpy()


def best_weight(task: Task, network: Tensor, trees: Tensor, labels: Tensor) -> float:
    """Weight of the trees' outputs. Of all weights whose validation loss is within a standard error of the lowest, the
    one nearest to `LEAN`: few rows say little, and a blend of both is the safest guess."""
    weights = [step / STEPS for step in range(STEPS + 1)]
    losses = np.stack([row_losses(task, (1 - w) * network + w * trees, labels) for w in weights])
    excess = losses - losses[losses.mean(1).argmin()]
    error = excess.std(1) / np.sqrt(max(len(labels), 1))
    near = [weight for weight, mean, noise in zip(weights, excess.mean(1), error, strict=True) if mean <= noise + EQUAL]
    return min(near, key=lambda weight: abs(weight - LEAN))
