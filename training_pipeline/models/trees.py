"""Gradient-boosted trees: LightGBM, stopped by the validation split and then grown again on both splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fti.model.boosted import tree_outputs
from fti.model.encoder import Encoder
from fti.project import Task
from training_pipeline.fitting.datamodule import SliceLoader, TabularData
from training_pipeline.fitting.threads import num_threads
from training_pipeline.models.baseline import MAX_CATEGORIES
from training_pipeline.models.blend import row_losses

if TYPE_CHECKING:
    from lightgbm import Booster

Rows = tuple[np.ndarray, np.ndarray]
TREES = "trees"
"""Parameter: iterations of boosting at most; 0 for a network alone."""
DEFAULTS: Mapping[str, Any] = {TREES: 0, "tree_learning_rate": 0.08, "min_samples_leaf": 20, "l2_regularization": 1.0}
PATIENCE = 20
"""Iterations without a lower validation loss after which no more trees are added."""
FEW_ROWS = 5000
"""Validation rows below which a low loss may be chance."""
USUAL_ROUNDS = 100
"""The usual number of iterations."""
MAX_TREES, FEWEST_ROUNDS = 1000, 100
"""Trees in all: a round has one for each class, so that many classes get fewer rounds, though no fewer than 100."""
OBJECTIVES: Mapping[Task, str] = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
SETTINGS: Mapping[str, Any] = {"num_leaves": 31, "deterministic": True, "force_row_wise": True, "verbosity": -1}
"""What LightGBM is told, whatever the parameters say."""


def tree_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that concern the trees."""
    return {name: params.get(name, default) for name, default in DEFAULTS.items()}


def trees_of(encoder: Encoder, data: TabularData, params: Mapping[str, Any], seed: int) -> Booster | None:
    """Trees of the training split, for as many rounds as the validation split bears; fitted once for the same rows.

    None where there is nothing to learn: the training labels, or those of them that the validation split has, are no
    two classes.
    """
    key = f"{seed} {tree_params(params)}"
    if key not in data.kept:
        data.kept[key] = _fit_trees(encoder, data, params, seed)
    booster: Booster | None = data.kept[key]
    return booster


def validation_outputs(data: TabularData, booster: Booster) -> Tensor:
    """What trees of `trees_of` say of the validation rows, computed once."""
    key = f"outputs {id(booster)}"
    if key not in data.kept:
        data.kept[key] = tree_outputs(booster, data.validation.rows)
    outputs: Tensor = data.kept[key]
    return outputs


def _fit_trees(encoder: Encoder, data: TabularData, params: Mapping[str, Any], seed: int) -> Booster | None:
    (rows, labels), checked = arrays(encoder, data.train), arrays(encoder, data.validation)
    if encoder.target.task != "regression":
        seen = np.isin(checked[1], labels)
        if len(np.unique(labels)) < 2 or not seen.any():
            return None
        checked = checked[0][seen], checked[1][seen]
    return boost(encoder, (rows, labels), params=params, seed=seed, validation=checked)


def grown_again(encoder: Encoder, data: TabularData, booster: Booster, params: Mapping[str, Any], seed: int) -> Booster:
    """As many rounds on both splits, which have seen the newest rows and the most: the trees that serve. Where few
    validation rows stopped them early the usual 100: these rows are learnt from now, and what they had against more
    rounds was their being new."""
    least = USUAL_ROUNDS if len(data.validation.labels) < FEW_ROWS else 1
    rounds = max(booster.current_iteration(), min(least, int(params[TREES])))
    return boost(encoder, arrays(encoder, data.both()), params={**params, TREES: rounds}, seed=seed)


def arrays(encoder: Encoder, part: SliceLoader) -> Rows:
    """Rows and labels; classes as whole numbers."""
    labels = part.labels.numpy()
    return part.rows.numpy(), labels if encoder.target.task == "regression" else labels.astype(np.int64)


def boost(
    encoder: Encoder, train: Rows, *, params: Mapping[str, Any], seed: int, validation: Rows | None = None
) -> Booster:
    """Trees of all rounds; with `validation`, of the rounds that are enough there."""
    import lightgbm

    rows, labels = train
    settings = lightgbm_params(encoder, params, seed)
    most = min(int(params[TREES]), max(MAX_TREES // encoder.target.num_outputs, FEWEST_ROUNDS))
    few = [len(encoder.numeric) + at for at, size in enumerate(encoder.sizes) if size <= MAX_CATEGORIES]
    dataset = lightgbm.Dataset(rows, labels, categorical_feature=few, params=settings)
    if validation is None:
        booster = lightgbm.train(settings, dataset, most)
        rounds = booster.current_iteration()
    else:
        patience = USUAL_ROUNDS if len(validation[1]) < FEW_ROWS else PATIENCE
        booster = lightgbm.train(
            settings,
            dataset,
            most,
            valid_sets=[dataset.create_valid(*validation)],
            callbacks=[lightgbm.early_stopping(patience, verbose=False)],
            keep_training_booster=True,  # else the rounds after the best one are dropped
        )
        rounds = enough_rounds(booster, *validation, task=encoder.target.task)
    if encoder.target.task == "multiclass":  # LightGBM thinks a class impossible that it has not seen
        for unseen in set(range(encoder.target.num_outputs)) - set(labels.tolist()):
            booster.set_leaf_output(unseen, 0, -math.log(2 * len(labels)))
    return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=rounds))


def lightgbm_params(encoder: Encoder, params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """All parameters in LightGBM's words."""
    chosen, target = tree_params(params), encoder.target
    classes, step, penalty = target.num_outputs, float(chosen["tree_learning_rate"]), float(chosen["l2_regularization"])
    several = {"num_class": classes} if target.task == "multiclass" else {}
    if several:  # LightGBM takes steps of several classes shorter by this
        step *= classes / (classes - 1)
    return {
        **SETTINGS,
        **several,
        "objective": OBJECTIVES[target.task],
        "learning_rate": step,
        "min_data_in_leaf": int(chosen["min_samples_leaf"]),
        "lambda_l2": penalty,
        "cat_l2": penalty,
        "num_threads": num_threads(),
        "seed": seed,
    }


def enough_rounds(booster: Booster, rows: np.ndarray, labels: np.ndarray, *, task: Task) -> int:
    """The rounds with the lowest loss on these validation rows. Where they are few and it comes early, the most up to
    the usual 100 whose loss is not higher by two standard errors: what few rows, or those of one season, advise
    against may yet be right, and 100 rounds are what usually is."""
    lowest = booster.best_iteration
    if len(labels) >= FEW_ROWS or lowest >= USUAL_ROUNDS:
        return lowest
    truth = torch.from_numpy(labels) if task == "multiclass" else torch.from_numpy(labels.astype(np.float64))
    outputs, losses = torch.zeros(()), []
    for place in range(min(booster.current_iteration(), USUAL_ROUNDS)):
        step = booster.predict(rows, start_iteration=place, num_iteration=1, raw_score=True)
        outputs = outputs + torch.as_tensor(step)
        losses.append(row_losses(task, outputs, truth))
    enough = lowest
    for rounds in range(lowest + 1, len(losses) + 1):
        excess = losses[rounds - 1] - losses[lowest - 1]
        if excess.mean() <= 2 * excess.std() / math.sqrt(len(excess)):
            enough = rounds
    return enough
