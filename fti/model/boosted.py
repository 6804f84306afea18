"""Boosted trees in a bundle: a LightGBM booster as text, and a program that takes its outputs beside the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fti.errors import DataError
from fti.model.program import read_bytes

if TYPE_CHECKING:
    import torch
    from lightgbm import Booster


@dataclass(frozen=True)
class Boosted:
    """A model of two parts: float32 [rows, columns] to outputs as in `Target`."""

    program: torch.nn.Module = field(repr=False)
    """Takes the rows and what the trees say of them."""
    booster: Booster = field(repr=False)

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.program(rows, tree_outputs(self.booster, rows))
        return outputs


def tree_outputs(booster: Booster, rows: torch.Tensor) -> torch.Tensor:
    """The outputs of the trees alone, float32, by as many threads as torch takes."""
    import torch

    outputs = booster.predict(rows.numpy(), raw_score=True, num_threads=torch.get_num_threads())
    num_outputs = booster.num_model_per_iteration()
    shape = (len(rows), num_outputs) if num_outputs > 1 else (len(rows),)
    return torch.as_tensor(outputs, dtype=torch.float32).reshape(shape)


def load_booster(path: Path) -> Booster:
    """The booster of a text file."""
    from lightgbm import Booster
    from lightgbm.basic import LightGBMError

    try:
        return Booster(model_str=read_bytes(path).decode())
    except (LightGBMError, UnicodeDecodeError) as error:
        raise DataError(f"{path} holds no boosted trees ({error}). Train the model again.") from error
