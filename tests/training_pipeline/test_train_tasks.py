"""A training of every task, from a dataset to the predictions of its bundle."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from fti.project import Project
from fti.stores.registry.registry import ModelRegistry
from tests.training_pipeline.tables import job_on
from training_pipeline.fitting.train import train
from training_pipeline.models import baseline


def gain(task: str, labels: np.ndarray, predicted: np.ndarray, classes: list[str]) -> float:
    """How much better than guessing: 0 is no better, 1 is perfect."""
    if task == "regression":
        return float(metrics.r2_score(labels, predicted))
    if task == "binary":
        return 2 * float(metrics.roc_auc_score(labels, predicted)) - 1
    right = np.asarray(classes)[predicted.argmax(1)] == labels
    return float((right.mean() - 1 / len(classes)) / (1 - 1 / len(classes)))


@pytest.mark.parametrize(("task", "enough"), [("binary", 0.9), ("multiclass", 0.8), ("regression", 0.3)])
def test_every_task_learns_and_its_bundle_answers(
    task: str, enough: float, project: Project, registry: ModelRegistry, tmp_path: Path
) -> None:
    job = job_on(project, registry, tmp_path / "datasets", task)
    bundle = registry.run_bundle(train(job, print).run_id)
    dataset = job.datasets.load(job.dataset_version)
    test = dataset.splits["test"]
    classes = list(dataset.manifest.classes)
    assert (bundle.info.task, list(bundle.info.classes)) == (task, classes)

    predicted = bundle.predict(test)
    assert predicted.dtype == np.float64
    assert predicted.shape == ((test.height, len(classes)) if classes else (test.height,))
    if classes:
        np.testing.assert_allclose(predicted.sum(1), 1)
    np.testing.assert_allclose(bundle.predict(test[:1]), predicted[:1], rtol=1e-4, atol=1e-5)
    assert gain(task, test["label"].to_numpy(), predicted, classes) > enough

    beside = baseline.probabilities(dataset, tmp_path, seed=7)
    assert beside.shape == predicted.shape
    assert gain(task, test["label"].to_numpy(), beside, classes) > enough / 2
