"""Batches as slices of one shuffled tensor: the rows are gathered once per epoch, not one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl
import pytorch_lightning as L
import torch
from torch import Tensor

from fti.stores.model_bundle import Encoder

VALIDATION_BATCH = 8192

Batch = tuple[Tensor, Tensor]


class SliceLoader:
    """Iterable of `(rows, labels)`. Shuffled by `seed` and epoch, so that a resumed training sees the same order."""

    def __init__(self, rows: Tensor, labels: Tensor, *, batch_size: int, seed: int | None = None) -> None:
        self.rows, self.labels, self.seed = rows, labels, seed
        self.batch_size = min(batch_size, max(len(rows), 1))
        self.epoch = 0

    def __len__(self) -> int:
        """Whole batches when shuffled (a small last one would be noise), all rows otherwise."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole if self.seed is not None else whole + bool(rest)

    def __iter__(self) -> Iterator[Batch]:
        rows, labels = self.rows, self.labels
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(len(rows), generator=generator)
            rows, labels = rows[order], labels[order]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield rows[start : start + self.batch_size], labels[start : start + self.batch_size]

    def set_epoch(self, epoch: int) -> None:
        """Which order comes next."""
        self.epoch = epoch


class TabularData(L.LightningDataModule):
    """Train and validation split of a dataset, encoded."""

    def __init__(
        self, splits: Mapping[str, pl.DataFrame], encoder: Encoder, *, label: str, batch_size: int, seed: int
    ) -> None:
        super().__init__()
        self.train = SliceLoader(*tensors(splits["train"], encoder, label), batch_size=batch_size, seed=seed)
        self.validation = SliceLoader(
            *tensors(splits["validation"], encoder, label), batch_size=max(batch_size, VALIDATION_BATCH)
        )

    def train_dataloader(self) -> SliceLoader:
        return self.train

    def val_dataloader(self) -> SliceLoader:
        return self.validation


def tensors(frame: pl.DataFrame, encoder: Encoder, label: str) -> Batch:
    """Encoded rows [rows, columns] and labels [rows], float32."""
    labels = frame[label].cast(pl.Float32).to_numpy(writable=True)
    return torch.from_numpy(encoder.encode(frame)), torch.from_numpy(labels)
