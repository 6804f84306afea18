"""The online store through Feast's own SDK, the same on SQLite and on Redis: types, order, views, schemas."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Number
from uuid import UUID

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    Set,
    String,
    Struct,
    UnixTimestamp,
    Uuid,
)
from feast.value_type import ValueType

from fti.errors import DataError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.STRING)
stop = Entity(name="stop", join_keys=["stop"], value_type=ValueType.INT64)


def view(name, entities, keys, features, **options):
    source = FileSource(name=f"{name}_source", path=f"{name}.parquet", timestamp_field="event_timestamp")
    schema = [Field(name=key, dtype=dtype) for key, dtype in keys.items()]
    schema += [Field(name=feature, dtype=dtype) for feature, dtype in features.items()]
    options = {"source": source, "ttl": timedelta(days=1)} | options
    return FeatureView(name=name, entities=entities, schema=schema, **options)


trips = view("trips", [driver], {"driver": String}, {"count": Int64, "mean": Float32})
moods = view("moods", [driver], {"driver": String}, {"mood": String, "happy": Bool})
ROWS = {"driver": ["ann", "bob"], "count": [3, None], "mean": [0.5, 1.5]}


def store_at(folder, online_path, objects=(), **registry):
    online = {"type": "fti.stores.features.online.store.PackedOnlineStore", "path": online_path}
    config = RepoConfig(
        project="test",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db"} | registry,
        online_store=online,
        offline_store={"type": "fti.stores.features.offline.store.PolarsOfflineStore", "root": str(folder)},
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    store = FeatureStore(config=config)
    if objects:
        store.apply(list(objects))
    return store


@pytest.fixture
def store(tmp_path, online_path):
    return store_at(tmp_path, online_path, [driver, stop, trips, moods])


def write(store, name, rows, moment=NOON):
    frame = pd.DataFrame({key: pd.Series(values, dtype=object) for key, values in rows.items()})
    store.write_to_online_store(name, frame.assign(event_timestamp=moment))


def read(store, features, **entities):
    return store.get_online_features(features, entities).to_dict()


def test_values_and_nulls_come_back_and_the_unknown_is_null(store):
    write(store, "trips", ROWS)
    found = read(store, ["trips:count", "trips:mean"], driver=["bob", "nobody", "ann", "bob"])
    assert found["count"] == [None, None, 3, None]
    assert found["mean"] == [1.5, None, 0.5, 1.5]


TYPES = {
    "i32": (Int32, -7),
    "i64": (Int64, 2**53 + 1),
    "f64": (Float64, 1e-300),
    "yes": (Bool, True),
    "time": (UnixTimestamp, NOON),
    "text": (String, "Zürich\x00"),
    "raw": (Bytes, b"\x00\xff"),
    "json": (Json, '{"a":[1]}'),
    "id": (Uuid, str(UUID(int=7))),
    "price": (Decimal, Number("10.10")),
    "ints": (Array(Int64), [1, 2, 3]),
    "texts": (Array(String), ["a", ""]),
    "set": (Set(Int64), {4, 5}),
    "map": (Map, {"a": "b"}),
    "struct": (Struct({"x": Int64}), {"x": 1}),
}


def test_every_type_comes_back_as_from_feasts_own_store(tmp_path, online_path):
    kinds = view("kinds", [driver], {"driver": String}, {name: dtype for name, (dtype, _) in TYPES.items()})
    ours = store_at(tmp_path, online_path, [driver, kinds])
    (tmp_path / "feast").mkdir()
    theirs = FeatureStore(
        config=ours.config.model_copy(
            update={
                "registry_config": {"registry_type": "sql", "path": f"sqlite:///{tmp_path}/feast/registry.db"},
                "online_config": {"type": "sqlite", "path": str(tmp_path / "feast" / "online.db")},
            }
        )
    )
    theirs.apply([driver, kinds])
    rows = {"driver": ["ann", "bob"]} | {name: [value, None] for name, (_, value) in TYPES.items()}
    answers = []
    for store in (ours, theirs):
        write(store, "kinds", rows)
        answers.append(read(store, [f"kinds:{name}" for name in TYPES], driver=["ann", "bob", "nobody"]))
    assert answers[0] == answers[1]
    assert answers[0]["text"] == ["Zürich\x00", None, None]
    assert answers[0]["ints"][0] == [1, 2, 3]


def test_the_newest_row_wins_whatever_the_order(store):
    for hours in (1, 3, 2):
        write(store, "trips", {"driver": ["ann"], "count": [hours], "mean": [0.0]}, NOON + hours * HOUR)
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [3]
    write(store, "trips", {"driver": ["ann"], "count": [4], "mean": [0.0]}, NOON + 3 * HOUR)
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [4]
    write(store, "trips", {"driver": ["ann"], "count": [5], "mean": [0.0]}, datetime(1900, 1, 1, tzinfo=UTC))
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [4]


def test_views_of_one_entity_do_not_disturb_each_other(store):
    write(store, "moods", {"driver": ["bob"], "mood": ["calm"], "happy": [True]}, NOON + HOUR)
    write(store, "trips", ROWS)
    write(store, "moods", {"driver": ["ann"], "mood": ["a much longer mood"], "happy": [False]})
    found = store.get_online_features(["trips:mean", "moods:mood", "moods:happy"], {"driver": ["ann", "bob"]})
    assert found.to_dict() == {
        "driver": ["ann", "bob"],
        "mean": [0.5, 1.5],
        "mood": ["a much longer mood", "calm"],
        "happy": [False, True],
    }
    assert set(read(store, ["trips:mean"], driver=["ann"])) == {"driver", "mean"}
    full = store.get_online_features(["trips:mean", "moods:mood"], {"driver": ["ann"]}, full_feature_names=True)
    assert set(full.to_dict()) == {"driver", "trips__mean", "moods__mood"}


def test_a_view_without_rows_is_null_where_another_view_of_its_entities_has_some(tmp_path, online_path):
    waits = view("waits", [driver], {"driver": String}, {"wait": Float64, "patient": Bool})
    store = store_at(tmp_path, online_path, [driver, trips, waits])
    write(store, "trips", ROWS)
    assert read(store, ["waits:wait", "waits:patient"], driver=["ann", "bob", "zed"]) == {
        "driver": ["ann", "bob", "zed"],
        "wait": [None] * 3,
        "patient": [None] * 3,
    }
    assert read(store, ["waits:wait", "trips:count"], driver=["zed", "ann"])["count"] == [None, 3]
    write(store, "waits", {"driver": ["bob"], "wait": [0.5], "patient": [True]})
    assert read(store, ["waits:wait"], driver=["ann", "bob"])["wait"] == [None, 0.5]


def test_event_times_are_given(store):
    write(store, "trips", ROWS)
    proto = store.get_online_features(["trips:count"], {"driver": ["ann"]}).proto
    assert proto.results[-1].event_timestamps[0].ToDatetime(UTC) == NOON


def test_composite_keys_in_any_order_and_mapped_keys(tmp_path, online_path):
    legs = view("legs", [stop, driver], {"stop": Int64, "driver": String}, {"km": Float64})
    mapped = legs.with_name("evening").with_join_key_map({"stop": "last_stop"})
    store = store_at(tmp_path, online_path, [driver, stop, legs, FeatureService(name="legs_v1", features=[mapped])])
    write(store, "legs", {"driver": ["a", "a", "a1"], "stop": [1, 12, 2], "km": [1.0, 2.0, 3.0]})
    assert read(store, ["legs:km"], stop=[12, 2, 1], driver=["a", "a1", "b"])["km"] == [2.0, 3.0, None]
    service = store.get_feature_service("legs_v1")
    assert read(store, service, last_stop=[1, 2], driver=["a", "a"])["km"] == [1.0, None]


def test_a_view_without_entity(tmp_path, online_path):
    world = view("world", [], {}, {"rate": Float64})
    store = store_at(tmp_path, online_path, [driver, world])
    frame = pd.DataFrame({"rate": [1.25], "event_timestamp": [NOON], "__dummy_id": [""]})
    store.write_to_online_store("world", frame)
    assert read(store, ["world:rate"], driver=["ann", "bob"])["rate"] == [1.25, 1.25]


def test_push(tmp_path, online_path):
    push = PushSource(name="push", batch_source=FileSource(path="p.parquet", timestamp_field="event_timestamp"))
    pushed = view("pushed", [driver], {"driver": String}, {"count": Int64}, source=push)
    store = store_at(tmp_path, online_path, [driver, pushed])
    store.push("push", pd.DataFrame({"driver": ["ann"], "count": [9], "event_timestamp": [NOON]}))
    assert read(store, ["pushed:count"], driver=["ann"])["count"] == [9]


def test_a_deleted_view_is_forgotten_and_teardown_leaves_nothing(store):
    write(store, "trips", ROWS)
    write(store, "moods", {"driver": ["ann"], "mood": ["calm"], "happy": [True]})
    store.apply([], objects_to_delete=[trips], partial=False)
    store.apply([trips])
    assert read(store, ["trips:count", "moods:mood"], driver=["ann"]) == {
        "driver": ["ann"],
        "count": [None],
        "mood": ["calm"],
    }
    store.teardown()
    backend = store._get_provider().online_store.backend(store.config)
    assert list(backend.scan(b"")) == []


def test_a_changed_schema_never_misreads_old_rows(tmp_path, online_path):
    old = view("trips", [driver], {"driver": String}, {"count": Int64, "mean": Float32, "name": String})
    store = store_at(tmp_path, online_path, [driver, old])
    write(store, "trips", {"driver": ["ann", "bob"], "count": [3, 4], "mean": [0.5, 0.25], "name": ["A", "B"]})
    new = view("trips", [driver], {"driver": String}, {"added": Float32, "mean": Float64, "count": Int64})
    store = store_at(tmp_path, online_path, [driver, new])
    refs = ["trips:count", "trips:mean", "trips:added"]
    assert read(store, refs, driver=["ann"]) == {"driver": ["ann"], "count": [3], "mean": [None], "added": [None]}
    write(store, "trips", {"driver": ["bob"], "added": [1.0], "mean": [2.0], "count": [5]}, NOON + HOUR)
    found = read(store, refs, driver=["ann", "bob"])
    assert (found["count"], found["mean"], found["added"]) == ([3, 5], [None, 2.0], [None, 1.0])


def test_versions_of_a_view_are_read_side_by_side(tmp_path, online_path):
    versioned = {"enable_online_feature_view_versioning": True}
    store = store_at(tmp_path, online_path, [driver, trips], **versioned)
    write(store, "trips", ROWS)
    more = view("trips", [driver], {"driver": String}, {"count": Int64, "mean": Float32, "more": Int64})
    store.apply([driver, more])
    store = store_at(tmp_path, online_path, **versioned)  # Feast's cache tells two changes in one second apart by luck
    write(store, "trips", {"driver": ["ann"], "count": [30], "mean": [5.0], "more": [1]}, NOON - HOUR)
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [30]
    assert read(store, ["trips@v0:count"], driver=["ann"]) == {"driver": ["ann"], "count": [3]}


def test_a_value_of_a_wrong_type_is_refused_with_its_name(store):
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    online, entity = (
        store._get_provider().online_store,
        EntityKey(join_keys=["driver"], entity_values=[Value(string_val="a")]),
    )
    with pytest.raises(DataError, match="count"):
        online.online_write_batch(store.config, trips, [(entity, {"count": Value(string_val="x")}, NOON, None)], None)


def test_without_blocking_the_event_loop(store):
    write(store, "trips", ROWS)

    async def ask():
        frame = pd.DataFrame({"driver": ["ann"], "count": [8], "mean": [0.0], "event_timestamp": [NOON + HOUR]})
        await store.write_to_online_store_async("trips", frame)
        answer = await store.get_online_features_async(["trips:count"], {"driver": ["ann", "bob"]})
        return answer.to_dict()

    assert asyncio.run(ask())["count"] == [8, None]


def test_feasts_own_asynchronous_calls_read_and_write_the_same(store):
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    online = store._get_provider().online_store
    names = [Value(string_val=name) for name in ("ann", "bob")]
    ann, bob = (EntityKey(join_keys=["driver"], entity_values=[name]) for name in names)

    async def ask():
        rows = [(ann, {"count": Value(int64_val=3)}, NOON, None)]
        await online.online_write_batch_async(store.config, trips, rows, None)
        return await asyncio.gather(
            online.online_read_async(store.config, trips, [ann, bob], ["count"]),
            online.online_read_async(store.config, trips, [bob, ann]),
        )

    first, second = asyncio.run(ask())
    assert first == online.online_read(store.config, trips, [ann, bob], ["count"])
    assert second == online.online_read(store.config, trips, [bob, ann])
    assert [None if values is None else values["count"].int64_val for _, values in first] == [3, None]


def test_precomputed_vectors_come_back_and_a_vector_search_is_refused(store):
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    online = store._get_provider().online_store
    ann, bob = (EntityKey(join_keys=["driver"], entity_values=[Value(string_val=name)]) for name in ("ann", "bob"))
    online.write_precomputed_vector(store.config, "all", "test", ann, b"first")
    online.write_precomputed_vector(store.config, "all", "test", ann, b"\0second")
    assert online.read_precomputed_vectors(store.config, "all", "test", [bob, ann]) == [None, b"\0second"]
    write(store, "trips", ROWS)
    assert read(store, ["trips:count"], driver=["ann"], stop=[1])["count"] == [3]
    with pytest.raises(NotImplementedError, match="no vector search"):
        store.retrieve_online_documents_v2(features=["trips:mean"], query=[0.5], top_k=1)
