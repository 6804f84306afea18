"""What a Feast user asks of an offline store, through Feast's own calls, with nothing but the store's class path."""

import threading
from datetime import UTC, datetime, timedelta

import feast
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast.data_format import DeltaFormat
from feast.data_source import PushMode
from feast.errors import EntityTimestampInferenceException, RequestDataNotFoundInEntityDfException
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination, SavedDatasetFileStorage
from feast.monitoring.monitoring_service import MonitoringService
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64, String

from fti.errors import DataError, NotReadyError
from fti.stores.features.offline.history import cut, newest

T0 = datetime(2013, 1, 1, tzinfo=UTC)
FEATURE_STORE = """
project: repo
provider: local
registry: registry.db
online_store: {type: sqlite, path: online.db}
offline_store: {type: fti.stores.features.offline.store.PolarsOfflineStore%s}
entity_key_serialization_version: 3
"""


def at(hours):
    return T0 + timedelta(hours=hours)


def opened(folder, options=""):
    (folder / "feature_store.yaml").write_text(FEATURE_STORE % options)
    return feast.FeatureStore(repo_path=str(folder))


@pytest.fixture
def store(tmp_path):
    """A feature repository like any Feast user's: relative paths, no settings but the store's type."""
    return opened(tmp_path)


def entity(name, kind=feast.ValueType.INT64):
    return feast.Entity(name=name, join_keys=[name], value_type=kind)


def source(path, **options):
    return feast.FileSource(name=str(path), path=str(path), timestamp_field="at", **options)


def view(name, keys, path, features=("value",), **options):
    fields = [feast.Field(name=feature, dtype=Float64) for feature in features]
    schema = [*fields, *(feast.Field(name=key, dtype=Int64) for key in keys)]
    made = options.pop("made", "")
    data = options.pop("source", None) or source(path, created_timestamp_column=made)
    entities = [entity(key) for key in keys]
    return feast.FeatureView(name=name, entities=entities, schema=schema, source=data, **options)


def rows(**columns):
    hours = columns.pop("at")
    return pl.DataFrame({**columns, "at": [at(hour) for hour in hours]})


def write(path, frame):
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)


def asking(**columns):
    return rows(**columns).rename({"at": "event_timestamp"})


@pytest.fixture
def readings(store, tmp_path):
    """Readings of two sensors, in a file of the repository."""
    write(tmp_path / "readings.parquet", rows(sensor=[1, 1, 2], value=[1.0, 2.0, 3.0], at=[0, 2, 0]))
    made = view("readings", ["sensor"], "readings.parquet")
    store.apply([entity("sensor"), made])
    return made


# --- historical features ------------------------------------------------------------------------------------------


def test_views_with_other_keys_and_an_on_demand_view_answer_in_one_request(store, readings, tmp_path):
    write(tmp_path / "pairs.parquet", rows(sensor=[1, 2], site=[7, 7], value=[10.0, 20.0], at=[0, 0]))
    write(tmp_path / "all.parquet", rows(value=[100.0, 200.0], at=[0, 3]))
    pairs, everything = view("pairs", ["sensor", "site"], "pairs.parquet"), view("all", [], "all.parquet")
    request = feast.RequestSource(name="request", schema=[feast.Field(name="factor", dtype=Float64)])

    @on_demand_feature_view(sources=[readings, request], schema=[feast.Field(name="scaled", dtype=Float64)])
    def on_demand(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"scaled": inputs["value"] * inputs["factor"]})

    store.apply([entity("sensor"), entity("site"), pairs, everything, on_demand])
    asked = asking(sensor=[2, 1, 1], site=[7, 7, 8], factor=[2.0, 3.0, 4.0], row=[0, 1, 2], at=[5, 1, 2])
    refs = ["readings:value", "pairs:value", "all:value", "on_demand:scaled"]
    for form in (asked, asked.to_pandas(), asked.to_arrow()):
        job = store.get_historical_features(form, refs, full_feature_names=True)
        found = job.to_polars()
        assert found["row"].to_list() == [0, 1, 2]
        assert found["readings__value"].to_list() == [3.0, 1.0, 2.0]
        assert found["pairs__value"].to_list() == [20.0, 10.0, None]
        assert found["all__value"].to_list() == [200.0, 100.0, 100.0]
        assert found["on_demand__scaled"].to_list() == [6.0, 3.0, 8.0]
        assert pl.from_pandas(job.to_df()).equals(found)
    with pytest.raises(RequestDataNotFoundInEntityDfException):
        store.get_historical_features(asked.drop("factor"), refs, full_feature_names=True)


