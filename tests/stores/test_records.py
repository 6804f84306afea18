"""What lies beside rows and models is read again as it was written, also what versions before have written."""

import json
from pathlib import Path

import pytest

from fti.errors import DataError
from fti.model.records import FORMAT, Evaluation, GateVerdict, Manifest, ModelInfo, Record

MANIFEST = Manifest(
    task="multiclass",
    label="kind",
    numeric=("size",),
    categorical=("color",),
    classes=("a", "b"),
    ranges={"train": ["2024-01-01", "2024-02-01"]},
    shares=(0.6, 0.2, 0.2),
    taken=0.5,
    statistics=({"feature": "size", "missing": 0.0, "mean": None},),
    created_from={"raw": {"kinds": {"2024-01": "abc"}}},
)
RECORDS = [
    MANIFEST,
    ModelInfo.of(MANIFEST, dataset_version="d", params={"trees": 3}, seed=0, run_id="r"),
    Evaluation(
        run_id="r",
        dataset_version="d",
        task="regression",
        metrics={"challenger": {"rmse": 1.0, "r2": None}},
        slices=({"column": "color", "value": "red", "rows": 3},),
        gates=(GateVerdict("rmse_no_worse_than_champion", False, "It is worse."),),
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_survives_json(record: Record) -> None:
    content = json.loads(json.dumps(record.to_json()))
    assert content["format"] == FORMAT
    assert type(record).from_json(content, "here") == record


def test_what_is_as_by_default_is_not_written() -> None:
    manifest = Manifest(task="binary", label="late", numeric=(), categorical=())
    assert manifest.to_json().keys() == {"format", "task", "label", "numeric", "categorical"}


def test_a_record_of_before_has_neither_format_nor_task() -> None:
    before = {"label": "late", "numeric": ["size"], "categorical": [], "rows": {"train": 3}, "gone": 1}
    manifest = Manifest(task="binary", label="late", numeric=("size",), categorical=(), rows={"train": 3})
    assert Manifest.from_json(before, "here") == manifest


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_that_is_too_new_is_refused(record: Record) -> None:
    newer = {**record.to_json(), "format": FORMAT + 1, "gates": [{"name": "unknown"}]}
    with pytest.raises(DataError, match=rf"info\.json has format {FORMAT + 1}.*update FTI"):
        type(record).from_json(newer, Path("info.json"))


def test_a_record_that_lacks_something_says_what() -> None:
    with pytest.raises(DataError, match=r"manifest\.json does not say numeric, categorical"):
        Manifest.from_json({"label": "late"}, "manifest.json")
