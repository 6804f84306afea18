"""What a training leaves in MLflow: its curves, written in few large batches, and the record of how it came about."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

import pytorch_lightning as L
import torch

from fti.versions.views import model_tags
from training_pipeline.launching.job import TrainingJob

if TYPE_CHECKING:
    from fti.model.records import Manifest
    from fti.stores.registry.registry import ModelRegistry

EVERY = 5
"""Steps between two points of the loss curve."""


class Recorder(L.Callback):
    """Keeps the curves in memory and writes them once per epoch: a write per step would double the training time."""

    def __init__(self, registry: ModelRegistry, run_id: str, report: Callable[[str], None]) -> None:
        self.registry, self.run_id, self.report = registry, run_id, report
        self.points: list[tuple[str, torch.Tensor | float, int]] = []
        self.seconds = 0.0
        """Spent recording."""
        self.began = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % EVERY == 0:
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            self.points.append(("train_loss", loss.detach(), trainer.global_step))

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        seconds = time.perf_counter() - self.began
        step, losses = trainer.global_step, [value for name, value, _ in self.points if name == "train_loss"]
        validation = float(trainer.callback_metrics["validation_loss"])
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.points += [
            ("validation_loss", validation, step),
            ("epoch_seconds", seconds, step),
            ("learning_rate", rate, step),
        ]
        self.flush()
        mean = float(torch.stack([torch.as_tensor(loss) for loss in losses]).mean()) if losses else float("nan")
        epochs = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.report(f"{epochs}  train loss {mean:.4f}  validation loss {validation:.4f}  {seconds:.1f} s")

    def flush(self) -> None:
        """Write what is kept."""
        from mlflow.entities import Metric

        began, now = time.perf_counter(), int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value, step in self.points]
        for first in range(0, len(metrics), 1000):
            self.registry.client.log_batch(self.run_id, metrics=metrics[first : first + 1000])
        self.points.clear()
        self.seconds += time.perf_counter() - began


def run_record(job: TrainingJob, manifest: Manifest) -> dict[str, Any]:
    """Everything needed to tell where a model came from and to train it again."""
    return {
        "job": asdict(job),
        "key": job.key,
        "feature_service": manifest.feature_service,
        "versions": manifest.versions,
        "ranges": manifest.ranges,
        "rows": manifest.rows,
        "git": git_state(),
        "python": platform.python_version(),
        "packages": dict(sorted((found.metadata["Name"], found.version) for found in distributions())),
        "hardware": hardware(),
        "command": sys.argv,
    }


def run_tags(record: dict[str, Any]) -> dict[str, str]:
    """The part of the record that MLflow shows and searches."""
    job, git = record["job"], record["git"]
    return {
        "mlflow.source.name": "training_pipeline.fitting.train",
        "mlflow.source.type": "JOB",
        "mlflow.source.git.commit": git["commit"],
        "fti.git_dirty": str(git["dirty"]).lower(),
        "fti.project": job["project"],
        "fti.job_key": record["key"],
        "fti.dataset_version": job["dataset_version"],
        **model_tags(record["feature_service"], record["versions"]),
        "fti.python": record["python"],
        "fti.torch": record["packages"]["torch"],
        "fti.hardware": record["hardware"]["summary"],
        **job["tags"],
    }


def run_params(record: dict[str, Any]) -> dict[str, str]:
    """Hyperparameters and seed."""
    job = record["job"]
    fixed = {name: job[name] for name in ("seed", "max_epochs", "build", "dataset_version")}
    return {name: str(value) for name, value in {**job["params"], **fixed}.items()}


def git_state() -> dict[str, Any]:
    """Commit of the checkout that FTI runs from; empty outside of one."""
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(commit and _git("status", "--porcelain"))}


def hardware() -> dict[str, Any]:
    """Processors, memory and accelerators."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    summary = f"{os.cpu_count()} CPUs, {memory:.0f} GiB, {', '.join(gpus) or 'no GPU'}"
    return {"summary": summary, "machine": platform.machine(), "system": platform.platform(), "gpus": gpus}


def _git(*arguments: str) -> str:
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
