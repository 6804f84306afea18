"""The offline store on S3: a real S3 server on the loopback device."""

from datetime import UTC, date, datetime, timedelta

import feast
import pandas as pd
import polars as pl
import pytest
from feast.data_source import PushMode
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Float64, Int64
from moto.server import ThreadedMotoServer

from fti.errors import DataError, NotReadyError

T0 = datetime(2013, 1, 1, tzinfo=UTC)
SENSOR = feast.Entity(name="sensor", join_keys=["sensor"], value_type=feast.ValueType.INT64)
SCHEMA = [feast.Field(name="sensor", dtype=Int64), feast.Field(name="value", dtype=Float64)]


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """A fresh bucket, and the credentials in the environment, where S3 clients look for them."""
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="lake")
    yield client
    for found in client.list_objects_v2(Bucket="lake").get("Contents", []):
        client.delete_object(Bucket="lake", Key=found["Key"])
    client.delete_bucket(Bucket="lake")


def rows(sensor, value, hours):
    return pl.DataFrame({"sensor": sensor, "value": value, "at": [T0 + timedelta(hours=hour) for hour in hours]})


def put(bucket, tmp_path, key, frame):
    frame.write_parquet(tmp_path / "part.parquet")
    bucket.upload_file(str(tmp_path / "part.parquet"), "lake", key)


def names(bucket, prefix):
    found = [found["Key"] for found in bucket.list_objects_v2(Bucket="lake", Prefix=prefix).get("Contents", [])]
    return [key for key in found if key.endswith(".parquet")]


def opened(tmp_path, **options):
    return feast.FeatureStore(
        config=feast.RepoConfig(
            project="s3",
            provider="local",
            registry=str(tmp_path / "registry.db"),
            offline_store={"type": "fti.stores.features.offline.store.PolarsOfflineStore", **options},
            online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
            materialization={"pull_latest_features": True},
            entity_key_serialization_version=3,
        )
    )


def declared(store, path, **options):
    data = feast.FileSource(name="readings", path=path, timestamp_field="at", **options)
    push = feast.PushSource(name="push", batch_source=data)
    store.apply([SENSOR, push, feast.FeatureView(name="readings", entities=[SENSOR], schema=SCHEMA, source=push)])


def values(store, sensors, hour):
    asked = pl.DataFrame({"sensor": sensors, "event_timestamp": [T0 + timedelta(hours=hour)] * len(sensors)})
    return store.get_historical_features(asked, ["readings:value"])


@pytest.mark.parametrize("path", ["s3://lake/readings", "s3://lake/readings/*.parquet", "s3://lake/readings/a.parquet"])
def test_folders_globs_and_objects_are_read_written_and_saved(bucket, endpoint, tmp_path, path):
    put(bucket, tmp_path, "readings/a.parquet", rows([1, 2], [1.0, 2.0], [0, 0]))
    store = opened(tmp_path)
    declared(store, path, s3_endpoint_override=endpoint)
    assert values(store, [2, 1, 1], 1).to_polars()["value"].to_list() == [2.0, 1.0, 1.0]
    if "*" in path:
        return
    late = pd.DataFrame({"sensor": [1], "value": [9.0], "at": [T0]})
    store.push("push", late, to=PushMode.OFFLINE)
    job = values(store, [2, 1], 1)
    assert job.to_polars()["value"].to_list() == [2.0, 9.0]
    target = SavedDatasetFileStorage("s3://lake/saved/set", s3_endpoint_override=endpoint)
    store.create_saved_dataset(job, "set", target)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        store.create_saved_dataset(job, "set", target)
    store.create_saved_dataset(job, "set", target, allow_overwrite=True)
    assert store.get_saved_dataset("set").to_df()["value"].tolist() == [2.0, 9.0]
    assert len(names(bucket, "saved/set")) == 1


def test_a_lake_on_s3_is_found_by_the_environment_and_opened_by_day(bucket, endpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    put(bucket, tmp_path, "fti/readings/2013-01-01.parquet", rows([1], [1.0], [0]))
    bucket.put_object(Bucket="lake", Key="fti/readings/2013-03-01.parquet", Body=b"no Parquet at all")
    store = opened(tmp_path, root="s3://lake/fti")
    declared(store, "readings")
    store.push("push", pd.DataFrame({"sensor": [1], "value": [2.0], "at": [T0]}), to=PushMode.OFFLINE)
    assert values(store, [1], 1).to_polars()["value"].to_list() == [2.0]
    assert names(bucket, "fti/readings/2013-01-01~")
    store.materialize(T0, T0 + timedelta(hours=1), feature_views=["readings"])
    assert store.get_online_features(["readings:value"], [{"sensor": 1}]).to_dict()["value"] == [2.0]


def test_hive_partitions_are_read_written_and_keep_out_what_is_foreign(bucket, endpoint, tmp_path):
    for day in (1, 2):
        part = rows([1], [float(day)], [24 * (day - 1)])
        put(bucket, tmp_path, f"hive/dt=2013-01-0{day}/a.parquet", part)
    for foreign in ("hive/_SUCCESS", "hive/dt=2013-01-02/.a.parquet.crc", "hive/README.md"):
        bucket.put_object(Bucket="lake", Key=foreign, Body=b"no Parquet")
    store = opened(tmp_path)
    declared(store, "s3://lake/hive", s3_endpoint_override=endpoint)
    assert values(store, [1], 23).to_polars()["value"].to_list() == [1.0]
    added = pd.DataFrame({"sensor": [1], "value": [3.0], "at": [T0 + timedelta(hours=30)], "dt": [date(2013, 1, 2)]})
    store.push("push", added, to=PushMode.OFFLINE)
    assert len(names(bucket, "hive/dt=2013-01-02/")) == 2
    assert values(store, [1], 29).to_polars()["value"].to_list() == [2.0]
    assert values(store, [1], 31).to_polars()["value"].to_list() == [3.0]
    bucket.put_object(Bucket="lake", Key="hive/dt=2013-01-03/b.parquet", Body=b"half of a file")
    with pytest.raises(DataError, match=r"dt=2013-01-03/b\.parquet is not a whole Parquet file"):
        values(store, [1], 60).to_polars()


def test_a_place_without_objects_says_so(bucket, endpoint, tmp_path):
    store = opened(tmp_path)
    declared(store, "s3://lake/nothing", s3_endpoint_override=endpoint)
    with pytest.raises(NotReadyError, match="s3://lake/nothing: no rows yet"):
        values(store, [1], 1)
