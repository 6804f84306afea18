"""Gradient-boosted trees as tensors: scikit-learn's HistGradientBoosting, fitted and then read out node by node.

The trees of `num_slots` nodes each are evaluated as in QuickScorer (Lucchese et al. 2015): every node that sends a row
to the right rules out the leaves of its left subtree; the leftmost leaf that is left is the row's. All nodes of all
trees are compared at once, without branches, so that the exported program is short and quick for one row and for many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fti.project import Task
from fti.stores.encoder import Encoder
from fti.stores.model_bundle import outputs_of
from training_pipeline.baseline import MAX_CATEGORIES, boostable
from training_pipeline.blend import row_losses
from training_pipeline.datamodule import SliceLoader, TabularData
from training_pipeline.threads import num_threads

Rows = tuple[np.ndarray, np.ndarray]
TREES = "trees"
"""Parameter: iterations of boosting at most; 0 for a network alone."""
DEFAULTS: Mapping[str, Any] = {TREES: 0, "tree_learning_rate": 0.08, "min_samples_leaf": 20, "l2_regularization": 1.0}
PATIENCE = 20
"""Iterations without a lower validation loss after which no more trees are added."""
FEW_ROWS = 5000
"""Validation rows below which a low loss may be chance."""
USUAL_ROUNDS = 100
"""scikit-learn's own number of iterations."""
MAX_TREES, FEWEST_ROUNDS = 1000, 100
"""Trees in all: a round has one for each class, so that many classes get fewer rounds, though no fewer than 100."""
MAX_LEAVES = 31
"""Leaves of a tree: one bit each in an int32."""
NUM_SLOTS = 32
"""Nodes of a tree that compare, with room to a power of two."""
NUM_CODES = 256


class Trees(nn.Module):
    """A fitted ensemble: float32 rows [rows, columns] to outputs [rows], or [rows, classes], as in `Target`."""

    features: Tensor
    thresholds: Tensor
    masks: Tensor
    leaves: Tensor
    start: Tensor
    slots: Tensor
    codes_from: Tensor
    goes_right: Tensor

    def __init__(self, arrays: Mapping[str, np.ndarray], num_outputs: int) -> None:
        super().__init__()
        for name, values in arrays.items():
            if values.size:  # an archive cannot hold two empty tensors
                self.register_buffer(name, torch.from_numpy(values))
        self.num_outputs = num_outputs
        self.num_rounds = len(arrays["leaves"]) // num_outputs
        self.has_categories = len(arrays["slots"]) > 0

    def forward(self, rows: Tensor) -> Tensor:
        missing, columns = torch.isnan(rows), rows
        sides = torch.cat([columns.masked_fill(missing, -torch.inf), columns.masked_fill(missing, torch.inf)], 1).T
        right = sides.contiguous().index_select(0, self.features) > self.thresholds
        if self.has_categories:
            codes = sides.index_select(0, self.codes_from).long().clamp(0, NUM_CODES - 1)
            right = right.index_copy(0, self.slots, self.goes_right.gather(1, codes))
        alive = torch.where(right, self.masks, -1).unflatten(0, (-1, NUM_SLOTS))
        half = NUM_SLOTS // 2
        while half:
            alive = alive[:, :half] & alive[:, half:]
            half //= 2
        alive = alive.squeeze(1)
        leaf = torch.log2((alive & -alive).float()).round().long()
        values = self.leaves.gather(1, leaf)
        outputs = values.unflatten(0, (-1, self.num_outputs)).sum(0).T + self.start
        return outputs.squeeze(1) if self.num_outputs == 1 else outputs