def test_one_view_joins_twice_by_aliases_and_join_key_maps(store, readings):
    service = feast.FeatureService(
        name="both",
        features=[
            readings.with_name("first").with_join_key_map({"sensor": "a"}),
            readings.with_name("second").with_join_key_map({"sensor": "b"}),
        ],
    )
    store.apply([service])
    found = store.get_historical_features(asking(a=[1, 2], b=[2, 1], at=[1, 3]), service, full_feature_names=True)
    assert found.to_polars().select("first__value", "second__value").rows() == [(1.0, 3.0), (3.0, 2.0)]


def test_the_only_datetime_is_the_event_timestamp(store, readings):
    asked = asking(sensor=[1], at=[1]).rename({"event_timestamp": "when"})
    assert store.get_historical_features(asked, ["readings:value"]).to_polars()["value"].to_list() == [1.0]
    with pytest.raises(EntityTimestampInferenceException):
        store.get_historical_features(asked.with_columns(other="when"), ["readings:value"])


def test_moments_in_any_writing_are_the_same_moments(store, readings):
    moments = [at(1), at(3)]
    offset = pa.array([moment.replace(tzinfo=None) for moment in moments], pa.timestamp("ns", "+05:30"))
    pandas = pd.Series(moments).dt.tz_convert("UTC-03:00")
    text = ["2013-01-01 01:00", "2013-01-01T05:00:00+02:00"]
    for written in (offset, pandas, text, pl.Series(moments).dt.convert_time_zone("Asia/Kolkata")):
        if isinstance(written, pd.Series):
            asked = pd.DataFrame({"sensor": [1, 1], "other": written, "event_timestamp": written})
        else:
            kind = pa.table if isinstance(written, pa.Array) else pl.DataFrame
            asked = kind({"sensor": [1, 1], "event_timestamp": written})
        found = store.get_historical_features(asked, ["readings:value"]).to_polars()
        assert found["value"].to_list() == [1.0, 2.0]
        assert found["event_timestamp"].dt.epoch("ms").to_list() == [moment.timestamp() * 1000 for moment in moments]
    with pytest.raises(DataError, match="'event_timestamp' is text that is no ISO 8601 time"):
        store.get_historical_features(pl.DataFrame({"sensor": [1], "event_timestamp": ["soon"]}), ["readings:value"])


@pytest.mark.parametrize(
    ("foreign", "sentence"),
    [
        (pl.DataFrame({"other": [1]}), r"b.parquet has no column 'sensor' as .*a.parquet has"),
        (rows(sensor=[2**40], value=[1.0], at=[0]), r"b.parquet: column 'sensor' is int64, in .*a.parquet it is int32"),
        (None, r"b.parquet is not a whole Parquet file: write it again or move it away"),
    ],
)
def test_a_file_that_does_not_fit_is_named(store, tmp_path, foreign, sentence):
    write(tmp_path / "many" / "a.parquet", rows(sensor=[1], value=[1.0], at=[0]).cast({"sensor": pl.Int32}))
    if foreign is None:
        (tmp_path / "many" / "b.parquet").write_bytes(b"half")
    else:
        write(tmp_path / "many" / "b.parquet", foreign)
    made = view("many", ["sensor"], "many")
    store.apply([entity("sensor"), made])
    with pytest.raises(DataError, match=sentence):
        store.get_historical_features(asking(sensor=[1], at=[1]), ["many:value"]).to_polars()
    with pytest.raises(DataError, match=sentence):
        store.materialize(at(-1), at(1))


def test_keys_meet_by_value_or_are_refused(store, readings):
    def found(keys):
        asked = asking(sensor=keys, at=[3] * len(keys))
        return store.get_historical_features(asked, ["readings:value"]).to_polars()["value"].to_list()

    assert found(pl.Series([1, 2], dtype=pl.Int16)) == [2.0, 3.0]
    assert found([1.0, 1.5, float("nan")]) == [2.0, None, None]
    assert found(pl.Series([1, 2**63], dtype=pl.UInt64)) == [2.0, None]
    assert found([None, None]) == [None, None]
    with pytest.raises(DataError, match="'sensor' is String in the entity rows and Int64"):
        found(["1"])
    with pytest.raises(DataError, match="no join key 'sensor'"):
        store.get_historical_features(asking(probe=[1], at=[0]), ["readings:value"])
    with pytest.raises(DataError, match="two columns 'value'"):
        store.get_historical_features(asking(sensor=[1], value=[0], at=[0]), ["readings:value"])


