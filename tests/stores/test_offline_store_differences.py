"""Feast's own `file` store beside ours: the same answers on data without corners, and each listed difference seen.

docs/offline-store.md lists the differences with their reasons. When a test fails after an upgrade of Feast, its file
store has changed: correct the table.
"""

from datetime import UTC, datetime, timedelta

import feast
import numpy as np
import pandas as pd
import polars as pl
import pytest
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Float64, Int64

from fti.errors import DataError

T0 = datetime(2013, 1, 1, tzinfo=UTC)
TYPES = {"theirs": "file", "ours": "fti.stores.features.offline.store.PolarsOfflineStore"}
SENSOR = feast.Entity(name="sensor", join_keys=["sensor"], value_type=feast.ValueType.INT64)
BASE = {"sensor": [1, 1, 2], "value": [1.0, 2.0, 3.0], "at": [0, 2, 0]}


def at(hours):
    return T0 + timedelta(hours=hours)


@pytest.fixture
def stores(tmp_path):
    """Feast's file store and ours, each with its own repository."""
    found = {}
    for name, kind in TYPES.items():
        folder = tmp_path / name
        folder.mkdir()
        found[name] = feast.FeatureStore(
            config=feast.RepoConfig(
                project="test",
                provider="local",
                registry=str(folder / "registry.db"),
                offline_store={"type": kind},
                online_store={"type": "sqlite", "path": str(folder / "online.db")},
                entity_key_serialization_version=3,
                repo_path=folder,
            )
        )
    return found


def declared(store, path="rows.parquet", keys=("sensor",), ttl=None, **options):
    data = feast.FileSource(path=str(store.config.repo_path / path), timestamp_field="at", **options)
    schema = [feast.Field(name="value", dtype=Float64), *(feast.Field(name=key, dtype=Int64) for key in keys)]
    entities = [SENSOR] if keys else []
    store.apply([SENSOR, feast.FeatureView(name="view", entities=entities, schema=schema, source=data, ttl=ttl)])
    return data


def both(stores, rows, asked, options=None, **view):
    """The rows that each store answers, as dicts without the event timestamp."""
    frame = pl.DataFrame({**rows, "at": [at(hour) for hour in rows["at"]]})
    questions = pd.DataFrame({**asked, "event_timestamp": [at(hour) for hour in asked["at"]]}).drop(columns="at")
    answers = {}
    for name, store in stores.items():
        frame.write_parquet(store.config.repo_path / "rows.parquet")
        declared(store, **view)
        found = store.get_historical_features(questions, ["view:value"], **(options or {})).to_df()
        found = found.astype(object).where(found.notna(), None)
        answers[name] = found.drop(columns="event_timestamp").to_dict("records")
    return answers["theirs"], answers["ours"]


def test_both_agree_where_feasts_store_is_right(stores):
    """Distinct questions, each about an entity that has a row in force."""
    random = np.random.default_rng(7)
    hours = random.permutation(400)[:300]
    sensors = random.integers(0, 20, 300)
    rows = {"sensor": sensors, "value": random.normal(size=300), "at": hours.tolist()}
    rows["made"] = [at(int(hour) + 1) for hour in hours]
    asked = {"sensor": list(range(20)) * 3, "at": [401] * 20 + [500] * 20 + [600] * 20, "row": list(range(60))}
    for options in ({}, {"ttl": timedelta(hours=600)}):
        theirs, ours = both(stores, rows, asked, created_timestamp_column="made", **options)
        assert [found["row"] for found in ours] == list(range(60))
        assert sorted(theirs, key=lambda found: found["row"]) == ours


def test_equal_questions_are_all_answered(stores):
    theirs, ours = both(stores, BASE, {"sensor": [1, 1], "label": [0, 1], "at": [1, 1]})
    assert [found["label"] for found in theirs] == [1]
    assert [found["label"] for found in ours] == [0, 1]


def test_a_question_without_an_answer_keeps_its_row(stores):
    asked = {"sensor": [2, 1], "row": [0, 1], "at": [9, -1]}
    theirs, ours = both(stores, BASE, asked)
    assert [found["row"] for found in theirs] == [0]
    assert [(found["row"], found["value"]) for found in ours] == [(0, 3.0), (1, None)]
    theirs, ours = both(stores, BASE, {"sensor": [2, 1], "row": [0, 1], "at": [9, 2]}, ttl=timedelta(hours=1))
    assert [found["row"] for found in theirs] == [1]
    assert [(found["row"], found["value"]) for found in ours] == [(0, None), (1, 2.0)]


def test_the_rows_come_back_in_their_order(stores):
    theirs, ours = both(stores, BASE, {"sensor": [2, 1, 2], "row": [0, 1, 2], "at": [5, 3, 1]})
    assert sorted(found["row"] for found in theirs) == [0, 1, 2]
    assert [found["row"] for found in theirs] != [0, 1, 2]
    assert [found["row"] for found in ours] == [0, 1, 2]


def test_a_null_key_is_nobody(stores):
    rows = {"sensor": [None, 1], "value": [9.0, 1.0], "at": [0, 0]}
    theirs, ours = both(stores, rows, {"sensor": pd.array([None, 1], dtype="Int64"), "at": [1, 1]})
    assert sorted(found["value"] for found in theirs) == [1.0, 9.0]
    assert [found["value"] for found in ours] == [None, 1.0]