def tree_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that concern the trees."""
    return {name: params.get(name, default) for name, default in DEFAULTS.items()}


class KnownClasses(nn.Module):
    """Trees that have seen some of the classes only: the logits of the others are `unseen`."""

    known: Tensor

    def __init__(self, trees: Trees, known: np.ndarray, num_classes: int, unseen: float) -> None:
        super().__init__()
        self.trees, self.num_classes, self.unseen, self.num_rounds = trees, num_classes, unseen, trees.num_rounds
        self.register_buffer("known", torch.from_numpy(known))

    def forward(self, rows: Tensor) -> Tensor:
        outputs = self.trees(rows)
        if self.trees.num_outputs == 1:  # of two classes, scikit-learn has the log-odds of the second
            outputs = torch.stack([-outputs / 2, outputs / 2], dim=1)
        every = outputs.new_full((rows.shape[0], self.num_classes), self.unseen)
        return every.index_copy(1, self.known, outputs)


Ensemble = Trees | KnownClasses


def trees_of(encoder: Encoder, data: TabularData, params: Mapping[str, Any], seed: int) -> Ensemble | None:
    """Trees of the training split, for as many rounds as the validation split bears; fitted once for the same rows.

    None where there is nothing to learn: the training labels, or those of them that the validation split has, are no
    two classes.
    """
    key = f"{seed} {tree_params(params)}"
    if key not in data.kept:
        data.kept[key] = _fit_trees(encoder, data, params, seed)
    found: Ensemble | None = data.kept[key]
    return found


def tree_outputs(data: TabularData, trees: Ensemble) -> Tensor:
    """What trees of `trees_of` say of the validation rows, computed once."""
    key = f"outputs {id(trees)}"
    if key not in data.kept:
        data.kept[key] = outputs_of(trees, data.validation.rows)
    found: Tensor = data.kept[key]
    return found


def _fit_trees(encoder: Encoder, data: TabularData, params: Mapping[str, Any], seed: int) -> Ensemble | None:
    (rows, labels), checked = arrays(encoder, data.train), arrays(encoder, data.validation)
    if encoder.target.task != "regression":
        seen = np.isin(checked[1], labels)
        if len(np.unique(labels)) < 2 or not seen.any():
            return None
        checked = checked[0][seen], checked[1][seen]
    return ensemble(encoder, (rows, labels), params=params, seed=seed, validation=checked)


def grown_again(encoder: Encoder, data: TabularData, trees: Ensemble, params: Mapping[str, Any], seed: int) -> Ensemble:
    """As many rounds on both splits, which have seen the newest rows and the most: the trees that serve. Where few
    validation rows stopped them early the usual 100: these rows are learnt from now, and what they had against more
    rounds was their being new."""
    parts = zip(arrays(encoder, data.train), arrays(encoder, data.validation), strict=True)
    rows, labels = (np.concatenate(part) for part in parts)
    least = USUAL_ROUNDS if len(data.validation.labels) < FEW_ROWS else 1
    rounds = max(trees.num_rounds, min(least, int(params[TREES])))
    return ensemble(encoder, (rows, labels), params={**params, TREES: rounds}, seed=seed)


def arrays(encoder: Encoder, part: SliceLoader) -> Rows:
    """Rows and labels; classes as whole numbers."""
    labels = part.labels.numpy()
    return part.rows.numpy(), labels if encoder.target.task == "regression" else labels.astype(np.int64)


def ensemble(
    encoder: Encoder, train: Rows, *, params: Mapping[str, Any], seed: int, validation: Rows | None = None
) -> Ensemble:
    """scikit-learn's boosting as tensors; with `validation`, the rounds that are enough there."""
    from threadpoolctl import threadpool_limits

    target, (rows, labels) = encoder.target, train
    known = np.unique(labels) if target.task != "regression" else labels[:0]
    if target.task != "regression":
        labels = np.searchsorted(known, labels)
    model = booster(encoder, params, seed)
    with threadpool_limits(num_threads()):
        if validation is None:
            rounds = model.fit(boostable(rows, rows), labels).n_iter_
        else:
            checked = np.searchsorted(known, validation[1]) if target.task != "regression" else validation[1]
            few = len(checked) < FEW_ROWS
            model.set_params(early_stopping=True, n_iter_no_change=USUAL_ROUNDS if few else PATIENCE)
            others = boostable(rows, validation[0])
            model.fit(boostable(rows, rows), labels, X_val=others, y_val=checked)
            rounds = enough_rounds(model, others, checked, target.task)
    trees = Trees(tree_arrays(model, rounds), int(model.n_trees_per_iteration_))
    if target.task != "multiclass" or len(known) == target.num_outputs:
        return trees
    return KnownClasses(trees, known, target.num_outputs, unseen=-math.log(2 * len(labels)))


def enough_rounds(model: Any, rows: np.ndarray, labels: np.ndarray, task: Task) -> int:
    """The rounds with the lowest loss on these validation rows. Where they are few and it comes early, the most up to
    the usual 100 whose loss is not higher by two standard errors: what few rows, or those of one season, advise
    against may yet be right, and 100 rounds are what usually is."""
    lowest = max(int(np.argmax(model.validation_score_)), 1)
    if len(labels) >= FEW_ROWS or lowest >= USUAL_ROUNDS:
        return lowest
    if task != "regression":
        task = "binary" if model.n_trees_per_iteration_ == 1 else "multiclass"
    staged = model.staged_predict(rows) if task == "regression" else model.staged_decision_function(rows)
    truth = torch.from_numpy(labels) if task == "multiclass" else torch.from_numpy(labels.astype(np.float64))
    losses = [row_losses(task, torch.from_numpy(outputs), truth) for outputs in islice(staged, USUAL_ROUNDS)]
    enough = lowest
    for rounds in range(lowest + 1, len(losses) + 1):
        excess = losses[rounds - 1] - losses[lowest - 1]
        if excess.mean() <= 2 * excess.std() / math.sqrt(len(excess)):
            enough = rounds
    return enough


