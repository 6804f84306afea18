"""What projects on tables share: the model's parameters and what a study varies of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

MAX_EPOCHS = 20
DEFAULTS: Mapping[str, Any] = {
    "trees": 300,
    "hidden": 96,
    "layers": 2,
    "members": 4,
    "dropout": 0.15,
    "learning_rate": 4e-3,
    "weight_decay": 1e-2,
}
"""Parameters of the model for tables: at most 300 rounds of boosted trees beside a small network."""


def search_space(trial: optuna.Trial) -> dict[str, Any]:
    """What Optuna varies."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
        "hidden": trial.suggest_categorical("hidden", [64, 96, 128]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.4),
    }
