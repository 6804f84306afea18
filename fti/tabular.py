"""What most tables want of the model: parameters, and what a study varies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

DEFAULTS: Mapping[str, Any] = {"learning_rate": 6e-3, "hidden": 64, "dropout": 0.2, "weight_decay": 1e-2}
"""Parameters of the model."""


def search_space(trial: optuna.Trial) -> dict[str, Any]:
    """What Optuna varies."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 2e-3, 1.5e-2, log=True),
        "hidden": trial.suggest_categorical("hidden", [32, 64, 96]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.4),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 1e-1, log=True),
    }
