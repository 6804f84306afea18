"""The network for tables: categorical embeddings, scaled numbers, a few small residual networks averaged.

A project brings its own by naming a LightningModule class in `Model.build`. The contract: the constructor takes
`(encoder, params)`; `forward` maps the encoder's float32 array [rows, columns] (numbers, NaN where missing, then
category codes) to outputs as `fti.model.target.Target` describes them for the task (`encoder.target`) and can be
exported by `torch.export`; `training_step`, `validation_step` and `configure_optimizers` are Lightning's, a batch is
`(rows, labels)`, labels as in `Target` too, and `validation_step` logs `validation_loss`, best by `task_loss`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytorch_lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional

from fti.model.encoder import NUM_QUANTILES, Encoder
from fti.project import Task

DEFAULTS: Mapping[str, Any] = {
    "hidden": 64,
    "layers": 2,
    "members": 2,
    "embedding": 8,
    "dropout": 0.3,
    "learning_rate": 6e-3,
    "weight_decay": 1e-2,
}
"""Parameters that `TabularNetwork` reads, where neither the project nor the study says otherwise."""
RARELY_MISSING = 0.005
LIMIT = 4.0


def symmetric_log(values: Tensor) -> Tensor:
    """Nearly linear around 0, logarithmic far from it; several times quicker than `asinh`."""
    return torch.sign(values) * torch.log1p(values.abs())


class Scaler(nn.Module):
    """Numbers to about [-4, 4]: distance from the median in quartile ranges, logarithmic in the tails, standardized.
    Missing is 0, and 1 in an indicator column if the training rows missed it more than now and then."""

    center: Tensor
    spread: Tensor
    mean: Tensor
    deviation: Tensor
    indicated: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.num_numeric = self.num_outputs = len(encoder.numeric)
        if not encoder.numeric:
            return
        points = torch.tensor([encoder.quantiles[name] for name in encoder.numeric]).reshape(
            self.num_numeric, NUM_QUANTILES
        )
        center, low, high = (points[:, points.shape[1] * share // 4].clone() for share in (2, 1, 3))
        spread = torch.where(high - low > 1e-6, high - low, (points[:, -1] - points[:, 0]).clamp(min=1e-3))
        curved = symmetric_log((points - center[:, None]) / spread[:, None])
        self.register_buffer("center", center)
        self.register_buffer("spread", spread)
        self.register_buffer("mean", curved.mean(1))
        self.register_buffer("deviation", curved.std(1).clamp(min=1e-3))
        often = [encoder.missing[name] > RARELY_MISSING for name in encoder.numeric]
        self.register_buffer("indicated", torch.tensor(often, dtype=torch.bool).nonzero().flatten())
        self.num_outputs = self.num_numeric + sum(often)

    def forward(self, rows: Tensor) -> Tensor:
        numbers = rows[:, : self.num_numeric]
        if not self.num_numeric:
            return numbers
        scaled = (symmetric_log((numbers - self.center) / self.spread) - self.mean) / self.deviation
        missing = torch.isnan(scaled)
        known = torch.where(missing, 0.0, scaled).clamp(-LIMIT, LIMIT)
        return torch.cat([known, missing[:, self.indicated].to(known.dtype)], dim=1)


class Members(nn.Module):
    """One linear layer of every member at once: [members, rows, inputs] to [members, rows, outputs]."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, rows: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, rows, self.weight)


def task_loss(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """Log loss of logits for classes, mean squared error of standardized values."""
    if task == "binary":
        return functional.binary_cross_entropy_with_logits(outputs, labels)
    if task == "multiclass":
        return functional.cross_entropy(outputs, labels)
    return functional.mse_loss(outputs, labels)


class TabularNetwork(L.LightningModule):
    """Predicts for all tasks: the mean of its members' probabilities, or of their values."""

    def __init__(self, encoder: Encoder, params: Mapping[str, Any]) -> None:
        super().__init__()
        chosen = {**DEFAULTS, **params}
        self.learning_rate, self.weight_decay = float(chosen["learning_rate"]), float(chosen["weight_decay"])
        self.dropout, self.members = float(chosen["dropout"]), int(chosen["members"])
        self.task = encoder.target.task
        self.scaler = Scaler(encoder)
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, min(int(chosen["embedding"]), size)) for size in encoder.sizes
        )
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.3)  # type: ignore[arg-type]
        inputs = self.scaler.num_outputs + sum(embedding.embedding_dim for embedding in self.embeddings)  # type: ignore[misc]
        hidden, layers = int(chosen["hidden"]), int(chosen["layers"])
        widths = [int(inputs), *[hidden] * layers]
        self.layers = nn.ModuleList(Members(self.members, *pair) for pair in pairwise(widths))
        self.head = Members(self.members, widths[-1], encoder.target.num_outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """float32 [rows, columns] to outputs [rows], or [rows, classes]."""
        outputs = self.member_outputs(rows)
        if self.task == "binary":
            return torch.logit(torch.sigmoid(outputs).mean(0), eps=1e-6)
        if self.task == "multiclass":
            return outputs.softmax(-1).mean(0).clamp(min=1e-7).log()
        return outputs.mean(0)

    def member_outputs(self, rows: Tensor) -> Tensor:
        """Outputs of every member: [members, rows], or [members, rows, classes]."""
        codes = rows[:, self.scaler.num_numeric :].long()
        embedded = [embedding(codes[:, column]) for column, embedding in enumerate(self.embeddings)]
        hidden = torch.cat([self.scaler(rows), *embedded], dim=1).unsqueeze(0).expand(self.members, -1, -1)
        for layer in self.layers:
            hidden = functional.dropout(functional.relu(layer(hidden)), self.dropout, self.training)
        outputs: Tensor = self.head(hidden)
        return outputs if self.task == "multiclass" else outputs.squeeze(-1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        rows, labels = batch
        outputs = self.member_outputs(rows)  # each member learns alone: their errors then differ and average out
        return task_loss(self.task, outputs.flatten(0, 1), labels.repeat(self.members))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        rows, labels = batch
        loss = task_loss(self.task, self(rows), labels)
        self.log("validation_loss", loss, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """AdamW on a one-cycle schedule over the whole training."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        steps = max(int(self.trainer.estimated_stepping_batches), 10)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=steps + 1, pct_start=0.2
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
