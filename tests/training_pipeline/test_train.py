import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from fti.errors import DataError, NotReadyError
from fti.model.encoder import Encoder
from fti.project import Project
from fti.stores.datasets.store import DatasetStore
from fti.stores.registry.registry import ModelRegistry
from training_pipeline.fitting.datamodule import SliceLoader, TabularData
from training_pipeline.fitting.fit import fit
from training_pipeline.fitting.train import train
from training_pipeline.launching.job import TrainingJob, training_job
from training_pipeline.models.build import build_model
from training_pipeline.models.network import TabularNetwork

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def job(project: Project, saved: tuple[DatasetStore, str], registry: ModelRegistry) -> TrainingJob:
    return training_job(
        project,
        saved[0],
        registry,
        dataset_version=saved[1],
        params=project.model.params,
        tags={"dagster.run_id": "r"},
    )


def test_a_loader_gives_every_row_once_in_another_order_each_epoch() -> None:
    rows = torch.arange(64.0).reshape(64, 1)
    loader = SliceLoader(rows, rows[:, 0], batch_size=2, seed=1)
    epochs = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        epochs.append(torch.cat([batch for batch, _ in loader]).flatten().tolist())
    assert sorted(epochs[0]) == list(range(64))
    assert epochs[0] == epochs[2] != epochs[1]
    plain = SliceLoader(rows[:10], rows[:10, 0], batch_size=4)
    assert [len(labels) for _, labels in plain] == [4, 4, 2]


def test_an_epoch_of_a_small_table_passes_through_it_several_times() -> None:
    rows = torch.arange(10.0).reshape(10, 1)
    loader = SliceLoader(rows, rows[:, 0], batch_size=5, seed=1)
    seen = torch.cat([batch for batch, _ in loader]).flatten().long()
    assert len(loader) == 32
    assert torch.bincount(seen).tolist() == [16] * 10


def test_a_network_takes_missing_numbers_unseen_categories_and_constant_columns() -> None:
    encoder = Encoder(
        numeric=("never", "constant"),
        categorical={"carrier": ("UA",)},
        quantiles={"never": (0.0,) * 65, "constant": (5.0,) * 65},
        missing={"never": 1.0, "constant": 0.0},
    )
    model = TabularNetwork(encoder, {"hidden": 4}).eval()
    logits = model(torch.tensor([[float("nan"), 5.0, 0.0], [1e9, float("nan"), 1.0]]))
    assert torch.isfinite(logits).all()
    assert logits.shape == (2,)


def test_a_build_that_does_not_exist_is_named() -> None:
    with pytest.raises(NotReadyError, match="nowhere:Model"):
        build_model("nowhere:Model", Encoder((), {}, {}, {}), {})


def test_a_training_is_recorded_and_its_model_answers(job: TrainingJob) -> None:
    result = train(job, print)
    registry, run = job.registry, job.registry.client.get_run(result.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["fti.dataset_version"] == job.dataset_version
    assert run.data.tags["fti.feature_service"] == "parcels_v1"
    assert run.data.tags["dagster.run_id"] == "r"
    assert run.data.params["seed"] == str(job.seed)
    assert registry.challenger_run("parcels") == result.run_id
    curve = registry.client.get_metric_history(result.run_id, "validation_loss")
    assert len(curve) == result.epochs == job.max_epochs
    record = json.loads(Path(registry.client.download_artifacts(result.run_id, "record.json")).read_text())
    assert record["packages"]["torch"] == version("torch")
    test = job.datasets.load(job.dataset_version).splits["test"]
    probabilities = registry.run_bundle(result.run_id).predict(test)
    labels = test["late"].to_numpy()
    assert probabilities[labels == 1].mean() > probabilities[labels == 0].mean() + 0.1


def test_a_finished_training_is_not_done_again(job: TrainingJob) -> None:
    first = train(job, print)
    again = train(replace(job, tags={}), print)
    assert (again.run_id, again.reused, first.reused) == (first.run_id, True, False)
    job.registry.client.delete_run(first.run_id)
    assert train(job, print).run_id != first.run_id


def test_same_seed_same_model_other_seed_another(job: TrainingJob, tmp_path: Path) -> None:
    test = job.datasets.load(job.dataset_version).splits["test"]
    short = replace(job, max_epochs=2)
    first = train(short, print)
    again = replace(short, registry_root=str(tmp_path / "again"))  # no checkpoints, no result: trains anew
    other = replace(again, seed=job.seed + 1)
    answers = [
        trained.registry.run_bundle(train(trained, print).run_id).predict(test) for trained in (short, again, other)
    ]
    assert first.run_id != again.registry.challenger_run("parcels")
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[0] - answers[2]).max() > 1e-3


@pytest.mark.process
def test_killed_in_the_middle_it_resumes_in_the_same_run_with_the_same_result(job: TrainingJob, tmp_path: Path) -> None:
    job = replace(job, max_epochs=40, params={**job.params, "batch_size": 32, "learning_rate": 1e-3})
    file = tmp_path / "job.json"
    file.write_text(job.to_json())
    command = [sys.executable, "-m", "training_pipeline.fitting.train", "--job", str(file)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, start_new_session=True)
    _wait_for(lambda: len(list(job.folder.glob("*.ckpt"))) >= 2, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run_id = (job.folder / "run_id").read_text()
    checkpoints = len(list(job.folder.glob("*.ckpt")))
    assert not (job.folder / "result.json").exists()
    newest = max(job.folder.glob("*.ckpt"))
    newest.with_name("epoch=099.ckpt").write_bytes(newest.read_bytes()[:1000])  # cut short while written

    lines: list[str] = []
    resumed = train(job, lines.append)
    assert resumed.run_id == run_id
    assert lines[0].startswith(f"epoch {checkpoints + 1}/40 ")
    fresh = replace(job, registry_root=str(tmp_path / "fresh"))
    assert train(fresh, print).validation_loss == resumed.validation_loss


def test_a_fit_that_stopped_early_before_it_was_killed_is_not_trained_on(tmp_path: Path) -> None:
    rows = pl.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), schema=list("abcd"))
    rows = rows.with_columns(label=(pl.col("a") > 0).cast(pl.Int8).shuffle(seed=1))  # nothing to learn
    splits = {"train": rows[:200], "validation": rows[200:]}
    encoder = Encoder.fit(rows, numeric=list("abcd"), categorical=[])
    epochs, losses = [], []
    for _ in range(2):
        data = TabularData(splits, encoder, label="label", seed=1)
        torch.manual_seed(1)
        model = TabularNetwork(encoder, {"hidden": 16, "dropout": 0.0})
        epochs.append(fit(model, data, seed=1, max_epochs=30, folder=tmp_path).current_epoch)
        losses.append(model.layers[0].weight.sum().item())
    assert epochs[0] == epochs[1] < 30
    assert losses[0] == losses[1]


def _wait_for(condition, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_missing_dataset_stops_the_training_with_a_remedy(job: TrainingJob) -> None:
    with pytest.raises(NotReadyError, match="Materialize training_dataset first"):
        train(replace(job, dataset_version="0" * 32), print)


def test_a_dataset_without_a_feature_stops_the_training(
    job: TrainingJob, saved: tuple[DatasetStore, str], tmp_path: Path
) -> None:
    dataset = saved[0].load(saved[1])
    store = DatasetStore(str(tmp_path / "datasets"))
    cut = {name: rows.drop("load") for name, rows in dataset.splits.items()}
    version = store.save("parcels", cut, dataset.manifest)
    with pytest.raises(DataError, match="features are missing: load"):
        train(replace(job, dataset_root=store.root, dataset_version=version), print)
