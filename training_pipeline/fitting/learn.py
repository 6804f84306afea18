"""A model learnt from encoded rows: a network, with boosted trees beside it where the parameters ask for them, or an
estimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as L
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from fti.errors import DataError
from fti.model.boosted import Boosted
from fti.model.bundle import ModelBundle, outputs_of
from fti.model.encoder import Encoder
from fti.model.estimator import predictions
from fti.model.records import ModelInfo
from training_pipeline.fitting.datamodule import TabularData
from training_pipeline.fitting.fit import fit, fit_on
from training_pipeline.fitting.threads import num_threads
from training_pipeline.models.blend import best_weight, blend, row_losses
from training_pipeline.models.build import build_model
from training_pipeline.models.linear import Above, Start, start_of
from training_pipeline.models.trees import TREES, grown_again, trees_of, validation_outputs


@dataclass(frozen=True)
class Learned:
    """A fitted model and how it did on the validation split."""

    finish: Callable[[], Any] = field(repr=False)
    """Makes the model: what a trial does not need is done when somebody asks for it."""
    encoder: Encoder = field(repr=False)
    validation_loss: float
    epochs: int
    metrics: Mapping[str, float]
    """With trees: validation losses of both alone, and the trees' weight; above a line, the share of the variance that
    it leaves, `line_rest`."""

    @cached_property
    def model(self) -> Any:
        """A network in evaluation mode, or an estimator."""
        return self.finish()

    def bundle(self, info: ModelInfo) -> ModelBundle:
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
    trees = int(params.get(TREES, 0))
    start = start_of(encoder, data, params, seed) if trees else None
    rest = start.rest if start else data
    with ThreadPoolExecutor(1) as beside:  # on a processor of their own: each takes half of them at most
        if trees:
            beside.submit(trees_of, encoder, rest, params, seed)
        trainer = fit(model, rest, seed=seed, max_epochs=max_epochs, callbacks=callbacks, folder=folder)
    if not trees:
        return alone(model, encoder, data, trainer.current_epoch)
    learned = with_trees(model, encoder, rest, params=params, seed=seed, epochs=trainer.current_epoch)
    return above(start, learned) if start else learned


def alone(network: L.LightningModule, encoder: Encoder, data: TabularData, epochs: int) -> Learned:
    """The fitted network as it is."""
    loss = mean_loss(encoder, outputs_of(network, data.validation.rows), data.validation.labels)
    return Learned(lambda: network, encoder, loss, epochs, {})


def with_trees(
    network: L.LightningModule,
    encoder: Encoder,
    data: TabularData,
    *,
    params: Mapping[str, Any],
    seed: int,
    epochs: int,
) -> Learned:
    """The fitted network blended with boosted trees. Losses and weight are those of a network and trees that have not
    learnt from the validation split; those of the model then learn from it too."""
    trees, labels = trees_of(encoder, data, params, seed), data.validation.labels
    if trees is None:
        return alone(network, encoder, data, epochs)
    outputs, others = outputs_of(network, data.validation.rows), validation_outputs(data, trees)
    weight = best_weight(encoder.target.task, outputs, others, labels)
    measured = {
        "network_validation_loss": mean_loss(encoder, outputs, labels),
        "trees_validation_loss": mean_loss(encoder, others, labels),
        "num_tree_rounds": trees.current_iteration(),
        "blend_weight": weight,
    }

    def finish() -> nn.Module | Boosted:
        with ThreadPoolExecutor(1) as beside:
            final = beside.submit(grown_again, encoder, data, trees, params, seed) if weight else None
            if weight < 1:
                fit_on(network, data, seed=seed)
        return blend(network.eval(), final.result() if final else trees, weight)

    loss = mean_loss(encoder, (1 - weight) * outputs + weight * others, labels)
    return Learned(finish, encoder, loss, epochs, measured)


def above(start: Start, learned: Learned) -> Learned:
    """A model of the residuals, with the line's prediction added back."""
    unit = start.scale**2

    def finish() -> nn.Module | Boosted:
        rest = learned.model
        if isinstance(rest, Boosted):
            return Boosted(Above(start.line, rest.program, start.scale).eval(), rest.booster)
        return Above(start.line, rest, start.scale).eval()

    metrics = {name: value * unit if name.endswith("loss") else value for name, value in learned.metrics.items()}
    return Learned(
        finish,
        learned.encoder,
        learned.validation_loss * unit,
        learned.epochs,
        {**metrics, "line_rest": unit},
    )


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
    return Learned(lambda: estimator, encoder, mean_loss(encoder, outputs, data.validation.labels), 1, {})


def mean_loss(encoder: Encoder, outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Log loss, or mean squared error of standardized values."""
    return float(row_losses(encoder.target.task, outputs, labels).mean())
