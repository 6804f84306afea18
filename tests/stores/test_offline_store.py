"""Point-in-time joins: every row, in order, with what was known at its moment."""

from datetime import UTC, datetime, timedelta

import feast
import polars as pl
import pytest
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Float32, Int64, String
from hypothesis import given, settings
from hypothesis import strategies as st

from fti.errors import DataError, NotReadyError
from fti.stores.features.offline.point_in_time import History, latest, point_in_time_join
from fti.stores.lake.store import Lake

T0 = datetime(2013, 1, 1, tzinfo=UTC)


def at(minutes):
    return None if minutes is None else T0 + timedelta(minutes=minutes)


def history_frame(rows):
    """`rows`: (entity, minute it happened, minute it was written down, value)."""
    schema = {
        "entity": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "made": pl.Datetime("us", "UTC"),
        "value": pl.Int64,
    }
    return pl.DataFrame([(e, at(t), at(c), v) for e, t, c, v in rows], schema=schema, orient="row")


def asked_frame(rows):
    schema = {"entity": pl.String, "event_timestamp": pl.Datetime("us", "UTC")}
    return pl.DataFrame([(e, at(t)) for e, t in rows], schema=schema, orient="row")


def history(rows, **options):
    options = {"keys": {"entity": "entity"}, "features": {"value": "value"}, "time": "time"} | options
    return History(name="view", rows=history_frame(rows).lazy(), **options)


def values(asked, *histories):
    return point_in_time_join(asked_frame(asked), histories)["value"].to_list()


def test_every_row_is_answered_in_order_duplicates_and_unknown_entities_too():
    asked = [("b", 9), ("a", 5), ("a", 5), ("nobody", 5), (None, 5), ("a", 0)]
    rows = point_in_time_join(asked_frame(asked), [history([("a", 1, 1, 10), ("b", 2, 2, 20), (None, 0, 0, 99)])])
    assert rows["value"].to_list() == [20, 10, 10, None, None, None]
    assert rows.drop("value").equals(asked_frame(asked))


def test_a_value_counts_at_its_own_moment_and_until_its_ttl_inclusive():
    rows = [("a", 10, 10, 1)]
    asked = [("a", 9), ("a", 10), ("a", 15), ("a", 16)]
    assert values(asked, history(rows, ttl=timedelta(minutes=5))) == [None, 1, 1, None]
    assert values(asked, history(rows)) == [None, 1, 1, 1]


def test_the_later_written_of_two_rows_of_one_time_wins_once_it_was_known():
    rows = [("a", 10, 30, 2), ("a", 10, 10, 1), ("a", 12, 60, 3)]
    assert values([("a", 11), ("a", 29), ("a", 30), ("a", 60)], history(rows, created="made")) == [1, 1, 2, 3]


def test_a_late_record_of_the_past_does_not_hide_newer_knowledge():
    rows = [("a", 20, 20, 2), ("a", 10, 40, 1)]
    assert values([("a", 50)], history(rows, created="made")) == [2]


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="feature view view: its source has no column 'speed'"):
        values([("a", 1)], history([("a", 1, 1, 1)], features={"speed": "speed"}))


events = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 12), st.integers(0, 99)), max_size=12
)


@settings(max_examples=150, deadline=None)
@given(
    rows=events,
    asked=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 14)), max_size=8),
    ttl=st.integers(0, 5),
)
def test_the_join_is_what_a_loop_over_all_rows_finds(rows, asked, ttl):
    def oracle(entity, now):
        known = [(t, c, place, v) for place, (e, t, c, v) in enumerate(rows) if e == entity and max(t, c) <= now]
        best = max(known, default=None)
        return best[3] if best and (ttl == 0 or now - best[0] <= ttl) else None

    found = values(asked, history(rows, created="made", ttl=timedelta(minutes=ttl)))
    assert found == [oracle(*row) for row in asked]


def test_latest_is_the_newest_row_of_each_entity():
    rows = [("a", 1, 1, 1), ("a", 5, 5, 2), ("b", 3, 3, 3), ("a", 5, 6, 4), (None, 9, 9, 5)]
    newest = latest(history(rows, created="made")).collect()
    assert dict(newest.select("entity", "value").iter_rows()) == {"a": 4, "b": 3}


# --- through Feast -----------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    """A Feast store over one source whose columns have other names than the view's."""
    (tmp_path / "lake" / "readings").mkdir(parents=True)
    return feast.FeatureStore(
        config=feast.RepoConfig(
            project="test",
            provider="local",
            registry={"registry_type": "sql", "path": f"sqlite:///{tmp_path}/registry.db"},
            offline_store={
                "type": "fti.stores.features.offline.store.PolarsOfflineStore",
                "root": str(tmp_path / "lake"),
            },
            online_store={
                "type": "fti.stores.features.online.store.PackedOnlineStore",
                "path": str(tmp_path / "online.db"),
            },
            entity_key_serialization_version=3,
        )
    )


