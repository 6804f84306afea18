"""Feast's `get_online_features` by columns says what Feast's own way, on the same store, says value by value."""

from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from feast import FeatureService, Field, RequestSource
from feast.infra.online_stores.online_store import OnlineStore
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, Json, String, UnixTimestamp, Uuid
from feast.value_type import ValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fti.errors import DataError
from fti.stores.features.online.call import ColumnarResponse, require_keys
from tests.stores.test_online_store import HOUR, NOON, driver, stop, store_at, view, write

KINDS = {
    "i32": (Int32, [-7, 7]),
    "f64": (Float64, [1e-300, float("inf")]),
    "yes": (Bool, [True, False]),
    "time": (UnixTimestamp, [NOON, NOON - 60 * 365 * 24 * HOUR]),
    "text": (String, ["Zürich\x00", ""]),
    "raw": (Bytes, [b"\x00\xff", b""]),
    "json": (Json, ['{"a":[1]}', "[]"]),
    "id": (Uuid, ["00000000-0000-0000-0000-000000000007", "00000000-0000-0000-0000-000000000008"]),
    "ints": (Array(Int64), [[1, 2], [3]]),
}
trips = view("trips", [driver], {"driver": String}, {"count": Int64, "mean": Float32})
kinds = view("kinds", [driver], {"driver": String}, {name: dtype for name, (dtype, _) in KINDS.items()})
legs = view("legs", [stop, driver], {"stop": Int64, "driver": String}, {"km": Float64, "count": Int64})
world = view("world", [], {}, {"rate": Float64})
evening = legs.with_name("evening").with_join_key_map({"stop": "last_stop"})
SERVICES = [
    FeatureService(name="mixed_v1", features=[trips, kinds, world]),
    FeatureService(name="mapped_v1", features=[evening, kinds[["text", "yes"]]]),
]
REFS = [f"{own.name}:{field.name}" for own in (trips, kinds, legs, world) for field in own.features]
names = st.sampled_from(["ann", "bob", "nobody"])
stops = st.sampled_from([1, 2, -(2**62)])
rows = st.lists(st.fixed_dictionaries({"driver": names, "stop": stops, "last_stop": stops}), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    store = store_at(folder, str(folder / "online.db"), [driver, stop, trips, kinds, legs, world, *SERVICES])
    write(store, "trips", {"driver": ["ann", "bob"], "count": [3, None], "mean": [0.1, float("nan")]})
    write(store, "trips", {"driver": ["ann"], "count": [4], "mean": [0.2]}, NOON + pd.Timedelta(milliseconds=1))
    write(store, "kinds", {"driver": ["ann"]} | {name: values[:1] for name, (_, values) in KINDS.items()})
    write(
        store, "legs", {"driver": ["ann", "ann", "bob"], "stop": [1, 2, 1], "km": [1.0, None, 3.0], "count": [1, 2, 3]}
    )
    store.write_to_online_store("world", pd.DataFrame({"rate": [1.5], "event_timestamp": [NOON], "__dummy_id": [""]}))
    write(store, "kinds", {"driver": ["bob"]} | {name: values[1:] for name, (_, values) in KINDS.items()}, NOON - HOUR)
    return store


def feasts(store, features, entity_rows, full=False):
    """Feast's own way on the same store."""
    online = store._get_provider().online_store
    return OnlineStore.get_online_features(
        online, store.config, features, entity_rows, store.registry, store.project, full
    )


def same(ours, theirs):
    """All that the two responses say; repr, since NaN is not NaN."""
    assert isinstance(ours, ColumnarResponse)
    assert repr(ours.to_dict()) == repr(theirs.to_dict())
    assert repr(ours.to_dict(include_event_timestamps=True)) == repr(theirs.to_dict(include_event_timestamps=True))
    assert ours.proto.SerializeToString(deterministic=True) == theirs.proto.SerializeToString(deterministic=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=rows, refs=st.sets(st.sampled_from(REFS), min_size=1) | st.sampled_from(SERVICES), columnar=st.booleans())
def test_a_call_says_what_feasts_own_way_says(store, asked, refs, columnar):
    features = sorted(refs) if isinstance(refs, set) else store.get_feature_service(refs.name)
    if features == store.get_feature_service("mapped_v1"):
        asked = [{name: value for name, value in row.items() if name != "stop"} for row in asked]
    else:
        asked = [{name: value for name, value in row.items() if name != "last_stop"} for row in asked]
    given = {name: [row[name] for row in asked] for name in asked[0]} if columnar else asked
    full = isinstance(refs, set) and {"trips:count", "legs:count"} <= refs
    same(store.get_online_features(features, given, full_feature_names=full), feasts(store, features, given, full))


def test_frames_and_tables_are_the_same_too(store):
    given = {"driver": ["bob", "ann", "nobody", "ann"]}
    refs = [f"kinds:{name}" for name in KINDS if name != "json"] + ["trips:count"]  # these rows' JSON is no one type
    ours, theirs = store.get_online_features(refs, given), feasts(store, refs, given)
    pd.testing.assert_frame_equal(ours.to_df(), theirs.to_df())
    assert ours.to_arrow(include_event_timestamps=True).equals(theirs.to_arrow(include_event_timestamps=True))


@pytest.mark.parametrize(
    "given",
    [
        {"driver": []},
        {"driver": ["ann"], "stop": [1, 2]},
        {"stop": [1]},
        {"driver": [1]},
        {},
        [],
        [{"driver": "ann"}, {"stop": 1}],
        {"driver": pd.Series(["ann"])},
        {"driver": ["ann"], "stop": [2**63]},
        {"driver": ["ann"], "more": [1.5]},
    ],
    ids=repr,
)
def test_odd_entities_are_answered_or_refused_as_by_feast(store, given):
    def outcome(ask):
        try:
            return repr(ask().to_dict())
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return type(error)

    refs = ["trips:count"]
    assert outcome(lambda: store.get_online_features(refs, given)) == outcome(lambda: feasts(store, refs, given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"driver": ["ann", None], "stop": [1, 1]}, "'driver' of entity row 1 is null"),
        ([{"driver": float("nan"), "stop": 1}], "'driver' of entity row 0 is null"),
        ({"driver": ["ann"], "stop": [2**63]}, "'stop' of entity row 0 is 9223372036854775808"),
        ({"driver": ["ann"], "stop": [True]}, "'stop' of entity row 0 is True"),
        ({"driver": ["ann"], "stop": ["1"]}, "'stop' of entity row 0 is '1'"),
        ({"driver": [1.0], "stop": [1]}, "'driver' of entity row 0 is 1.0"),
    ],
    ids=repr,
)
def test_keys_of_which_feast_makes_others_or_nothing_are_refused_by_name(store, given, message):
    with pytest.raises(DataError, match=f"join key {message}"):
        store.get_online_features(["trips:count", "legs:km"], given)


