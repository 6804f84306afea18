"""A model registry that keeps what it logs, so that a saved model can be compared with the trained one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fti.model.bundle import ModelBundle
from fti.model.encoder import Encoder
from fti.model.records import ModelInfo
from fti.stores.registry.registry import ModelRegistry


@dataclass(frozen=True)
class RememberingRegistry(ModelRegistry):
    """The registry; `trained` holds the models in memory, by the run that logged them."""

    trained: dict[str, ModelBundle] = field(default_factory=dict)

    def log_model(self, run_id: str, *, network: Any, encoder: Encoder, info: ModelInfo) -> str:
        """Log the model and keep it."""
        self.trained[run_id] = ModelBundle(encoder, info, network)
        return super().log_model(run_id, network=network, encoder=encoder, info=info)