@pytest.fixture
def view(store, tmp_path):
    sensor = feast.Entity(name="sensor", join_keys=["sensor"], value_type=feast.ValueType.STRING)
    readings = feast.FeatureView(
        name="readings",
        entities=[sensor],
        ttl=timedelta(hours=1),
        schema=[
            feast.Field(name="sensor", dtype=String),
            feast.Field(name="heat", dtype=Float32),
            feast.Field(name="count", dtype=Int64),
        ],
        source=feast.FileSource(
            name="readings", path="readings", timestamp_field="at", field_mapping={"temperature": "heat"}
        ),
    )
    store.apply([sensor, readings])
    rows = {"sensor": ["x", "x", "y"], "at": [at(0), at(30), at(0)], "temperature": [1.0, 2.0, 3.0], "count": [1, 2, 3]}
    frame = pl.DataFrame(rows, schema_overrides={"temperature": pl.Float32})
    frame.write_parquet(tmp_path / "lake" / "readings" / "2013-01-01.parquet")
    return readings


def test_feast_joins_through_the_store_with_pandas_and_arrow(store, view):
    asked = pl.DataFrame({"sensor": ["y", "x", "x"], "event_timestamp": [at(10), at(40), at(10)], "row": [0, 1, 2]})
    job = store.get_historical_features(asked.to_pandas(), ["readings:heat", "readings:count"], full_feature_names=True)
    frame = job.to_df()
    assert frame["row"].tolist() == [0, 1, 2]
    assert frame["readings__heat"].tolist() == [3.0, 2.0, 1.0]
    assert job.to_arrow().column_names == ["sensor", "event_timestamp", "row", "readings__heat", "readings__count"]
    assert job.to_polars()["readings__count"].to_list() == [3, 2, 1]


def test_a_renamed_entity_column_joins_by_the_join_key_map(store, view):
    service = feast.FeatureService(name="s", features=[view.with_name("left").with_join_key_map({"sensor": "left_id"})])
    asked = pl.DataFrame({"left_id": ["y"], "event_timestamp": [at(10)]})
    store.apply([service])
    assert store.get_historical_features(asked, service).to_polars()["heat"].to_list() == [3.0]


def test_feast_materializes_and_serves_through_both_stores(store, view):
    store.materialize(T0, at(60), feature_views=["readings"])
    answer = store.get_online_features(
        ["readings:heat", "readings:count"], [{"sensor": "x"}, {"sensor": "z"}]
    ).to_dict()
    assert answer == {"sensor": ["x", "z"], "heat": [2.0, None], "count": [2, None]}


def test_a_saved_dataset_is_persisted_once(store, view, tmp_path):
    job = store.get_historical_features(pl.DataFrame({"sensor": ["x"], "event_timestamp": [at(1)]}), ["readings:heat"])
    target = SavedDatasetFileStorage(str(tmp_path / "saved" / "set.parquet"))
    job.persist(target)
    assert pl.read_parquet(tmp_path / "saved" / "set.parquet")["heat"].to_list() == [1.0]
    with pytest.raises(SavedDatasetLocationAlreadyExists, match="allow_overwrite=True"):
        job.persist(target)


@pytest.mark.parametrize("kind", ["join", "latest", "all", "range"])
def test_a_segment_that_is_folded_before_the_job_runs_costs_no_row(store, view, tmp_path, kind):
    lake = Lake(str(tmp_path / "lake"))
    added = pl.DataFrame({"sensor": ["x"], "at": [at(50)], "temperature": [9.0], "count": [4]})
    lake.upsert("readings", added.cast({"temperature": pl.Float32}), key=("sensor", "at"), time="at")
    offline, source = store._get_provider().offline_store, view.batch_source
    pulled = (["sensor"], ["temperature", "count"], "at", None, at(0), at(60))
    jobs = {
        "join": lambda: store.get_historical_features(
            pl.DataFrame({"sensor": ["x"], "event_timestamp": [at(55)]}), ["readings:count"]
        ),
        "range": lambda: store.get_historical_features(None, ["readings:count"], start_date=at(40), end_date=at(60)),
        "latest": lambda: offline.pull_latest_from_table_or_query(store.config, source, *pulled),
        "all": lambda: offline.pull_all_from_table_or_query(store.config, source, *pulled),
    }
    job = jobs[kind]()
    assert lake.compact("readings")
    expected = {"join": [4], "range": [4], "latest": [3, 4], "all": [1, 2, 3, 4]}[kind]
    assert sorted(job.to_df()["count"]) == expected
    lake.upsert("readings", added.cast({"temperature": pl.Float32}), key=("sensor", "at"), time="at")
    saved = jobs[kind]()
    assert lake.compact("readings")
    assert sorted(job.to_polars()["count"].to_list()) == expected
    saved.persist(SavedDatasetFileStorage(str(tmp_path / "saved" / "set")))
    assert sorted(pl.read_parquet(tmp_path / "saved" / "set" / "*.parquet")["count"]) == expected
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["set"]


def test_what_cannot_be_joined_says_what_to_do(store, view, tmp_path):
    with pytest.raises(ValueError, match="not as SQL"):
        store.get_historical_features("SELECT 1", ["readings:heat"])
    (tmp_path / "lake" / "readings" / "2013-01-01.parquet").unlink()
    with pytest.raises(NotReadyError, match="Materialize the project's features first"):
        store.get_historical_features(pl.DataFrame({"sensor": ["x"], "event_timestamp": [at(1)]}), ["readings:heat"])