def test_a_row_counts_once_it_was_known_unless_the_store_is_told_otherwise(store, tmp_path):
    columns = {"sensor": [1, 1, 1], "value": [1.0, 2.0, 3.0], "made": [at(0), at(9), None], "at": [0, 0, 1]}
    write(tmp_path / "late.parquet", rows(**columns))
    late = view("late", ["sensor"], "late.parquet", made="made")
    asked = asking(sensor=[1, 1, 1], at=[0, 5, 9])

    def found(store, **options):
        return store.get_historical_features(asked, ["late:value"], **options).to_polars()["value"].to_list()

    store.apply([entity("sensor"), late])
    assert found(store) == [1.0, 1.0, 2.0]
    trusting = opened(tmp_path, ", known_at: false")
    assert found(trusting) == [2.0, 3.0, 3.0]
    assert found(trusting, filter_by_created_timestamp=True) == [1.0, 1.0, 2.0]


def test_without_entity_rows_every_entity_is_asked_for_at_its_own_moments(store, readings, tmp_path):
    write(tmp_path / "sites.parquet", rows(site=[7], value=[70.0], at=[2]))
    store.apply([entity("site"), view("sites", ["site"], "sites.parquet")])
    job = store.get_historical_features(
        None, ["readings:value", "sites:value"], full_feature_names=True, start_date=at(0), end_date=at(2)
    )
    found = job.to_polars().select("event_timestamp", "sensor", "site", "readings__value", "sites__value")
    assert sorted(found.rows(), key=str) == [
        (at(0), 1, None, 1.0, None),
        (at(0), 2, None, 3.0, None),
        (at(2), 1, None, 2.0, None),
        (at(2), None, 7, None, 70.0),
    ]
    assert (job.metadata.min_event_timestamp, job.metadata.max_event_timestamp) == (at(0), at(2))


def test_apply_infers_the_schema_from_the_file(store, tmp_path):
    write(tmp_path / "wide.parquet", rows(sensor=[1], name=["x"], share=[0.5], at=[0]))
    store.apply(
        [entity("sensor"), feast.FeatureView(name="wide", entities=[entity("sensor")], source=source("wide.parquet"))]
    )
    fields = {field.name: field.dtype for field in store.get_feature_view("wide").features}
    assert fields == {"name": String, "share": Float64}


# --- files --------------------------------------------------------------------------------------------------------


def test_folders_partitions_and_globs_are_read_in_name_order(store, tmp_path):
    write(tmp_path / "flat" / "2013-01-01.parquet", rows(sensor=[1], value=[1.0], at=[0]))
    write(tmp_path / "flat" / "2013-01-01~late.parquet", rows(sensor=[1], value=[2.0], at=[0]))
    write(tmp_path / "flat" / ".half-written.parquet", rows(sensor=[1], value=[3.0], at=[0]))
    write(tmp_path / "hive" / "site=7" / "a.parquet", rows(sensor=[1], value=[4.0], at=[0]))
    write(tmp_path / "hive" / "site=8" / "a.parquet", rows(sensor=[1], value=[5.0], at=[0]))
    views = [
        view("flat", ["sensor"], "flat"),
        view("hive", ["sensor", "site"], "hive"),
        view("glob", ["sensor"], "flat/*~*.parquet"),
    ]
    store.apply([entity("sensor"), entity("site"), *views])
    asked = asking(sensor=[1, 1], site=[7, 8], at=[1, 1])
    refs = ["flat:value", "hive:value", "glob:value"]
    found = store.get_historical_features(asked, refs, full_feature_names=True).to_polars()
    assert found["flat__value"].to_list() == [2.0, 2.0]
    assert found["hive__value"].to_list() == [4.0, 5.0]
    assert found["glob__value"].to_list() == [2.0, 2.0]


def test_only_a_lake_is_trusted_to_name_its_files_by_their_day(tmp_path):
    write(tmp_path / "lake" / "readings" / "2013-01-01.parquet", rows(sensor=[1], value=[1.0], at=[0]))
    (tmp_path / "lake" / "readings" / "2013-02-01.parquet").write_text("no Parquet at all")
    lake = opened(tmp_path, ", root: lake")
    lake.apply([entity("sensor"), view("readings", ["sensor"], "readings")])
    job = lake.get_historical_features(asking(sensor=[1], at=[5]), ["readings:value"])
    assert job.to_polars()["value"].to_list() == [1.0]
    plain = opened(tmp_path)
    plain.apply([entity("sensor"), view("readings", ["sensor"], "lake/readings")])
    with pytest.raises(DataError, match=r"2013-02-01\.parquet is not a whole Parquet file"):
        plain.get_historical_features(asking(sensor=[1], at=[5]), ["readings:value"]).to_polars()


