"""A model learnt from encoded rows: a network, with boosted trees beside it where the parameters ask for them, or an
estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from threadpoolctl import threadpool_limits

from fti.errors import DataError
from fti.stores.encoder import Encoder
from fti.stores.estimator import predictions
from fti.stores.model_bundle import ModelBundle
from training_pipeline.blend import best_weight, blend, outputs_of, row_losses
from training_pipeline.build import build_model
from training_pipeline.datamodule import TabularData
from training_pipeline.fit import fit
from training_pipeline.threads import num_threads
from training_pipeline.trees import TREES, Boosted, fit_trees, tree_params


@dataclass(frozen=True)
class Learned:
    """A fitted model and how it did on the validation split."""

    model: Any = field(repr=False)
    """A network in evaluation mode, or an estimator."""
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
    model = build_model(build, encoder, params, seed=seed)
    if not isinstance(model, L.LightningModule):
        return learn_estimator(model, encoder, data)
    trainer = fit(model, data, seed=seed, max_epochs=max_epochs, callbacks=callbacks, folder=folder)
    if not int(params.get(TREES, 0)):
        outputs = outputs_of(model, data.validation.rows)
        return Learned(model, encoder, mean_loss(encoder, outputs, data.validation.labels), trainer.current_epoch, {})
    return with_trees(model, encoder, data, params=params, seed=seed, epochs=trainer.current_epoch)


def with_trees(
    network: L.LightningModule,
    encoder: Encoder,
    data: TabularData,
    *,
    params: Mapping[str, Any],
    seed: int,
    epochs: int,
) -> Learned:
    """The fitted network blended with boosted trees. Losses and weight are those of trees that have not seen the
    validation split; the trees of the model then learn from it too."""
    labels = data.validation.labels
    outputs = outputs_of(network, data.validation.rows)
    key = f"{seed} {tree_params(params)}"
    if key not in data.kept:
        batches = (data.train.rows, data.train.labels), (data.validation.rows, labels)
        data.kept[key] = fit_trees(encoder, *batches, params, seed)
    boosted: Boosted | None = data.kept[key]
    if boosted is None:
        return Learned(network, encoder, mean_loss(encoder, outputs, labels), epochs, {})
    tree_outputs = outputs_of(boosted.trees, data.validation.rows)
    weight = best_weight(encoder.target.task, outputs, tree_outputs, labels)
    loss = mean_loss(encoder, (1 - weight) * outputs + weight * tree_outputs, labels)
    measured = {
        "network_validation_loss": mean_loss(encoder, outputs, labels),
        "trees_validation_loss": mean_loss(encoder, tree_outputs, labels),
        "num_tree_rounds": boosted.num_rounds,
        "blend_weight": weight,
    }
    return Learned(blend(network, boosted.final, weight).eval(), encoder, loss, epochs, measured)


def learn_estimator(estimator: Any, encoder: Encoder, data: TabularData) -> Learned:
    """A user's estimator, fitted on the training split."""
    target = encoder.target
    rows, labels = data.train.rows.numpy(), data.train.labels.numpy()
    labels = target.decode(labels) if target.task == "regression" else labels.astype(np.int64)
    try:
        with threadpool_limits(num_threads()):
            estimator.fit(rows, labels)
    except ValueError as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{type(estimator).__name__} could not be fitted: {reason}. Rows hold NaN for missing numbers and codes "
            "for categories: put a SimpleImputer, and a OneHotEncoder where it needs one, before it in a Pipeline."
        ) from error
    predicted = predictions(estimator, data.validation.rows.numpy(), target)
    outputs = torch.from_numpy(target.outputs(predicted))
    return Learned(estimator, encoder, mean_loss(encoder, outputs, data.validation.labels), 1, {})


def mean_loss(encoder: Encoder, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Log loss, or mean squared error of standardized values."""
    return float(row_losses(encoder.target.task, outputs, labels).mean())
