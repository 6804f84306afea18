"""One fit of a model, seeded, checkpointed after every epoch and stopped early; used by trainings and by trials.

What is to serve is trained on afterwards, with the rows that stopped it.
"""

from __future__ import annotations

import logging
import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from training_pipeline.fitting.datamodule import SliceLoader, TabularData
from training_pipeline.fitting.threads import num_threads

MONITOR = "validation_loss"
PATIENCE = 4
MORE_EPOCHS = 3
"""Epochs on both splits of a model that is fitted."""
RATE = 0.3
"""Their learning rate at first, as a share of the highest of its fit."""


class Seeding(L.Callback):
    """Order of rows and dropout depend on the seed and the epoch alone: resumed equals uninterrupted."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        torch.manual_seed(self.seed * 1009 + trainer.current_epoch)
        loader = trainer.train_dataloader
        assert isinstance(loader, SliceLoader)
        loader.set_epoch(trainer.current_epoch)


class Best(L.Callback):
    """Keeps the best epoch in memory, for a fit that writes no checkpoints."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.state: dict[str, Any] = {}

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        loss = float(trainer.callback_metrics[MONITOR])
        if loss < self.loss or not self.state:
            self.loss, self.state = loss, {name: value.clone() for name, value in module.state_dict().items()}


def fit(
    model: L.LightningModule,
    data: TabularData,
    *,
    seed: int,
    max_epochs: int,
    callbacks: Sequence[L.Callback] = (),
    folder: Path | None = None,
) -> L.Trainer:
    """Train `model` in place and end with the best epoch. With a `folder`, go on from its newest checkpoint."""
    quiet()
    torch.set_num_threads(num_threads())
    own: list[L.Callback] = [Seeding(seed), EarlyStopping(MONITOR, patience=PATIENCE)]
    best = Best()
    if folder is None:
        own.append(best)
    else:
        own.append(ModelCheckpoint(folder, "{epoch:03d}", monitor=MONITOR, save_top_k=-1, save_on_train_epoch_end=True))
    newest = newest_checkpoint(folder) if folder else None
    trainer = trainer_of(
        max_epochs=stopped_after(newest) or max_epochs,
        callbacks=[*own, *callbacks],
        enable_checkpointing=folder is not None,
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=data, ckpt_path=newest, weights_only=True if newest else None)
    model.load_state_dict(best.state if folder is None else load_checkpoint(best_checkpoint(trainer))["state_dict"])
    model.cpu().eval()
    return trainer


class Falling(L.Callback):
    """Learning rates that fall in a line from a share of the highest to nothing, whatever the model's own schedule."""

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.highest = [group.get("max_lr", group["lr"]) for group in self.groups]

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        left = max(0.0, 1 - trainer.global_step / trainer.estimated_stepping_batches)
        for group, highest in zip(self.groups, self.highest, strict=True):
            group["lr"] = RATE * left * highest


def fit_on(model: L.LightningModule, data: TabularData, *, seed: int) -> None:
    """Train a fitted `model` on, in place, with the validation rows among the others."""
    trainer = trainer_of(
        max_epochs=MORE_EPOCHS, callbacks=[Seeding(seed), Falling()], enable_checkpointing=False, limit_val_batches=0
    )
    trainer.fit(model.train(), train_dataloaders=data.both())
    model.cpu().eval()
    model.trainer = None  # it holds a copy of the rows


def trainer_of(**options: Any) -> L.Trainer:
    """A trainer on one device that says nothing."""
    return L.Trainer(
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        **options,
    )


def newest_checkpoint(folder: Path) -> Path | None:
    """The last complete checkpoint; one that was cut short while it was written does not count."""
    return next((path for path in sorted(folder.glob("*.ckpt"), reverse=True) if zipfile.is_zipfile(path)), None)


def stopped_after(newest: Path | None) -> int:
    """Epochs after which the fit of a checkpoint had stopped early; 0 when it had not. Lightning would go on by one."""
    if newest is None:
        return 0
    found = load_checkpoint(newest)
    waited = [state["wait_count"] for name, state in found["callbacks"].items() if name.startswith("EarlyStopping")]
    return int(found["epoch"]) + 1 if max(waited) >= PATIENCE else 0


def best_checkpoint(trainer: L.Trainer) -> Path:
    """The epoch with the lowest validation loss, whichever process trained it."""
    callback = trainer.checkpoint_callback
    assert isinstance(callback, ModelCheckpoint)
    return Path(callback.best_model_path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and plain values."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def quiet() -> None:
    """Lightning tells every process about tips, devices and DataLoader workers; a training reports by epoch instead."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