def booster(encoder: Encoder, params: Mapping[str, Any], seed: int) -> Any:
    """The unfitted HistGradientBoosting, for all its rounds."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    chosen, target = tree_params(params), encoder.target
    few = [len(encoder.numeric) + at for at, size in enumerate(encoder.sizes) if size <= MAX_CATEGORIES]
    kind = HistGradientBoostingRegressor if target.task == "regression" else HistGradientBoostingClassifier
    return kind(
        max_iter=min(int(chosen[TREES]), max(MAX_TREES // target.num_outputs, FEWEST_ROUNDS)),
        learning_rate=float(chosen["tree_learning_rate"]),
        min_samples_leaf=int(chosen["min_samples_leaf"]),
        l2_regularization=float(chosen["l2_regularization"]),
        max_leaf_nodes=MAX_LEAVES,
        categorical_features=few,
        early_stopping=False,
        random_state=seed,
    )


def tree_arrays(model: Any, num_iterations: int) -> dict[str, np.ndarray]:
    """The first iterations of a fitted HistGradientBoosting as the arrays that `Trees` computes with."""
    trees = [tree for iteration in model._predictors[:num_iterations] for tree in iteration]
    num_columns = int(model.n_features_in_)
    categorical = np.zeros(num_columns, bool) if model.is_categorical_ is None else model.is_categorical_
    origin = np.concatenate([np.flatnonzero(categorical), np.flatnonzero(~categorical)])  # as the model reorders them
    features = np.zeros((len(trees), NUM_SLOTS), np.int64)
    thresholds = np.full((len(trees), NUM_SLOTS), np.inf, np.float32)
    masks = np.full((len(trees), NUM_SLOTS), -1, np.int32)
    leaves = np.zeros((len(trees), NUM_SLOTS), np.float32)
    slots, columns, tables = [], [], []
    for number, tree in enumerate(trees):
        for slot, (node, low, high) in enumerate(_splits(tree.nodes, leaves[number])):
            column = origin[node["feature_idx"]]
            features[number, slot] = column + (0 if node["missing_go_to_left"] else num_columns)
            masks[number, slot] = ~(((1 << high) - 1) ^ ((1 << low) - 1))
            if node["is_categorical"]:
                slots.append(number * NUM_SLOTS + slot)
                columns.append(column)
                tables.append(_goes_right(model, tree, node))
            else:
                thresholds[number, slot] = _round_down(node["num_threshold"])
    return {
        "features": features.reshape(-1),
        "thresholds": thresholds.reshape(-1, 1),
        "masks": masks.reshape(-1, 1),
        "leaves": leaves,
        "start": np.asarray(model._baseline_prediction, np.float32).reshape(-1),
        "slots": np.array(slots, np.int64),
        "codes_from": np.array(columns, np.int64),
        "goes_right": np.array(tables, bool).reshape(-1, NUM_CODES),
    }


def _splits(nodes: np.ndarray, leaves: np.ndarray) -> list[tuple[Any, int, int]]:
    """Every inner node with the leaves of its left subtree, `[first, last)`; fills in the values of the leaves."""
    found: list[tuple[Any, int, int]] = []

    def visit(index: int, first: int) -> int:
        node = nodes[index]
        if node["is_leaf"]:
            leaves[first] = node["value"]
            return first + 1
        middle = visit(int(node["left"]), first)
        found.append((node, first, middle))
        return visit(int(node["right"]), middle)

    visit(0, 0)
    return found


def _goes_right(model: Any, tree: Any, node: Any) -> np.ndarray:
    """Code -> whether it goes to the right; a code that the training rows had not is like a missing one."""
    left = _bits(tree.raw_left_cat_bitsets[node["bitset_idx"]])
    known = model._preprocessor.named_transformers_["encoder"].categories_[node["feature_idx"]]
    goes_right = np.full(NUM_CODES, not node["missing_go_to_left"])
    for place, code in enumerate(known[~np.isnan(known)].astype(int)):
        goes_right[code] = not left[place]
    return goes_right


def _bits(words: np.ndarray) -> np.ndarray:
    """The 256 bits of 8 words, lowest first."""
    return np.unpackbits(np.ascontiguousarray(words, "<u4").view(np.uint8), bitorder="little").astype(bool)


def _round_down(threshold: float) -> np.float32:
    """The largest finite float32 that is no larger: float32 rows compare with it as with the float64."""
    largest = np.finfo(np.float32).max
    rounded = np.float32(np.clip(threshold, -largest, largest))
    return rounded if rounded <= threshold else np.nextafter(rounded, np.float32(-np.inf))
