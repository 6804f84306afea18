"""Train one job: `python -m training_pipeline.fitting.train --job FILE.json`, under Dagster Pipes or by hand.

Killed in the middle, it goes on from its last checkpoint in the same MLflow run; finished before, it answers at once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fti.errors import FtiError
from fti.files import file_lock, replace_file
from fti.model.records import Manifest, ModelInfo
from fti.storage.checksums import sealed, unsealed
from training_pipeline.launching.job import TrainingJob

if TYPE_CHECKING:
    from fti.stores.datasets.store import TrainingDataset

RUN_FILE, RESULT_FILE = "run_id", "result.json"
Report = Callable[[str], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    run_id: str
    model_id: str
    validation_loss: float
    epochs: int
    seconds: float
    recording_seconds: float
    reused: bool = False
    """Whether an earlier process had finished the same job."""


def train(job: TrainingJob, report: Report = print) -> TrainingResult:
    """Train, or resume, or find finished; the run becomes its project's challenger."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with file_lock(job.folder.with_suffix(".lock")):
        run_id = _open_run(job)
        finished = job.folder / RESULT_FILE
        if finished.exists():
            report(f"run {run_id} has trained this job already: dataset, parameters, seed and code are the same")
            known = unsealed(finished.read_bytes(), finished, "Delete it to train again.")
            result = TrainingResult(**{**known, "reused": True})
        else:
            result = _train(job, run_id, report)
            replace_file(finished, json.dumps(sealed(result.__dict__)))
            for checkpoint in job.folder.glob("*.ckpt"):
                checkpoint.unlink()
    job.registry.set_challenger(job.project, result.run_id)
    return result


def _train(job: TrainingJob, run_id: str, report: Report) -> TrainingResult:
    import time

    from fti.model.encoder import Encoder
    from training_pipeline.fitting.datamodule import TabularData
    from training_pipeline.fitting.learn import learn
    from training_pipeline.fitting.recorder import Recorder

    dataset = job.datasets.load(job.dataset_version)
    encoder = Encoder.of(dataset.manifest, dataset.splits["train"])
    batch_size = int(job.params.get("batch_size", 0))
    label = dataset.manifest.label
    data = TabularData(dataset.splits, encoder, label=label, batch_size=batch_size, seed=job.seed)
    _record(job, run_id, dataset)
    recorder = Recorder(job.registry, run_id, report)
    began = time.perf_counter()
    learned = learn(
        encoder,
        data,
        build=job.build,
        params=job.params,
        seed=job.seed,
        max_epochs=job.max_epochs,
        callbacks=[recorder],
        folder=job.folder,
    )
    seconds, best = time.perf_counter() - began, learned.validation_loss
    report(
        "  ".join([f"validation loss {best:.4f}", *(f"{name} {value:.4g}" for name, value in learned.metrics.items())])
    )
    info = _info(job, run_id, dataset.manifest)
    model_id = job.registry.log_model(run_id, network=learned.model, encoder=encoder, info=info)
    _close(job, run_id, {"best_validation_loss": best, **learned.metrics})
    return TrainingResult(run_id, model_id, best, learned.epochs, seconds, recorder.seconds)


def _info(job: TrainingJob, run_id: str, manifest: Manifest) -> ModelInfo:
    """The bundle's `info`."""
    return ModelInfo.of(
        manifest,
        project=job.project,
        dataset_version=job.dataset_version,
        params=dict(job.params),
        seed=job.seed,
        run_id=run_id,
        job_key=job.key,
    )


def _open_run(job: TrainingJob) -> str:
    """The MLflow run of this job: the one that an earlier process began, unless somebody deleted it, or a new one."""
    path = job.folder / RUN_FILE
    if path.exists():
        run_id = path.read_text().strip()
        if job.registry.run_exists(run_id):
            return run_id
        shutil.rmtree(job.folder)
        job.folder.mkdir()
    client = job.registry.client
    run = client.create_run(job.registry.experiment(job.project), run_name=f"train-{job.key[:8]}")
    replace_file(path, str(run.info.run_id))
    return str(run.info.run_id)


def _record(job: TrainingJob, run_id: str, dataset: TrainingDataset) -> None:
    """Parameters, tags, dataset and the whole record as an artifact."""
    from mlflow.entities import Dataset, DatasetInput, Param, RunTag

    from training_pipeline.fitting.recorder import run_params, run_record, run_tags

    manifest = dataset.manifest
    record = run_record(job, manifest)
    client = job.registry.client
    client.update_run(run_id, status="RUNNING")
    params = [Param(name, value) for name, value in run_params(record).items()]
    client.log_batch(run_id, params=params, tags=[RunTag(name, value) for name, value in run_tags(record).items()])
    source = json.dumps({"root": job.dataset_root, "version": job.dataset_version})
    profile = json.dumps({"rows": manifest.rows, "ranges": manifest.ranges})
    used = Dataset(job.project, job.dataset_version, source_type="dvc", source=source, profile=profile)
    client.log_inputs(run_id, [DatasetInput(used)])
    client.log_dict(run_id, record, "record.json")


def _close(job: TrainingJob, run_id: str, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        job.registry.client.log_metric(run_id, name, value)
    job.registry.client.set_terminated(run_id)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; under Pipes the result goes to Dagster as the asset's materialization."""
    from dagster_pipes import PipesEnvVarParamsLoader, open_dagster_pipes

    parser = argparse.ArgumentParser(prog="python -m training_pipeline.fitting.train", description=train.__doc__)
    parser.add_argument("--job", type=Path, required=True, help="JSON file of a TrainingJob")
    job = TrainingJob.from_json(parser.parse_args(argv).job.read_text())
    by_dagster = PipesEnvVarParamsLoader().is_dagster_pipes_process()
    with open_dagster_pipes() if by_dagster else nullcontext() as pipes:
        try:
            result = train(job, pipes.log.info if pipes else _say)
        except FtiError as error:
            print(f"training failed: {error}", file=sys.stderr, flush=True)
            return 1
        except KeyboardInterrupt:
            return 130  # who pressed Ctrl-C needs no traceback; the next training goes on from the last checkpoint
        if pipes:
            pipes.report_asset_materialization(metadata=dict(result.__dict__), data_version=job.key)
        else:
            _say(json.dumps(result.__dict__))
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