@pytest.mark.parametrize(
    ("dtype", "same", "others"),
    [
        (
            ValueType.UNIX_TIMESTAMP,
            [datetime(2024, 1, 1, tzinfo=UTC), pd.Timestamp("2024-01-01"), np.datetime64("2024-01-01"), 1_704_067_200],
            ["2024-01-01", 1_704_067_200.5, date(2024, 1, 1), datetime(2024, 1, 1, microsecond=5)],
        ),
        (ValueType.BOOL, [True, np.False_, 1, 0], ["true", 1.0, 2]),
        (ValueType.INT32, [1, 1.0, np.int64(-5)], [2**31, 1.5, True, "1", Decimal(1)]),
        (ValueType.BYTES, [b"a"], ["a", 97]),
    ],
)
def test_a_key_is_of_its_type(dtype, same, others):
    require_keys({"k": same}, {"k": dtype})
    for value in others:
        with pytest.raises(DataError, match=r"join key 'k' of entity row 1 is .* give it as one"):
            require_keys({"k": [same[0], value]}, {"k": dtype})


def test_a_join_key_beside_its_other_name_is_left_to_feast(store):
    service = store.get_feature_service("mapped_v1")
    both = {"driver": ["ann"], "stop": [1], "last_stop": [2]}
    ours = store.get_online_features(service, both)
    assert not isinstance(ours, ColumnarResponse)
    assert ours.to_dict() == feasts(store, service, both).to_dict()


def test_a_response_keeps_what_it_has_read(store):
    write(store, "trips", {"driver": ["carl"], "count": [1], "mean": [0.0]})
    before = store.get_online_features(["trips:count"], {"driver": ["carl"]})
    write(store, "trips", {"driver": ["carl"], "count": [2], "mean": [0.0]}, NOON + HOUR)
    assert before.proto.results[1].values[0].int64_val == 1
    assert before.to_dict()["count"] == [1]
    assert store.get_online_features(["trips:count"], {"driver": ["carl"]}).to_dict()["count"] == [2]


def test_on_demand_views_are_feasts(tmp_path, online_path):
    now = RequestSource(name="now", schema=[Field(name="factor", dtype=Int64)])

    @on_demand_feature_view(sources=[trips, now], schema=[Field(name="times", dtype=Float64)])
    def more(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"times": (rows["count"] * rows["factor"]).astype("float64")})

    store = store_at(tmp_path, online_path, [driver, trips, more])
    write(store, "trips", {"driver": ["ann"], "count": [3], "mean": [0.5]})
    found = store.get_online_features(["trips:count", "more:times"], {"driver": ["ann"], "factor": [5]})
    assert found.to_dict() == {"driver": ["ann"], "count": [3], "times": [15.0]}
    plain = store.get_online_features(["trips:count"], {"driver": ["ann"], "factor": [5]})
    same(plain, feasts(store, ["trips:count"], {"driver": ["ann"], "factor": [5]}))
