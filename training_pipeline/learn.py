"""A model learnt from a dataset: the project's network, boosted trees beside it if its parameters ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch

from fti.stores.encoder import Encoder
from fti.stores.model_bundle import ModelBundle
from training_pipeline.blend import best_weight, blend, outputs_of, row_losses
from training_pipeline.datamodule import TabularData
from training_pipeline.fit import fit
from training_pipeline.model import build_model
from training_pipeline.trees import TREES, fit_trees


@dataclass(frozen=True)
class Learned:
    """A fitted model in evaluation mode, and how it did on the validation split."""

    model: torch.nn.Module = field(repr=False)
    encoder: Encoder = field(repr=False)
    validation_loss: float
    epochs: int
    metrics: Mapping[str, float]
    """With trees: validation losses of both alone, and the trees' weight."""

    def bundle(self, info: Mapping[str, Any]) -> ModelBundle:
        """The model as what answers."""
        return ModelBundle(self.encoder, info, self.model)


def learn(
    encoder: Encoder,
    data: TabularData,
    *,
    build: str,
    params: Mapping[str, Any],
    seed: int,
    max_epochs: int,
    callbacks: Sequence[L.Callback] = (),
    folder: Path | None = None,
) -> Learned:
    """Fit the model that `build` names; early stopping and the trees' weight look at the validation split."""
    torch.manual_seed(seed)
    network = build_model(build, encoder, params)
    trainer = fit(network, data, seed=seed, max_epochs=max_epochs, callbacks=callbacks, folder=folder)
    validation = data.validation.rows, data.validation.labels
    outputs = outputs_of(network, validation[0])
    network_loss = mean_loss(encoder, outputs, validation[1])
    if not int(params.get(TREES, 0)):
        return Learned(network, encoder, network_loss, trainer.current_epoch, {})
    trees = fit_trees(encoder, (data.train.rows, data.train.labels), validation, params, seed)
    tree_outputs = outputs_of(trees, validation[0])
    weight = best_weight(encoder.target.task, outputs, tree_outputs, validation[1])
    loss = mean_loss(encoder, (1 - weight) * outputs + weight * tree_outputs, validation[1])
    measured = {
        "network_validation_loss": network_loss,
        "trees_validation_loss": mean_loss(encoder, tree_outputs, validation[1]),
        "num_tree_rounds": trees.num_rounds,
        "blend_weight": weight,
    }
    return Learned(blend(network, trees, weight).eval(), encoder, loss, trainer.current_epoch, measured)


def mean_loss(encoder: Encoder, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Log loss, or mean squared error of standardized values."""
    return float(row_losses(encoder.target.task, outputs, labels).mean())
