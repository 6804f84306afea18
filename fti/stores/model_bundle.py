"""The model bundle: what the service needs of a model version, as one folder without pickle.

MLmodel                 MLflow's description; `mlflow.pyfunc.load_model` works on the folder
data/model.pt2          the network as a `torch.export` archive: a graph in JSON and raw tensors
data/encoder.json       feature columns to network input
data/info.json          where the model comes from: dataset version, feature service, label, features, parameters
evaluation.json         measured on the test split, see `training_pipeline.evaluate`; arrives with the evaluation
"""

from __future__ import annotations

import io
import json
import math
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from fti.errors import DataError

if TYPE_CHECKING:
    import torch

DATA = "data"
PROGRAM, ENCODER, INFO, EVALUATION = "model.pt2", "encoder.json", "info.json", "evaluation.json"
NUM_QUANTILES = 65
FEW_ROWS = 32
_RAW_RECORDS = ("weight_", "tensor_")
_TEXT_RECORDS = ("version", "archive_format", "archive_version", "byteorder", "serialization_id")


@dataclass(frozen=True)
class Encoder:
    """Feature columns to the one float32 array that a network reads: numeric columns, then categorical codes.

    A missing number stays NaN (the network decides what it means); a missing or unseen category is code 0. The
    quantiles and missing shares are those of the training split, for networks that scale their input.
    """

    numeric: tuple[str, ...]
    categorical: Mapping[str, tuple[str, ...]]
    """Column -> categories of the training split; code 1 is the first."""
    quantiles: Mapping[str, tuple[float, ...]] = field(repr=False)
    """Numeric column -> 65 quantiles from minimum to maximum; zeros when the column was never known."""
    missing: Mapping[str, float] = field(repr=False)
    """Numeric column -> share of missing values."""

    @classmethod
    def fit(cls, frame: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str]) -> Self:
        """Learn categories and quantiles from `frame`, the training split."""
        _require(frame, [*numeric, *categorical])
        return cls(
            numeric=tuple(numeric),
            categorical={name: _categories(frame[name]) for name in categorical},
            quantiles={name: _quantiles(frame[name]) for name in numeric},
            missing={name: _missing_share(frame[name]) for name in numeric},
        )

    def encode(self, frame: pl.DataFrame) -> np.ndarray:
        """float32 array [rows, columns]."""
        _require(frame, [*self.numeric, *self.categorical])
        return self._encode_rows(frame) if frame.height <= FEW_ROWS else self._encode_columns(frame)

    def _encode_rows(self, frame: pl.DataFrame) -> np.ndarray:
        """Row by row: for a single request a tenth of the time that whole columns take."""
        position = {name: index for index, name in enumerate(frame.columns)}
        numbers = [position[name] for name in self.numeric]
        codes = [(position[name], codes) for name, codes in self._codes.items()]
        encoded = np.empty((frame.height, len(numbers) + len(codes)), np.float32)
        for index, row in enumerate(frame.rows()):
            values = [math.nan if row[at] is None else row[at] for at in numbers]
            encoded[index] = values + [known.get(_text(row[at]), 0) for at, known in codes]
        return encoded

    def _encode_columns(self, frame: pl.DataFrame) -> np.ndarray:
        encoded = np.empty((frame.height, len(self.numeric) + len(self.categorical)), np.float32)
        for column, name in enumerate(self.numeric):
            encoded[:, column] = frame[name].cast(pl.Float32).to_numpy()
        for column, (name, known) in enumerate(self._codes.items(), start=len(self.numeric)):
            encoded[:, column] = [known.get(value, 0) for value in frame[name].cast(pl.String).to_list()]
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
        return json.dumps({name: getattr(self, name) for name in fields}, sort_keys=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        found = json.loads(text)
        return cls(
            numeric=tuple(found["numeric"]),
            categorical={name: tuple(values) for name, values in found["categorical"].items()},
            quantiles={name: tuple(values) for name, values in found["quantiles"].items()},
            missing=found["missing"],
        )


@dataclass(frozen=True)
class ModelBundle:
    """A model that answers: features in, probabilities out.

    `info` holds `dataset_version`, `feature_service`, `label`, `numeric`, `categorical`, `params`, `seed`, `run_id`
    and, once the model has been evaluated, `reference_predictions`:
    `{"probability": fti.drift.reference(...) on the training split, "overall": {...}, "weeks": [...]}`
    where `overall` and each week hold `start`, `rows`, `positive_share`, `roc_auc`, `log_loss` and
    `expected_log_loss` (the log loss that the model's own probabilities promise).
    """

    encoder: Encoder
    info: Mapping[str, Any]
    network: torch.nn.Module = field(repr=False)
    """float32 [rows, columns] to logits [rows]."""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a bundle folder; nothing in it is ever unpickled."""
        data = Path(folder) / DATA
        info = json.loads(_read(data / INFO))
        evaluation = Path(folder) / EVALUATION
        if evaluation.exists():
            info["reference_predictions"] = json.loads(evaluation.read_bytes())["reference_predictions"]
        return cls(Encoder.from_json(_read(data / ENCODER).decode()), info, load_program(data / PROGRAM))

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        """Probability of label 1 for every row of `frame`, which holds at least the model's features. float64 [rows]"""
        import torch

        with torch.inference_mode():
            logits = self.network(torch.from_numpy(self.encoder.encode(frame)))
        return torch.sigmoid(logits.double()).numpy()


def save_bundle(folder: Path, *, network: torch.nn.Module, encoder: Encoder, info: Mapping[str, Any]) -> None:
    """Write `network` (in evaluation mode) and what belongs to it as a bundle folder."""
    data = folder / DATA
    data.mkdir(parents=True)
    save_program(data / PROGRAM, network.eval(), num_columns=len(encoder.numeric) + len(encoder.categorical))
    (data / ENCODER).write_text(encoder.to_json())
    (data / INFO).write_text(json.dumps(info, indent=1, sort_keys=True))


def write_mlmodel(folder: Path, encoder: Encoder, *, run_id: str, model_id: str) -> None:
    """MLflow's description of a bundle folder: a `python_function` from features to probabilities."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = [ColSpec("float", name) for name in encoder.numeric]
    columns += [ColSpec("string", name, required=False) for name in encoder.categorical]
    signature = ModelSignature(Schema(columns), Schema([ColSpec("double", "probability")]))
    model = Model(run_id=run_id, model_id=model_id, signature=signature)
    (folder / "requirements.txt").write_text("".join(f"{name}=={version(name)}\n" for name in ("torch", "polars")))
    (folder / "python_env.yaml").write_text(
        f"python: {platform.python_version()}\nbuild_dependencies: []\ndependencies:\n- -r requirements.txt\n"
    )
    model.add_flavor(
        "python_function",
        loader_module="fti.stores.model_bundle",
        data=DATA,
        env={"virtualenv": "python_env.yaml"},
        python_version=platform.python_version(),
    )
    model.save(str(folder / "MLmodel"))


def save_program(path: Path, network: torch.nn.Module, *, num_columns: int) -> None:
    """Export `network` for any number of rows. Sample inputs are left out: torch would pickle them."""
    import torch

    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(network, (torch.zeros(4, num_columns),), dynamic_shapes=({0: rows},))
    program._example_inputs = None
    torch.export.save(program, path)
    require_pickle_free(path.read_bytes(), str(path))


def load_program(path: Path) -> torch.nn.Module:
    """The network of a `torch.export` archive, after making sure that nothing in it would be unpickled."""
    import torch

    content = _read(path)
    require_pickle_free(content, str(path))
    network: torch.nn.Module = torch.export.load(io.BytesIO(content)).module()
    return network


def require_pickle_free(archive: bytes, name: str) -> None:
    """Raise DataError unless every record is JSON, a short known text or the raw bytes of a tensor."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as records:
            unsafe = [record.filename for record in records.infolist() if not _is_safe(records, record)]
    except zipfile.BadZipFile as error:
        raise DataError(f"{name} is not a model archive ({error}). Train the model again.") from error
    if unsafe:
        raise DataError(f"{name} holds pickled data ({', '.join(unsafe)}): refused. Train the model again.")


def _is_safe(records: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    stem = record.filename.rsplit("/", 1)[-1]
    if stem in _TEXT_RECORDS or record.file_size == 0:
        return record.file_size <= 64
    if stem.endswith("_config.json"):
        config = json.loads(records.read(record))["config"]
        return not any(entry["use_pickle"] for entry in config.values())
    return stem.endswith(".json") or stem.startswith(_RAW_RECORDS)


def _load_pyfunc(path: str) -> _PyFunc:
    """Entry point of `mlflow.pyfunc.load_model`; `path` is the bundle's data folder."""
    return _PyFunc(ModelBundle.load(Path(path).parent))


@dataclass(frozen=True)
class _PyFunc:
    bundle: ModelBundle

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> np.ndarray:
        """`frame` is a pandas frame with the model's features."""
        return self.bundle.predict(pl.from_pandas(frame))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} is missing: the folder is not a complete model. Train the model again.") from None


def _require(frame: pl.DataFrame, names: Sequence[str]) -> None:
    present = set(frame.columns)
    missing = [name for name in names if name not in present]
    if missing:
        raise DataError(f"features are missing: {', '.join(missing)}. Give every feature of the model's service.")


def _categories(values: pl.Series) -> tuple[str, ...]:
    return tuple(values.cast(pl.String).drop_nulls().unique().sort().to_list())


def _text(value: Any) -> str | None:
    """As polars casts it to text."""
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _known(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()


def _quantiles(values: pl.Series) -> tuple[float, ...]:
    known = _known(values)
    points = np.linspace(0, 1, NUM_QUANTILES)
    return tuple((np.quantile(known, points) if len(known) else np.zeros(NUM_QUANTILES)).tolist())


def _missing_share(values: pl.Series) -> float:
    return 1 - len(_known(values)) / max(len(values), 1)
