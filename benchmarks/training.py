"""Training: batches sliced from tensors against a per-row DataLoader, and what recording costs.

python benchmarks/training.py [rows]
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytorch_lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

from fti.model.encoder import Encoder
from fti.stores.registry.registry import ModelRegistry
from training_pipeline.fitting.datamodule import Batch, SliceLoader, TabularData, tensors
from training_pipeline.fitting.fit import fit, quiet
from training_pipeline.fitting.recorder import Recorder
from training_pipeline.fitting.threads import num_threads
from training_pipeline.models.network import TabularNetwork

FEATURES, BATCH, EPOCHS = 90, 2048, 4


def frame(num_rows: int) -> pl.DataFrame:
    """Numbers, one category, a label that depends on two of the numbers."""
    random = np.random.default_rng(0)
    columns = {f"x{index}": random.normal(size=num_rows).astype(np.float32) for index in range(FEATURES)}
    late = random.random(num_rows) < 1 / (1 + np.exp(-columns["x0"] - columns["x1"]))
    return pl.DataFrame({**columns, "carrier": random.choice(["a", "b", "c"], num_rows), "late": late.astype(np.int8)})


def rows_batched(batches: Iterable[Batch], num_rows: int) -> float:
    """Rows that one epoch hands out in a second."""
    began = time.perf_counter()
    for _ in batches:
        pass
    return num_rows / (time.perf_counter() - began)


def rows_trained(batches: Iterable[Batch], encoder: Encoder, num_rows: int) -> float:
    """Rows that one epoch of Lightning learns from in a second."""
    quiet()
    trainer = L.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    began = time.perf_counter()
    trainer.fit(TabularNetwork(encoder, {}), batches)
    return num_rows / (time.perf_counter() - began)


def recording_share(data: TabularData, encoder: Encoder) -> tuple[float, float]:
    """Seconds of training, and the share of it that went into recording."""
    with tempfile.TemporaryDirectory() as root:
        registry = ModelRegistry(f"sqlite:///{root}/mlflow.db", root)
        run_id = registry.client.create_run(registry.experiment("benchmark")).info.run_id
        recorder = Recorder(registry, run_id, lambda text: None)
        began = time.perf_counter()
        model = TabularNetwork(encoder, {})
        fit(model, data, seed=1, max_epochs=EPOCHS, callbacks=[recorder], folder=Path(root) / "checkpoints")
        seconds = time.perf_counter() - began
    return seconds, recorder.seconds / seconds


def main(num_rows: int) -> None:
    """Print the figures."""
    torch.set_num_threads(num_threads())
    rows = frame(num_rows)
    encoder = Encoder.fit(rows, numeric=[f"x{index}" for index in range(FEATURES)], categorical=["carrier"])
    encoded = tensors(rows, encoder, "late")
    loaders = {
        "slices of tensors": SliceLoader(*encoded, batch_size=BATCH, seed=1),
        "per-row DataLoader": DataLoader(TensorDataset(*encoded), batch_size=BATCH, shuffle=True, drop_last=True),
    }
    figures: dict[str, Any] = {
        "batches_alone": compared({name: rows_batched(loader, num_rows) for name, loader in loaders.items()}),
        "with_the_network": compared(
            {name: rows_trained(loader, encoder, num_rows) for name, loader in loaders.items()}
        ),
    }
    splits = {"train": rows, "validation": rows[: num_rows // 10]}
    data = TabularData(splits, encoder, label="late", batch_size=BATCH, seed=1)
    seconds, share = recording_share(data, encoder)
    print(json.dumps(figures | {"training_seconds": round(seconds, 1), "recording_share": round(share, 4)}, indent=2))


def compared(rows_per_second: dict[str, float]) -> dict[str, float]:
    """Rows per second of both sides, and how many times faster slices are."""
    slices, loader = rows_per_second.values()
    return {"slices": round(slices), "data_loader": round(loader), "ratio": round(slices / loader, 1)}


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