def test_a_row_counts_once_it_was_known(stores):
    rows = {"sensor": [1, 1], "value": [1.0, 2.0], "made": [at(0), at(9)], "at": [0, 1]}
    view = {"created_timestamp_column": "made"}
    theirs, ours = both(stores, rows, {"sensor": [1], "at": [5]}, **view)
    assert (theirs[0]["value"], ours[0]["value"]) == (2.0, 1.0)
    theirs, ours = both(stores, rows, {"sensor": [1], "at": [5]}, {"filter_by_created_timestamp": True}, **view)
    assert (theirs[0]["value"], ours[0]["value"]) == (1.0, 1.0)
    rows["made"] = [at(0), None]
    theirs, ours = both(stores, rows, {"sensor": [1], "at": [5]}, {"filter_by_created_timestamp": True}, **view)
    assert (theirs[0]["value"], ours[0]["value"]) == (1.0, 1.0)


def test_a_moment_is_a_microsecond(stores):
    nanoseconds = 1_357_000_000_000_000_000
    seen = {}
    for name, store in stores.items():
        time = pl.Series([nanoseconds + 900]).cast(pl.Datetime("ns", "UTC"))
        pl.DataFrame({"sensor": [1], "value": [1.0], "at": time}).write_parquet(store.config.repo_path / "rows.parquet")
        declared(store)
        asked = pd.DataFrame({"sensor": [1, 1], "event_timestamp": pd.to_datetime([nanoseconds, nanoseconds + 1000])})
        found = store.get_historical_features(asked, ["view:value"]).to_df()
        seen[name] = found["value"].tolist()
    assert seen == {"theirs": [1.0], "ours": [1.0, 1.0]}


def test_a_feature_named_like_a_column_of_the_question_is_refused(stores):
    asked = pd.DataFrame({"sensor": [1], "value": [7.0], "event_timestamp": [at(1)]})
    for store in stores.values():
        pl.DataFrame({**BASE, "at": [at(hour) for hour in BASE["at"]]}).write_parquet(
            store.config.repo_path / "rows.parquet"
        )
        declared(store)
    assert "value__" in stores["theirs"].get_historical_features(asked, ["view:value"]).to_df()
    with pytest.raises(DataError, match="two columns 'value'"):
        stores["ours"].get_historical_features(asked, ["view:value"])


def test_without_entity_rows_the_moments_are_the_rows_own(stores):
    found = {}
    for name, store in stores.items():
        pl.DataFrame({**BASE, "at": [at(hour) for hour in BASE["at"]]}).write_parquet(
            store.config.repo_path / "rows.parquet"
        )
        declared(store)
        job = store.get_historical_features(None, ["view:value"], start_date=at(0), end_date=at(3))
        frame = job.to_df()
        found[name] = sorted(zip(frame["sensor"], frame["event_timestamp"], frame["value"], strict=True))
    assert found["theirs"] == [(1, at(3), 2.0), (2, at(3), 3.0)]
    assert found["ours"] == [(1, at(0), 1.0), (1, at(2), 2.0), (2, at(0), 3.0)]


def test_a_view_without_entities_has_one_newest_row(stores):
    pulled = {}
    for name, store in stores.items():
        frame = pl.DataFrame({"value": [1.0, 2.0], "at": [at(0), at(2)]})
        frame.write_parquet(store.config.repo_path / "rows.parquet")
        data = declared(store, keys=())
        pull = store._get_provider().offline_store.pull_latest_from_table_or_query
        pulled[name] = pull(store.config, data, [], ["value"], "at", None, at(0), at(9)).to_df()["value"].tolist()
    assert pulled == {"theirs": [1.0, 2.0], "ours": [2.0]}


def test_rows_are_appended_to_folders_and_under_mapped_names(stores):
    late = pd.DataFrame({"sensor": [1], "raw": [5.0], "at": [at(5)]})
    errors = {"theirs": [(IsADirectoryError, "folder"), (ValueError, "rows.parquet")], "ours": []}
    for name, store in stores.items():
        frame = pl.DataFrame({"sensor": [1], "raw": [1.0], "at": [at(0)]})
        (store.config.repo_path / "folder").mkdir()
        for path in ("folder/a.parquet", "rows.parquet"):
            frame.write_parquet(store.config.repo_path / path)
        seen = []
        for path, mapping in (("folder", None), ("rows.parquet", {"raw": "value"})):
            declared(store, path, field_mapping=mapping)
            try:
                store.write_to_offline_store("view", late)
            except (IsADirectoryError, ValueError) as error:
                seen.append((type(error), path))
        assert seen == errors[name]


def test_a_saved_dataset_is_replaced_not_added_to(stores):
    heights = {}
    for name, store in stores.items():
        pl.DataFrame({**BASE, "at": [at(hour) for hour in BASE["at"]]}).write_parquet(
            store.config.repo_path / "rows.parquet"
        )
        declared(store)
        asked = pd.DataFrame({"sensor": [1, 2], "event_timestamp": [at(3)] * 2})
        job = store.get_historical_features(asked, ["view:value"])
        for _ in range(2):
            storage = SavedDatasetFileStorage(str(store.config.repo_path / "set"))
            store.create_saved_dataset(job, "set", storage, allow_overwrite=True)
        heights[name] = len(store.get_saved_dataset("set").to_df())
    assert heights == {"theirs": 4, "ours": 2}
