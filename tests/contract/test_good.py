"""Projects that keep the contract: the other two tasks, an estimator of scikit-learn's, and what `fti new` writes."""

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from sklearn.datasets import load_iris

from fti.cli import main
from fti.project import Project
from fti.project.loading import find_project
from fti.testing.rehearsal import Size
from fti.testing.result import Result
from fti.testing.run import run
from tests.contract.machines import project_of
from tests.registries import empty_registry

SMALL = Size(rows=1_000, training_rows=600, max_raw_rows=10_000, cuts=2, trials=2, epochs=1)


def answers(project: Project, home: Path) -> dict[str, Result]:
    empty_registry(home / "mlflow")
    return {result.name: result for result in run(project, home, size=SMALL)}


def broken(found: dict[str, Result]) -> dict[str, str]:
    return {name: result.message for name, result in found.items() if result.status == "failed"}


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_the_other_tasks_keep_it(task: str, tmp_path: Path) -> None:
    found = answers(project_of(task), tmp_path)  # type: ignore[arg-type]
    assert not broken(found)
    assert all(result.passed for result in found.values())


def test_an_estimator_keeps_it(tmp_path: Path) -> None:
    project = project_of("binary")
    forest = {"n_estimators": 30, "random_state": 1}
    model = replace(
        project.model,
        build="sklearn.ensemble:RandomForestClassifier",
        params=forest,
        search_space=lambda trial: {"max_depth": trial.suggest_int("max_depth", 3, 9)},
    )
    assert not broken(answers(replace(project, model=model), tmp_path))


def test_a_generated_project_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flowers = load_iris(as_frame=True).frame
    pl.from_pandas(flowers).write_csv(tmp_path / "flowers.csv")
    table = ["--data", str(tmp_path / "flowers.csv"), "--label", "target", "--task", "multiclass"]
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    assert main(["new", "flowers_150", *table, "--into", str(tmp_path / "projects")]) == 0
    found = answers(find_project([str(tmp_path / "projects")], "flowers_150"), tmp_path / "home")
    assert not broken(found)
    skipped = [name for name, result in found.items() if result.status == "skipped"]
    assert "later rows change no earlier feature" in skipped, "every row has the same time"
