"""Batches as slices of one shuffled tensor: the rows are gathered once per epoch, not one by one."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pytorch_lightning as L
import torch
from torch import Tensor

from fti.model.encoder import Encoder

VALIDATION_BATCH = 8192
MIN_STEPS = 32
"""Steps of an epoch: a small table is passed through several times in one."""
BATCH_SIZES = (32, 2048)
"""Smallest and largest batch where the parameters name none."""

Batch = tuple[Tensor, Tensor]


class SliceLoader:
    """Iterable of `(rows, labels)`. Shuffled by `seed` and epoch, so that a resumed training sees the same order; an
    epoch of a small table is several passes."""

    def __init__(self, rows: Tensor, labels: Tensor, *, batch_size: int, seed: int | None = None) -> None:
        self.rows, self.labels, self.seed = rows, labels, seed
        self.batch_size = min(batch_size, max(len(rows), 1))
        self.epoch = 0

    def __len__(self) -> int:
        """Whole batches when shuffled (a small last one would be noise), all rows otherwise."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole * self.num_passes if self.seed is not None else whole + bool(rest)

    def __iter__(self) -> Iterator[Batch]:
        rows, labels = self.rows, self.labels
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            whole = len(rows) // self.batch_size * self.batch_size
            passes = [torch.randperm(len(rows), generator=generator)[:whole] for _ in range(self.num_passes)]
            order = passes[0] if len(passes) == 1 else torch.cat(passes)
            rows, labels = rows[order], labels[order]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield rows[start : start + self.batch_size], labels[start : start + self.batch_size]

    @property
    def num_passes(self) -> int:
        """Passes over all rows in one epoch."""
        return math.ceil(MIN_STEPS / max(len(self.rows) // self.batch_size, 1))

    def set_epoch(self, epoch: int) -> None:
        """Which order comes next."""
        self.epoch = epoch


class TabularData(L.LightningDataModule):
    """Train and validation split of a dataset, encoded."""

    def __init__(
        self, splits: Mapping[str, pl.DataFrame], encoder: Encoder, *, label: str, batch_size: int = 0, seed: int
    ) -> None:
        """Without a `batch_size`, one that suits the number of rows."""
        super().__init__()
        self.kept: dict[str, Any] = {}
        """What several fits on the same rows share."""
        batch_size = batch_size or default_batch_size(splits["train"].height)
        self.train = SliceLoader(*tensors(splits["train"], encoder, label), batch_size=batch_size, seed=seed)
        self.validation = SliceLoader(
            *tensors(splits["validation"], encoder, label), batch_size=max(batch_size, VALIDATION_BATCH)
        )

    def relabelled(self, train: Tensor, validation: Tensor) -> TabularData:
        """The same rows with other labels."""
        other = copy.copy(self)
        other.kept = {}
        other.train, other.validation = copy.copy(self.train), copy.copy(self.validation)
        other.train.labels, other.validation.labels = train, validation
        return other

    def both(self) -> SliceLoader:
        """The rows of both splits, in batches as those of the training split."""
        both, parts = copy.copy(self.train), (self.train, self.validation)
        both.rows, both.labels = torch.cat([part.rows for part in parts]), torch.cat([part.labels for part in parts])
        return both

    def train_dataloader(self) -> SliceLoader:
        return self.train

    def val_dataloader(self) -> SliceLoader:
        return self.validation


def default_batch_size(num_rows: int) -> int:
    """The largest power of two that leaves 32 steps in an epoch, within reason."""
    smallest, largest = BATCH_SIZES
    return min(max(2 ** int(math.log2(max(num_rows / MIN_STEPS, 1))), smallest), largest)


def tensors(frame: pl.DataFrame, encoder: Encoder, label: str) -> Batch:
    """Encoded rows [rows, columns], float32, and labels [rows] as `Target` encodes them."""
    return torch.from_numpy(encoder.encode(frame)), torch.from_numpy(encoder.target.encode(frame[label]))
