"""Checks of the model: it is built, it learns, it repeats, and what is saved is what was trained."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import polars as pl

from fti.errors import FtiError
from fti.model.prediction import Outcome
from fti.project import Project
from fti.testing.rehearsal import Rehearsal
from fti.testing.result import Broken, NotApplicable
from fti.times import TIME

BATCH = 64
REPEATS = 64
EPOCHS = 12
LEFT = 0.5
"""Share of the prior's loss that may be left after learning a batch by heart."""
TRIAL_ROWS = 1_000
PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def trials_train(rehearsal: Rehearsal) -> None:
    """A study on few rows: the defaults, then random draws of the search space."""
    from training_pipeline.fitting.tune import TuneConfig, finished_trials, run_study

    project, registry = rehearsal.project, rehearsal.registry
    wanted = rehearsal.size.trials
    config = TuneConfig(num_trials=wanted, epochs=1, train_rows=TRIAL_ROWS)
    dataset = rehearsal.dataset
    try:
        study = run_study(project, dataset, registry, config, report=lambda line: None)
    except FtiError as error:
        raise Broken(f"{error}") from error
    bad = [trial for trial in finished_trials(study) if trial.value is None or not np.isfinite(trial.value)]
    if bad or len(finished_trials(study)) < wanted:
        params = bad[0].params if bad else {}
        raise Broken(f"a trial ends without a finite validation loss, with {params}: narrow the search space.")


def learns_a_batch(rehearsal: Rehearsal) -> None:
    """Trained on one small batch again and again, the model knows its labels."""
    project, rows = rehearsal.project, _batch(rehearsal)
    repeated = pl.concat([rows] * REPEATS)
    version = rehearsal.save_dataset({"train": repeated, "validation": rows, "test": rows})
    bundle = rehearsal.registry.run_bundle(rehearsal.train(version, EPOCHS))
    loss, prior = losses(project, bundle.predict(rows), rows[project.label.name], bundle.info)
    if loss > LEFT * prior:
        raise Broken(
            f"after {EPOCHS} epochs on {rows.height} rows again and again the loss is {loss:.3f}, guessing has "
            f"{prior:.3f}: the model does not learn. Look at its learning rate and regularization "
            "(Model.params), and at what `training_step` does with the labels."
        )


def seeds_repeat(rehearsal: Rehearsal) -> None:
    """Two trainings with one seed give the same predictions to the last bit."""
    first, rows = rehearsal.bundle, rehearsal.dataset.splits["test"]
    again = rehearsal.registry.run_bundle(rehearsal.train(rehearsal.dataset.version, rehearsal.size.epochs))
    one, two = first.predict(rows), again.predict(rows)
    if not np.array_equal(one, two):
        raise Broken(
            f"two trainings with the same seed differ by up to {float(np.abs(one - two).max()):.2g}: draw every random "
            "number from torch's or numpy's generator, which training seeds, and give estimators a random_state."
        )


def saved_answers_equally(rehearsal: Rehearsal) -> None:
    """The model that is read from its files predicts what the trained one did; none of the files is a pickle."""
    registry, rows = rehearsal.registry, rehearsal.dataset.splits["test"]
    loaded, trained = rehearsal.bundle.predict(rows), registry.trained[rehearsal.run_id].predict(rows)
    if not np.isfinite(loaded).all():
        raise Broken(
            "the model predicts NaN or infinite values: look at features with infinite values, and at its loss."
        )
    if not np.allclose(loaded, trained, rtol=1e-5, atol=1e-7):
        most = float(np.abs(loaded - trained).max())
        raise Broken(
            f"read from its files, the model differs from the trained one by up to {most:.2g}: "
            "keep every state in parameters and buffers, and draw nothing at random in `forward`."
        )
    folder = Path(registry.root) / "models" / registry.model_id(rehearsal.run_id)
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        if found := pickled(path):
            raise Broken(
                f"{path.name} holds a pickled object ({found}): keep only tensors and plain values in the model."
            )


def pickled(path: Path) -> str:
    """The first member of a file that is a pickle; empty when there is none."""
    if not zipfile.is_zipfile(path):
        return path.name if path.read_bytes()[:2] in PICKLE else ""
    with zipfile.ZipFile(path) as archive:
        members = (record.filename for record in archive.infolist() if archive.open(record).read(2) in PICKLE)
        return next(members, "")


def losses(project: Project, predicted: np.ndarray, labels: pl.Series, outcome: Outcome) -> tuple[float, float]:
    """Loss of predictions and of guessing: log loss, or squared error."""
    if project.model.task == "regression":
        actual = labels.to_numpy().astype(np.float64)
        return float(np.mean((predicted - actual) ** 2)), float(np.var(actual))
    classes = list(outcome.classes) if project.model.task == "multiclass" else [0, 1]
    index = np.array([classes.index(value) for value in labels])
    table = predicted if predicted.ndim == 2 else np.column_stack([1 - predicted, predicted])
    share = np.bincount(index, minlength=len(classes)) / len(index)
    likely = np.clip(table[np.arange(len(index)), index], 1e-9, 1)
    return float(-np.log(likely).mean()), float(-np.log(share[index]).mean())


def _batch(rehearsal: Rehearsal) -> pl.DataFrame:
    """A few rows that differ in their features, classes as even as they can be, oldest first."""
    project, manifest = rehearsal.project, rehearsal.dataset.manifest
    features, label = [*manifest.numeric, *manifest.categorical], project.label.name
    rows = rehearsal.dataset.splits["train"].unique(features, keep="first", maintain_order=True)
    rows = rows.sample(fraction=1, shuffle=True, seed=project.model.seed)
    if project.model.task != "regression":
        rows = (
            rows.with_columns(__turn=pl.int_range(pl.len()).over(label))
            .sort("__turn", maintain_order=True)
            .drop("__turn")
        )
    rows = rows.head(BATCH).sort(TIME, maintain_order=True)
    if rows.height < 8 or rows[label].n_unique() < 2:
        raise NotApplicable(f"only {rows.height} rows differ in their features, with {rows[label].n_unique()} labels")
    return rows
