"""Models that break the contract."""

import os

import torch

from training_pipeline.models.network import TabularNetwork


class Unseeded(TabularNetwork):
    """Starts from weights that no seed decides."""

    def __init__(self, encoder, params):
        super().__init__(encoder, params)
        noise = torch.Generator().manual_seed(int.from_bytes(os.urandom(6), "big"))
        with torch.no_grad():
            self.head.weight += torch.randn(self.head.weight.shape, generator=noise)


class Restless(TabularNetwork):
    """Its dropout never ends."""

    def forward(self, rows):
        return super().forward(rows) + torch.rand(rows.shape[0])
