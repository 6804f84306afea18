"""Models that a user might bring."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as L
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fti.model.encoder import Encoder
from training_pipeline.models.network import task_loss


class Linear(L.LightningModule):
    """One layer for any task."""

    def __init__(self, encoder: Encoder, params: Mapping[str, Any]) -> None:
        super().__init__()
        self.task = encoder.target.task
        self.layer = torch.nn.Linear(encoder.num_columns, encoder.target.num_outputs)
        scale = [max(abs(value) for value in encoder.quantiles[name]) + 1e-6 for name in encoder.numeric]
        self.register_buffer("scale", torch.tensor([*scale, *[1.0] * len(encoder.categorical)]))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        outputs = self.layer(torch.nan_to_num(rows) / self.scale)
        return outputs if self.task == "multiclass" else outputs.squeeze(-1)

    def training_step(self, batch: Any, batch_index: int) -> torch.Tensor:
        return task_loss(self.task, self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_index: int) -> None:
        self.log("validation_loss", task_loss(self.task, self(batch[0]), batch[1]), batch_size=len(batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Branching(Linear):
    """Asks in Python about the rows: no graph can say that."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows if rows.sum() > 0 else -rows)


class Secret(BaseEstimator, RegressorMixin):
    """An estimator of the user's own class, which a model file may not hold."""

    def fit(self, rows: Any, labels: Any) -> "Secret":
        raise AssertionError("refused before it is fitted")

    def predict(self, rows: Any) -> Any:
        return rows[:, 0]


def forest(params: Mapping[str, Any]) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=int(params["trees_in_forest"]))


def ridge(encoder: Encoder, params: Mapping[str, Any]) -> Pipeline:
    from sklearn.compose import make_column_transformer

    numbers, codes = range(len(encoder.numeric)), range(len(encoder.numeric), encoder.num_columns)
    numeric = make_pipeline(SimpleImputer(), StandardScaler())
    columns = make_column_transformer((numeric, list(numbers)), (OneHotEncoder(handle_unknown="ignore"), list(codes)))
    return make_pipeline(columns, Ridge(alpha=params["alpha"]))