@pytest.mark.parametrize("dtype", [pl.Datetime("us", "UTC"), pl.Datetime("ns"), pl.Datetime("us", "Asia/Kolkata")])
def test_a_time_range_is_compared_with_the_stored_column_so_that_statistics_apply(tmp_path, dtype):
    frame = rows(sensor=[1] * 4, value=[1.0, 2.0, 3.0, 4.0], at=[0, 1, 2, 3])
    column = pl.col("at") if dtype.time_zone else pl.col("at").dt.replace_time_zone(None)
    frame.with_columns(column.cast(dtype)).write_parquet(tmp_path / "x.parquet")
    kept = cut(pl.scan_parquet(tmp_path / "x.parquet").select("at", "value"), "at", at(1), at(2))
    assert kept.collect()["value"].to_list() == [2.0, 3.0]
    plan = kept.explain()
    assert "PROJECT 2/3" in plan
    assert 'SELECTION: (col("at") >=' in plan


def test_the_newest_rows_are_the_same_however_many_are_held_at_a_time():
    frame = pl.DataFrame({"key": [1, 2, 1, 3, 2, 1], "at": [5, 1, 5, 2, 0, 3], "value": range(6)}).lazy()
    whole = newest(frame, ["key"], ["at"]).sort("key")
    assert whole["value"].to_list() == [2, 1, 3]
    assert newest(frame, ["key"], ["at"], at_a_time=1).sort("key").equals(whole)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: source("x.csv"), "reads and writes Parquet"),
        (lambda: source("x", file_format=DeltaFormat()), "not DeltaFormat"),
        (lambda: feast.PushSource(name="p", batch_source=source("x.csv")), "reads and writes Parquet"),
    ],
)
def test_what_is_no_parquet_is_refused(store, made, sentence):
    store.apply([entity("sensor"), view("readings", ["sensor"], None, source=made())])
    with pytest.raises(DataError, match=sentence):
        store.get_historical_features(asking(sensor=[1], at=[0]), ["readings:value"])
    with pytest.raises(DataError, match=sentence):
        store._get_provider().validate_data_source(store.config, store.get_feature_view("readings").batch_source)


def test_questions_in_sql_are_refused_with_the_way_out(store, readings):
    with pytest.raises(ValueError, match="not as SQL"):
        store.get_historical_features("SELECT 1", ["readings:value"])
    with pytest.raises(NotImplementedError, match="to_polars"):
        store.get_historical_features(asking(sensor=[1], at=[0]), ["readings:value"]).to_sql()


# --- writing ------------------------------------------------------------------------------------------------------


def test_pushed_rows_are_appended_to_a_file_a_folder_and_a_lake(tmp_path):
    places = {"file.parquet": "file.parquet", "folder": "folder/2013-01-01.parquet", "hive": "hive/site=7/a.parquet"}
    for place in places.values():
        write(tmp_path / "lake" / place, rows(raw=[1.0], sensor=[1], at=[0]))
    store = opened(tmp_path, f", root: {tmp_path / 'lake'}")
    for name in places:
        data = source(name, field_mapping={"raw": "value"})
        push = feast.PushSource(name=f"push_{name}", batch_source=data)
        store.apply([entity("sensor"), view(name.split(".")[0], ["sensor"], None, source=push), push])
        late = pd.DataFrame({"raw": [2.0, 3.0], "sensor": [1, 1], "at": [at(0), at(30)]})
        store.push(f"push_{name}", late.assign(site=[7, 9]) if name == "hive" else late, to=PushMode.OFFLINE)
        asked = asking(sensor=[1, 1], at=[1, 31])
        found = store.get_historical_features(asked, [f"{name.split('.')[0]}:value"]).to_polars()
        assert found["value"].to_list() == [2.0, 3.0], name
    names = sorted(file.name[:11] for file in (tmp_path / "lake" / "folder").glob("*.parquet"))
    assert names == ["2013-01-01.", "2013-01-01~", "2013-01-02~"]


