"""The model bundle: what the service needs of a model version, as one folder without pickle.

MLmodel                 MLflow's description; `mlflow.pyfunc.load_model` works on the folder
data/model.pt2          the network as a `torch.export` archive: a graph in JSON and raw tensors
data/trees.txt          boosted trees beside it, if it has some, as LightGBM's text; or
data/model.skops        a scikit-learn-like estimator as skops writes it
data/encoder.json       feature columns to network input
data/info.json          where the model comes from: dataset version, feature service, label, features, parameters
checksums.json          SHA-256 of each of these files; the registry keeps that of this one
evaluation.json         measured on the test split, see `training_pipeline.judging.evaluate`; comes with it
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from fti.model.boosted import Boosted, load_booster, tree_outputs
from fti.model.bundle_files import evaluation_in, require_whole_bundle
from fti.model.encoder import Encoder
from fti.model.estimator import dump_estimator, load_estimator, predictions
from fti.model.program import load_program, read_bytes, save_program
from fti.model.records import ModelInfo
from fti.model.target import Target

if TYPE_CHECKING:
    import torch

DATA = "data"
PROGRAM, TREES, ESTIMATOR = "model.pt2", "trees.txt", "model.skops"
ENCODER, INFO = "encoder.json", "info.json"
BLOCK = 128
"""Rows that a model reads at once."""
PACKAGES = {PROGRAM: ("torch",), TREES: ("lightgbm",), ESTIMATOR: ("scikit-learn", "skops")}
"""File of a bundle -> the packages that read it."""


@dataclass(frozen=True)
class ModelBundle:
    """A model that answers: features in, predictions out."""

    encoder: Encoder
    info: ModelInfo
    model: torch.nn.Module | Boosted | Any = field(repr=False)
    """A network, float32 [rows, columns] to outputs as in `Target`, alone or beside trees, or a fitted estimator."""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a bundle folder; nothing in it is ever unpickled. DataError when a file is not as it was written."""
        require_whole_bundle(Path(folder))
        data = Path(folder) / DATA
        info = ModelInfo.from_json(json.loads(read_bytes(data / INFO)), data / INFO)
        if (evaluation := evaluation_in(Path(folder))) is not None:
            info = replace(info, reference_predictions=evaluation.reference_predictions)
        return cls(Encoder.from_json(read_bytes(data / ENCODER).decode()), info, _load_model(data))

    @property
    def target(self) -> Target:
        """What the predictions mean."""
        return self.encoder.target

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Predictions for every row of `frame`, which holds at least the model's features, as float64.

        Binary: probability of label 1 [rows]; multiclass: probabilities [rows, classes]; regression: values [rows].
        """
        encoded = self.encoder.encode(frame)
        if hasattr(self.model, "predict"):
            shape = (0, self.target.num_outputs)[: 1 + (self.target.task == "multiclass")]
            return predictions(self.model, encoded, self.target) if len(encoded) else np.empty(shape)
        import torch

        return self.target.decode(outputs_of(self.model, torch.from_numpy(encoded)).numpy())


def outputs_of(model: torch.nn.Module | Boosted, rows: torch.Tensor) -> torch.Tensor:
    """Outputs for many rows, block by block into one tensor: a list of small ones, which lie between what the blocks
    needed, kept half a gigabyte of that from being used again for 120,000 rows."""
    import torch

    with torch.inference_mode():
        first: torch.Tensor = model(rows[:BLOCK])
        if len(rows) <= BLOCK:
            return first
        outputs = first.new_empty((len(rows), *first.shape[1:]))
        outputs[:BLOCK] = first
        for start in range(BLOCK, len(rows), BLOCK):
            outputs[start : start + BLOCK] = model(rows[start : start + BLOCK])
    return outputs


def save_bundle(folder: Path, *, network: torch.nn.Module | Boosted | Any, encoder: Encoder, info: ModelInfo) -> None:
    """Write `network`, or an estimator in its place, and what belongs to it as a bundle folder."""
    import torch

    data = folder / DATA
    data.mkdir(parents=True)
    rows = torch.zeros(4, encoder.num_columns)
    if isinstance(network, Boosted):
        (data / TREES).write_text(network.booster.model_to_string())
        save_program(data / PROGRAM, network.program.eval(), rows, tree_outputs(network.booster, rows))
    elif hasattr(network, "predict"):
        (data / ESTIMATOR).write_bytes(dump_estimator(network))
    else:
        save_program(data / PROGRAM, network.eval(), rows)
    (data / ENCODER).write_text(encoder.to_json())
    (data / INFO).write_text(json.dumps(info.to_json(), indent=1, sort_keys=True))


def _load_model(data: Path) -> torch.nn.Module | Boosted | Any:
    if (data / ESTIMATOR).exists():
        return load_estimator(data / ESTIMATOR)
    program = load_program(data / PROGRAM)
    return Boosted(program, load_booster(data / TREES)) if (data / TREES).exists() else program


def write_mlmodel(folder: Path, encoder: Encoder, *, run_id: str, model_id: str) -> None:
    """MLflow's description of a bundle folder: a `python_function` from features to predictions."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = [ColSpec("float", name) for name in encoder.numeric]
    columns += [ColSpec("string", name, required=False) for name in encoder.categorical]
    names = {"binary": ["probability"], "multiclass": list(encoder.target.classes), "regression": ["prediction"]}
    outputs = [ColSpec("double", name) for name in names[encoder.target.task]]
    signature = ModelSignature(Schema(columns), Schema(outputs))
    model = Model(run_id=run_id, model_id=model_id, signature=signature)
    used = ["polars", *(name for file in PACKAGES if (folder / DATA / file).exists() for name in PACKAGES[file])]
    (folder / "requirements.txt").write_text("".join(f"{name}=={version(name)}\n" for name in used))
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n"
    )
    model.add_flavor(
        "python_function",
        loader_module="fti.model.bundle",
        data=DATA,
        env={"virtualenv": "python_env.yaml"},
        python_version=platform.python_version(),
    )
    model.save(str(folder / "MLmodel"))


def _load_pyfunc(path: str) -> _PyFunc:
    """Entry point of `mlflow.pyfunc.load_model`; `path` is the bundle's data folder."""
    return _PyFunc(ModelBundle.load(Path(path).parent))


@dataclass(frozen=True)
class _PyFunc:
    bundle: ModelBundle

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """`frame` is a pandas frame with the model's features."""
        return self.bundle.predict(pl.from_pandas(frame))
