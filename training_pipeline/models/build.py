"""What `Model.build` names: a LightningModule class, or a scikit-learn-like estimator.

A LightningModule class follows the contract in `training_pipeline.models.network`. An estimator is a class that takes
the parameters as keywords, or a function `f(params)` or `f(encoder, params)` that returns one; it has `fit` and
`predict`, a classifier also `predict_proba`. It is fitted on the encoder's float32 array (numbers, NaN where missing,
then codes of categories, as `encoder.numeric` and `encoder.categorical` name them) and, as labels, on 0 and 1, the
indexes of `encoder.target.classes` or plain numbers. It is saved by skops: classes of scikit-learn, NumPy and SciPy
only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import pytorch_lightning as L

from fti.errors import DataError, NotReadyError
from fti.model.encoder import Encoder
from fti.model.estimator import dump_estimator
from fti.model.program import export


def build_model(path: str, encoder: Encoder, params: Mapping[str, Any], *, seed: int = 0) -> Any:
    """The model that `module:attribute` makes, unfitted: a LightningModule or an estimator that can be saved."""
    made = _call(path, named(path), encoder, params)
    if isinstance(made, L.LightningModule):
        _require_exportable(path, made, encoder)
        return made
    needed = ["fit", "predict"] + (["predict_proba"] if encoder.target.task != "regression" else [])
    lacking = [name for name in needed if not hasattr(made, name)]
    if lacking:
        raise DataError(
            f"Model.build names {path!r}, which gives a {type(made).__name__} without {' and '.join(lacking)}: give a "
            f"LightningModule, or an estimator for {encoder.target.task} labels that has them."
        )
    _seed(made, seed)
    dump_estimator(made)  # refused now rather than after a long training
    return made


def named(path: str) -> Callable[..., Any]:
    """The class or function that `module:attribute` names."""
    module, _, attribute = path.partition(":")
    try:
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise NotReadyError(f"Model.build names {path!r}, which cannot be imported: {error}") from error
    if not callable(found):
        raise DataError(f"Model.build names {path!r}, which is no class or function: name one that makes the model.")
    return found


def _call(path: str, build: Callable[..., Any], encoder: Encoder, params: Mapping[str, Any]) -> Any:
    if isinstance(build, type) and issubclass(build, L.LightningModule):
        return build(encoder, params)
    if not isinstance(build, type):
        return build(encoder, params) if len(inspect.signature(build).parameters) == 2 else build(params)
    try:
        return build(**params)
    except TypeError as error:
        raise DataError(
            f"{path} does not take the parameters {', '.join(params) or '(none)'}: {error}. Keep Model.params and the "
            "search space to its own, or name a function of the parameters instead."
        ) from error


def _seed(estimator: Any, seed: int) -> None:
    """Give the seed to every `random_state` that has none."""
    if hasattr(estimator, "get_params"):
        states = {name: value for name, value in estimator.get_params().items() if name.endswith("random_state")}
        estimator.set_params(**{name: seed for name, value in states.items() if value is None})


def _require_exportable(path: str, network: L.LightningModule, encoder: Encoder) -> None:
    import torch

    if path.startswith("training_pipeline."):
        return
    try:
        export(network.eval(), torch.zeros(4, encoder.num_columns))
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path} cannot be exported for serving: {reason}. Its forward may hold only what torch.export takes, "
            "for any number of rows."
        ) from error
    network.train()