def test_writers_of_one_file_wait_for_each_other_and_lose_nothing(store, readings):
    def push(number):
        store.write_to_offline_store(
            "readings", pd.DataFrame({"sensor": [number], "value": [float(number)], "at": [at(5)]})
        )

    threads = [threading.Thread(target=push, args=(number,)) for number in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    asked = asking(sensor=list(range(10, 18)), at=[6] * 8)
    found = store.get_historical_features(asked, ["readings:value"]).to_polars()
    assert found["value"].to_list() == [float(number) for number in range(10, 18)]


def test_rows_with_other_columns_are_not_written(store, readings):
    with pytest.raises(ValueError, match="missing_expected_columns"):
        store.write_to_offline_store("readings", pd.DataFrame({"sensor": [1], "at": [at(0)]}))
    table = pa.table({"at": [at(0)], "sensor": [1], "value": [1.0]})
    with pytest.raises(ValueError, match="in this order"):
        store._get_provider().offline_write_batch(store.config, readings, table, None)


@pytest.mark.parametrize("partition_by", [None, ["sensor"]])
def test_logged_features_come_back(store, readings, tmp_path, partition_by):
    destination = FileLoggingDestination(path="log", partition_by=partition_by)
    service = feast.FeatureService(name="served", features=[readings], logging_config=LoggingConfig(destination))
    store.apply([service])
    for number in (1, 2):
        log = {
            "sensor": [number],
            "readings__value": [float(number)],
            "readings__value__timestamp": [at(0)],
            "readings__value__status": [2],
            "__log_timestamp": [at(number)],
            "__log_date": [at(number).date()],
            "__request_id": [f"r{number}"],
        }
        store.write_logged_features(pa.table(log), service)
    provider = store._get_provider()
    logs = provider.retrieve_feature_service_logs(service, at(0), at(9), store.config, store.registry).to_polars()
    assert sorted(logs.select("sensor", "readings__value").rows()) == [(1, 1.0), (2, 2.0)]
    assert not list((tmp_path / "log").glob(".*"))


def test_a_saved_dataset_lies_in_the_repository_and_comes_back(store, readings, tmp_path):
    job = store.get_historical_features(asking(sensor=[2, 1], at=[1, 3]), ["readings:value"], full_feature_names=True)
    for path in ("sets/one.parquet", "sets/folder"):
        store.create_saved_dataset(job, path, SavedDatasetFileStorage(path))
        store.create_saved_dataset(job, path, SavedDatasetFileStorage(path), allow_overwrite=True)
        found = store.get_saved_dataset(path).to_df()
        assert sorted(zip(found["sensor"], found["readings__value"], strict=True)) == [(1, 2.0), (2, 3.0)]
    assert sorted(file.name for file in (tmp_path / "sets").iterdir()) == ["folder", "one.parquet"]


# --- materialization and monitoring -------------------------------------------------------------------------------


def test_feast_materializes_views_with_and_without_entities(store, readings, tmp_path):
    write(tmp_path / "all.parquet", rows(value=[100.0, 200.0], at=[0, 3]))
    store.apply([view("all", [], "all.parquet")])
    store.materialize(at(0), at(1))
    refs = ["readings:value", "all:value"]
    found = store.get_online_features(refs, [{"sensor": 1}, {"sensor": 9}], full_feature_names=True).to_dict()
    assert found == {"sensor": [1, 9], "readings__value": [1.0, None], "all__value": [100.0, 100.0]}


def test_a_source_without_rows_is_declared_but_not_read(store):
    store.apply([entity("sensor"), view("empty", ["sensor"], "nothing_yet")])
    with pytest.raises(NotReadyError, match="no rows yet"):
        store.get_historical_features(asking(sensor=[1], at=[0]), ["empty:value"])


def test_feasts_monitoring_computes_and_keeps_metrics(store, tmp_path):
    frame = rows(sensor=[1] * 4, value=[1.0, 2.0, None, 4.0], name=["a", "b", "b", None], at=[0, 1, 2, 3])
    write(tmp_path / "wide.parquet", frame)
    store.apply(
        [entity("sensor"), feast.FeatureView(name="wide", entities=[entity("sensor")], source=source("wide.parquet"))]
    )
    service = MonitoringService(store)
    for _ in range(2):  # the second run takes the first one's place
        service.compute_metrics("repo", feature_view_name="wide", start_date=T0.date(), end_date=T0.date())
    found = {metric["feature_name"]: metric for metric in service.get_feature_metrics("repo", feature_view_name="wide")}
    assert found.keys() == {"name", "value"}
    numeric, text = found["value"], found["name"]
    assert (numeric["row_count"], numeric["null_count"], numeric["min_val"], numeric["max_val"]) == (4, 1, 1.0, 4.0)
    assert numeric["mean"] == pytest.approx(7 / 3)
    assert sum(numeric["histogram"]["counts"]) == 3
    assert numeric["histogram"]["counts"][-1] == 1
    assert text["histogram"]["values"] == [{"value": "b", "count": 2}, {"value": "a", "count": 1}]
    assert text["null_rate"] == 0.25
