"""Reports a trial's epochs to Optuna and ends trials that cannot win."""

from __future__ import annotations

import optuna
import pytorch_lightning as L


class Pruning(L.Callback):
    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        value = float(trainer.callback_metrics[self.monitor])
        self.trial.report(value, trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned
