"""`from fti import ...`: each stage as a function."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import fti
from fti import evaluate, load_project, make_dataset, make_features, predict, read_raw, train
from fti.errors import NotReadyError

HEAVY = {"dagster", "feast", "mlflow", "torch", "polars", "pandas"}


def test_importing_fti_imports_nothing_heavy() -> None:
    code = "import sys, fti; from fti import Project, expect, Floor; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_every_name_is_there() -> None:
    assert all(getattr(fti, name) is not None for name in fti.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        fti.trian  # noqa: B018


def test_from_raw_rows_to_predictions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FTI_PROJECTS", "tests.small")
    monkeypatch.setenv("FTI_HOME", str(tmp_path / "untouched"))
    project = load_project("flights")
    tables = read_raw(project)
    views = make_features(project, tables)
    splits = make_dataset(project, tables, views)
    assert [splits[name].height > 1000 for name in ("train", "validation", "test")] == [True] * 3
    splits["train"] = splits["train"].tail(4000)
    model = train(project, splits, max_epochs=1)
    metrics = evaluate(model, splits)
    assert metrics.keys() == {"model", "gradient_boosting", "prior"}
    assert metrics["model"]["roc_auc"] > 0.6 > metrics["prior"]["roc_auc"]  # type: ignore[operator]
    answers = predict(model, splits["test"].head(5))
    assert answers["probability"].is_between(0, 1).all()
    assert answers["label"].dtype == pl.Int8
    assert not (tmp_path / "untouched").exists()
    with pytest.raises(NotReadyError, match="no project 'flight'"):
        load_project("flight")
