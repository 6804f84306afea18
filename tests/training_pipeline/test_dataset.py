from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from fti.errors import DataError
from fti.project import Project
from fti.stores.datasets.store import DatasetStore
from fti.versions.fingerprint import unit_hashes
from tests.training_pipeline.conftest import START, UTC_TIME, VIEWS, parcels
from training_pipeline.dataset.asset import DatasetConfig, cut_of, manifest, metadata, split
from training_pipeline.dataset.labelled import entity_rows
from training_pipeline.dataset.split import drawn_by, require_two_classes
from training_pipeline.judging.card import drawn


def test_a_row_is_asked_a_horizon_before_its_time(project: Project) -> None:
    rows = entity_rows(project, {"parcels": parcels()}, START, START + timedelta(days=10))
    assert rows.columns == ["parcel", "carrier", "due", "late", "known_at", "event_timestamp"]
    assert (rows["due"] - rows["event_timestamp"]).unique().to_list() == [timedelta(hours=2)]
    assert rows["event_timestamp"].is_sorted()
    assert rows["event_timestamp"].min() >= START  # type: ignore[operator]


def test_rows_without_a_known_label_are_left_out(project: Project) -> None:
    until = START + timedelta(days=10)
    table = parcels()
    unknown = pl.col("parcel") % 5 == 0
    table = table.with_columns(
        late=pl.when(unknown).then(None).otherwise(pl.col("late")),
        known_at=pl.when(pl.col("parcel") % 5 == 1).then(pl.lit(until)).otherwise(pl.col("known_at")),
    )
    rows = entity_rows(project, {"parcels": table}, START, until)
    assert set((rows["parcel"] % 5).to_list()) == {2, 3, 4}
    assert rows["known_at"].max() < until  # type: ignore[operator]


def test_splits_follow_each_other_in_time_and_know_no_later_label(project: Project) -> None:
    splits = split(parcels(), project.dataset)
    assert list(splits) == ["train", "validation", "test"]
    validation, test = START + timedelta(days=75), START + timedelta(days=90)
    assert splits["train"]["known_at"].max() < validation <= splits["validation"]["event_timestamp"].min()
    assert splits["validation"]["known_at"].max() < test <= splits["test"]["event_timestamp"].min()


def test_an_empty_split_says_what_to_do(project: Project) -> None:
    early = parcels().filter(pl.col("due") < START + timedelta(days=80))
    with pytest.raises(DataError, match=r"no rows in the test split.*materialize the raw tables"):
        split(early, project.dataset)


def test_a_run_may_cut_differently(project: Project) -> None:
    cut = cut_of(project, DatasetConfig(until="2024-03-01", validation_days=3, test_days=5.5))
    assert cut.until == datetime(2024, 3, 1, tzinfo=UTC)
    assert (cut.validation, cut.test) == (timedelta(days=3), timedelta(days=5.5))
    assert cut_of(project, DatasetConfig()) == project.dataset
    ended = replace(project, partitions_end=START + timedelta(days=121))
    assert cut_of(ended, DatasetConfig(until="2026-01-01")).until == ended.partitions_end
    shares = replace(project, dataset=replace(project.dataset, shares=(0.5, 0.2, 0.3)))
    assert cut_of(shares, DatasetConfig(until="2024-03-01")).shares == (0.5, 0.2, 0.3)


def test_a_random_row_stays_in_its_split_when_rows_are_added(project: Project) -> None:
    cut = replace(project.dataset, shares=(0.5, 0.2, 0.3))
    rows = parcels()
    all_rows, some = (split(part, cut, key=project.label.key) for part in (rows, rows.sample(2000, seed=1)))
    for name, part in some.items():
        assert set(part["parcel"]) <= set(all_rows[name]["parcel"])
    assert [part.height / rows.height for part in all_rows.values()] == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


def test_rows_of_one_entity_are_drawn_together(project: Project) -> None:
    """Parcels that come back: 200 of them with 30 rows each."""
    label = replace(project.label, key=("parcel", "due"))
    again = replace(project, label=label, dataset=replace(project.dataset, shares=(0.6, 0.2, 0.2)))
    rows = parcels().with_columns(pl.col("parcel") % 200)
    drawn_as = drawn_by(again, rows)
    assert drawn_as == ("parcel",)
    splits = split(rows, again.dataset, key=drawn_as)
    owners = [set(part["parcel"]) for part in splits.values()]
    assert sum(map(len, owners)) == len(set.union(*owners)) == 200
    described = manifest(again, VIEWS, splits, again.dataset)
    assert "All rows of one `parcel` are in one split, in shares of 0.6, 0.2, 0.2" in drawn(described)


def test_rows_of_few_entities_and_of_entities_that_are_features_are_drawn_one_by_one(project: Project) -> None:
    label = replace(project.label, key=("carrier", "due"))
    few = replace(project, label=label, dataset=replace(project.dataset, shares=(0.6, 0.2, 0.2)))
    assert drawn_by(few, parcels()) == ("carrier", "due")
    known = replace(few, label=replace(label, key=("weekday", "due")))
    assert drawn_by(known, parcels().with_columns(weekday=pl.col("parcel"))) == ("weekday", "due")
    splits = split(parcels(), few.dataset, key=drawn_by(few, parcels()))
    assert "drawn by a hash of their key" in drawn(manifest(few, VIEWS, splits, few.dataset))


def test_a_key_has_the_same_hash_everywhere() -> None:
    keys = pl.DataFrame({"name": ["a", None, ""], "at": [START, START, None]}, schema_overrides={"at": UTC_TIME})
    assert unit_hashes(keys).tolist() == [0.928262957542039, 0.21539076356833486, 0.006905637394643509]


def test_one_label_in_training_is_nothing_to_learn() -> None:
    with pytest.raises(DataError, match="every row of the train split has the label 1: there is nothing to learn"):
        require_two_classes(pl.DataFrame({"late": [1, 1]}), "late", "binary")


def test_manifest_says_what_the_dataset_is(project: Project, saved: tuple[DatasetStore, str]) -> None:
    dataset = saved[0].load(saved[1])
    described = dataset.manifest
    assert (described.numeric, described.categorical) == (("load", "backlog"), ("weekday",))
    assert described.rows == {name: rows.height for name, rows in dataset.splits.items()}
    assert described.statistics[1]["missing"] == pytest.approx(1 / 7, abs=0.01)
    assert set(described.reference["features"]) == {"load", "backlog", "weekday"}
    assert metadata(saved[1], described)["num_features"] == 3


def test_equal_rows_are_an_equal_version(project: Project, saved: tuple[DatasetStore, str]) -> None:
    splits = split(parcels(), project.dataset)
    assert saved[0].save(project.name, splits, manifest(project, VIEWS, splits, project.dataset)) == saved[1]
