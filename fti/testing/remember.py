"""A model registry that keeps what it logs, so that a saved model can be compared with the trained one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fti.stores.encoder import Encoder
from fti.stores.model_bundle import ModelBundle
from fti.stores.model_registry import ModelRegistry
from fti.stores.records import ModelInfo


@dataclass(frozen=True)
class RememberingRegistry(ModelRegistry):
    """The registry; `trained` holds the models in memory, by the run that logged them."""

    trained: dict[str, ModelBundle] = field(default_factory=dict)

    def log_model(self, run_id: str, *, network: Any, encoder: Encoder, info: ModelInfo) -> str:
        """Log the model and keep it."""
        self.trained[run_id] = ModelBundle(encoder, info, network)
        return super().log_model(run_id, network=network, encoder=encoder, info=info)
