"""What is read online equals what lies in the lake, whatever its type and whichever way it went; else it is refused."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    Float32,
    Float64,
    Int32,
    Int64,
    Set,
    String,
    Struct,
    UnixTimestamp,
)
from feast.value_type import ValueType

from fti.errors import DataError
from fti.stores.features.store import FeatureStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MOMENT = datetime(1969, 12, 31, 23, 59, 58, 123457, tzinfo=UTC)
NAN, INF = float("nan"), float("inf")
SERVICE = "kinds_v1"
stop = Entity(name="stop", join_keys=["stop"], value_type=ValueType.INT64)
ZONED = pl.Datetime("us", "Europe/Berlin")

EQUAL: dict[str, tuple[Any, Any, list[Any]]] = {
    "int8": (Int32, pl.Int8, [-128, 127, None]),
    "uint32": (Int64, pl.UInt32, [2**32 - 1, 0, None]),
    "uint64": (Int64, pl.UInt64, [2**63 - 1, 0, None]),
    "int64": (Int64, pl.Int64, [2**53 + 1, -(2**63), None]),
    "float64": (Float64, pl.Float64, [NAN, INF, -0.0, -INF, 1e-300, None]),
    "float32": (Float32, pl.Float32, [NAN, 0.1, -0.0, -INF, None]),
    "rounded": (Float32, pl.Float64, [0.1, NAN, INF, None]),
    "whole": (Int64, pl.Float64, [7.0, None, -0.0]),
    "flag": (Bool, pl.Boolean, [True, False, None]),
    "bit": (Bool, pl.Int64, [1, 0, None]),
    "decimal": (Decimal, pl.Decimal(38, 2), [Number("10.10"), Number("-123456789012345678901234.56"), None]),
    "amount": (Float64, pl.Decimal(10, 2), [Number("0.10"), None]),
    "text": (String, pl.String, ["", "null", "NA", "NaN", "Zürich\x00", None]),
    "category": (String, pl.Categorical, ["a", "", None]),
    "enum": (String, pl.Enum(["b", "a"]), ["a", "b", None]),
    "bytes": (Bytes, pl.Binary, [b"", b"\x00\xff", None]),
    "day": (UnixTimestamp, pl.Date, [date(1, 1, 1), date(9999, 12, 31), None]),
    "milliseconds": (UnixTimestamp, pl.Datetime("ms"), [datetime(1969, 1, 1, 0, 0, 0, 1000), None]),
    "time": (UnixTimestamp, pl.Datetime("us", "UTC"), [MOMENT, NOON, None]),
    "nanoseconds": (UnixTimestamp, pl.Datetime("ns", "UTC"), [MOMENT, None]),
    "zoned": (UnixTimestamp, ZONED, [datetime(2024, 10, 27, 0, 30, tzinfo=UTC), None]),
    "ints": (Array(Int64), pl.List(pl.Int64), [[1, None, 2**53 + 1], [], None, [None]]),
    "small": (Array(Int32), pl.List(pl.UInt8), [[255, None], None]),
    "floats": (Array(Float64), pl.List(pl.Float64), [[NAN, None, -0.0, INF], [], None]),
    "vector": (Array(Float32), pl.Array(pl.Float32, 2), [[0.1, NAN], None]),
    "flags": (Array(Bool), pl.List(pl.Boolean), [[True, None, False], [], None]),
    "texts": (Array(String), pl.List(pl.String), [["", None, "null"], [], None]),
    "blobs": (Array(Bytes), pl.List(pl.Binary), [[b"\x00", None], [], None]),
    "times": (Array(UnixTimestamp), pl.List(pl.Datetime("us", "UTC")), [[MOMENT, None, NOON], [], None, [NOON]]),
    "set": (Set(Int64), pl.List(pl.Int64), [[5, 4], [], None]),
    "struct": (
        Struct({"x": Int64, "t": UnixTimestamp, "l": Array(Int64)}),
        pl.Struct({"x": pl.Int64, "t": pl.Datetime("us", "UTC"), "l": pl.List(pl.Int64)}),
        [{"x": 2**53 + 1, "t": MOMENT, "l": [1, None]}, {"x": None, "t": None, "l": []}, None],
    ),
}

REFUSED: dict[str, tuple[Any, Any, list[Any], str]] = {
    "half": (Int64, pl.Float64, [1.0, 1.5], "1.5"),
    "nan": (Int64, pl.Float64, [1.0, NAN], "nan"),
    "two": (Bool, pl.Int64, [1, 2], "2"),
    "overflow": (Float32, pl.Float64, [1.0, 1e300], "1e+300"),
    "underflow": (Float32, pl.Float64, [1.0, 1e-60], "1e-60"),
    "unsigned": (Int64, pl.UInt64, [1, 2**63], str(2**63)),
    "narrow": (Int32, pl.Int64, [1, 2**31], str(2**31)),
    "double": (Float64, pl.Int64, [1, 2**53 + 1], str(2**53 + 1)),
    "number": (Int64, pl.String, ["7", "8"], "'7'"),
    "text": (String, pl.Int64, [7, 8], "7"),
    "float_text": (String, pl.Float64, [7.0, 8.0], "7.0"),
    "epoch": (UnixTimestamp, pl.Int64, [0, 1], "0"),
    "count": (Int64, pl.Datetime("us", "UTC"), [NOON, NOON], "2026"),
    "span": (Int64, pl.Duration("us"), [timedelta(1), timedelta(2)], "timedelta"),
    "ints": (Array(Int32), pl.List(pl.Int64), [[1], [None, 2**31]], str(2**31)),
    "struct": (Struct({"x": Int64}), pl.Struct({"x": pl.Float64}), [{"x": 1.0}, {"x": 1.5}], "1.5"),
}


def opened(folder: Path, online_path: str, features: dict[str, Any], key: Any = Int64, **options: Any) -> FeatureStore:
    """A store with the view `kinds` of `features`, whose rows lie in `kinds.parquet`."""
    entity = Entity(name="stop", join_keys=["stop"], value_type=key.to_value_type())
    view = FeatureView(
        name="kinds",
        entities=[entity],
        schema=[Field(name="stop", dtype=key), *(Field(name=name, dtype=dtype) for name, dtype in features.items())],
        source=FileSource(name="kinds", path="kinds", timestamp_field="event_timestamp"),
        **options,
    )
    (folder / "feature_store.yaml").write_text(
        "project: test\nprovider: local\nentity_key_serialization_version: 3\n"
        f"registry: {{registry_type: sql, path: 'sqlite:///{folder}/registry.db'}}\n"
        f"offline_store: {{type: fti.stores.features.offline.store.PolarsOfflineStore, root: '{folder}'}}\n"
        f"online_store: {{type: fti.stores.features.online.store.PackedOnlineStore, path: '{online_path}'}}\n"
    )
    store = FeatureStore(folder, str(folder), str(folder), f"sqlite:///{folder}/registry.db", online_path)
    store.feast.apply([entity, view, FeatureService(name=SERVICE, features=[view])])
    return store


def lake(folder: Path, columns: dict[str, pl.Series], keys: pl.Series | None = None) -> pl.DataFrame:
    """Rows in the lake: one entity each, the same moment."""
    height = len(next(iter(columns.values())))
    keys = pl.Series("stop", range(height), pl.Int64) if keys is None else keys
    rows = pl.DataFrame([keys, *(values.alias(name) for name, values in columns.items())])
    rows = rows.with_columns(pl.lit(NOON, pl.Datetime("us", "UTC")).alias("event_timestamp"))
    (folder / "kinds").mkdir(exist_ok=True)
    rows.write_parquet(folder / "kinds" / "2026-01-01.parquet")
    return rows


def materialize(store: FeatureStore, way: str, rows: pl.DataFrame) -> None:
    """Bring `rows`, which lie in the lake, online."""
    if way == "own":
        store.materialize(SERVICE, NOON - timedelta(1), NOON)
    elif way == "frame":
        store.write_online(SERVICE, {"kinds": rows})
    elif way == "feast":
        store.feast.materialize(NOON - timedelta(1), NOON)
    else:
        store.feast.write_to_online_store("kinds", rows.to_pandas())


def plain(value: Any) -> Any:
    """A value of Feast's answer as polars gives it; NaN and -0.0 by their text."""
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return repr(value) if isinstance(value, float) else value


@pytest.mark.parametrize("way", ["own", "frame", "feast"])
@pytest.mark.parametrize("name", EQUAL)
def test_online_equals_offline(tmp_path: Path, name: str, way: str) -> None:
    dtype, own, values = EQUAL[name]
    store = opened(tmp_path, str(tmp_path / "online.db"), {name: dtype})
    given = pl.Series(name, values, pl.Datetime("us", "UTC") if own == ZONED else own).cast(own)
    rows = lake(tmp_path, {name: given})
    materialize(store, way, rows)
    asked = rows.select("stop", "event_timestamp")
    offline = store.historical(SERVICE, asked)[name]
    online = store.online(SERVICE, asked)[name]
    alone = pl.concat([store.online(SERVICE, part)[name] for part in asked.iter_slices(1)])
    assert repr(alone.to_list()) == repr(online.to_list())
    assert online.dtype == offline.dtype
    assert online.eq_missing(offline).all(), (online.to_list(), offline.to_list())
    assert repr(online.to_list()) == repr(offline.to_list()), "-0.0 too"
    feasts = store.feast.get_online_features([f"kinds:{name}"], {"stop": list(range(len(values)))}).to_dict()[name]
    expected = offline.to_list()
    if name == "decimal":
        expected = [None if text is None else Number(text) for text in expected]
    if name == "set":
        expected = [None if items is None else sorted(items) for items in expected]
    assert plain(feasts) == plain(expected)


@pytest.mark.redis
def test_all_types_at_once_on_redis(tmp_path: Path, empty_redis: str) -> None:
    store = opened(tmp_path, empty_redis, {name: dtype for name, (dtype, _, _) in EQUAL.items()})
    columns = {}
    for name, (_, own, values) in EQUAL.items():
        given = pl.Series(name, values, pl.Datetime("us", "UTC") if own == ZONED else own).cast(own)
        columns[name] = given.extend_constant(None, 6 - len(given))
    rows = lake(tmp_path, columns)
    materialize(store, "own", rows)
    asked = rows.select("stop", "event_timestamp").sample(fraction=1.0, shuffle=True, seed=1)
    online, offline = store.online(SERVICE, asked), store.historical(SERVICE, asked)
    for name in EQUAL:
        assert online[name].eq_missing(offline[name]).all(), name


@pytest.mark.parametrize("way", ["own", "frame", "feast", "push", "offline"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_the_declared_type_cannot_hold_is_refused_by_name(tmp_path: Path, name: str, way: str) -> None:
    dtype, own, values, shown = REFUSED[name]
    if (name, way) == ("nan", "push"):
        pytest.skip("pandas has NaN for what is missing")
    store = opened(tmp_path, str(tmp_path / "online.db"), {name: dtype})
    rows = lake(tmp_path, {name: pl.Series(name, values, own)})
    asked = rows.select("stop", "event_timestamp")
    with pytest.raises(DataError) as error:
        store.historical(SERVICE, asked) if way == "offline" else materialize(store, way, rows)
    for part in ("kinds", repr(name), shown, "stop 0" if shown == repr(values[0]) else "stop"):
        assert part in str(error.value)
    assert len(str(error.value)) < 600
    if way != "offline":
        assert store.online(SERVICE, asked.drop("event_timestamp"))[name].null_count() == 2, "nothing was written"


def test_pushed_rows_keep_whole_numbers_and_refuse_those_that_pandas_has_changed(tmp_path: Path) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"count": Int64, "times": Array(UnixTimestamp)})
    times = [[MOMENT, None], []]
    exact = pd.DataFrame({"stop": [1, 2], "count": pd.array([2**53 + 1, None], "Int64"), "times": times})
    store.feast.write_to_online_store("kinds", exact.assign(event_timestamp=NOON))
    found = store.feast.get_online_features(["kinds:count", "kinds:times"], {"stop": [1, 2]}).to_dict()
    assert found["count"] == [2**53 + 1, None]
    assert found["times"] == times
    rounded = pd.DataFrame({"stop": [1, 2], "count": [2**53 + 1, None], "times": [None, None]})
    with pytest.raises(DataError, match="'count'"):
        store.feast.write_to_online_store("kinds", rounded.assign(event_timestamp=NOON))


def test_a_time_that_feasts_protobuf_cannot_hold_is_refused_there(tmp_path: Path) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"at": UnixTimestamp, "all": Array(UnixTimestamp)})
    one, many = pl.Series([MOMENT, NOON]), pl.Series([[NOON, None], [MOMENT]])
    rows = lake(
        tmp_path, {"at": one.cast(pl.Datetime("us", "UTC")), "all": many.cast(pl.List(pl.Datetime("us", "UTC")))}
    )
    materialize(store, "own", rows)
    for feature, place in (("at", 0), ("all", 1)):
        answer = store.feast.get_online_features([f"kinds:{feature}"], {"stop": [place]})
        with pytest.raises(DataError, match="whole second"):
            answer.proto  # noqa: B018
        whole = store.feast.get_online_features([f"kinds:{feature}"], {"stop": [1 - place]})
        assert len(whole.proto.results) == 2


KEYS: list[tuple[Any, pl.Series, list[Any]]] = [
    (Int64, pl.Series("stop", [1.0, 1.5, NAN, -1.0, None]), [10, None, None, 30, None]),
    (Int64, pl.Series("stop", [1, 200], pl.UInt8), [10, None]),
    (Int64, pl.Series("stop", [2**64 - 1, 1], pl.UInt64), [None, 10]),
    (Int32, pl.Series("stop", [2**32 + 1, 1], pl.Int64), [None, 10]),
    (String, pl.Series("stop", ["", "1", "01", None]), [20, 10, None, None]),
]


@pytest.mark.parametrize(("key", "asked", "wanted"), KEYS)
def test_a_key_finds_the_entity_that_is_equal_or_none(
    tmp_path: Path, key: Any, asked: pl.Series, wanted: list[Any]
) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64}, key)
    own = ["1", "", "-1"] if key == String else [1, 0, -1]
    dtype = pl.Int32 if key == Int32 else None
    rows = lake(tmp_path, {"n": pl.Series([10, 20, 30])}, pl.Series("stop", own, dtype))
    materialize(store, "own", rows)
    frame = pl.DataFrame([asked]).with_columns(pl.lit(NOON, pl.Datetime("us", "UTC")).alias("event_timestamp"))
    online = store.online(SERVICE, frame)
    assert online["n"].to_list() == wanted
    assert online["missing_views"].to_list() == [[] if found else ["kinds"] for found in wanted]
    assert store.historical(SERVICE, frame)["n"].to_list() == wanted


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        (Int64, pl.Series("stop", [True])),
        (Int64, pl.Series("stop", ["1"])),
        (Int64, pl.Series("stop", [float(2**53)])),
        (String, pl.Series("stop", [1])),
        (String, pl.Series("stop", [True])),
    ],
)
def test_a_key_of_another_kind_is_refused_by_name(tmp_path: Path, key: Any, asked: pl.Series) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64}, key)
    own = pl.Series("stop", ["1"]) if key == String else pl.Series("stop", [1])
    materialize(store, "own", lake(tmp_path, {"n": pl.Series([10])}, own))
    frame = pl.DataFrame([asked]).with_columns(pl.lit(NOON, pl.Datetime("us", "UTC")).alias("event_timestamp"))
    for ask in (store.online, store.historical):
        with pytest.raises(DataError, match="'stop'"):
            ask(SERVICE, frame)


@pytest.mark.parametrize("value", [1.5, True, "1", float(2**53)])
def test_feasts_call_finds_no_other_entity(tmp_path: Path, value: Any) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64})
    materialize(store, "own", lake(tmp_path, {"n": pl.Series([10])}, pl.Series("stop", [1])))
    ask = store.feast.get_online_features
    for given in ({"stop": [value]}, [{"stop": value}]):
        with pytest.raises(DataError, match="'stop'"):
            ask(["kinds:n"], given)
    assert ask(["kinds:n"], {"stop": [1.0]}).to_dict()["n"] == [10]


@pytest.mark.parametrize("way", ["own", "frame", "feast", "push"])
def test_rows_without_entity_are_told_and_hold_up_no_other(tmp_path: Path, way: str, caplog: Any) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64})
    keys = pl.Series("stop", [1, None, 3, None], pl.Int64)
    rows = lake(tmp_path, {"n": pl.Series([10, 20, 30, 40])}, keys)
    if way == "push":
        frame = rows.to_pandas().assign(stop=pd.array([1, None, 3, None], "Int64"))
        store.feast.write_to_online_store("kinds", frame)
    else:
        materialize(store, way, rows)
    found = store.online(SERVICE, pl.DataFrame({"stop": [1, 3]}))
    assert found["n"].to_list() == [10, 30]
    (told,) = [record.getMessage() for record in caplog.records if "stop" in record.getMessage()]
    for part in ("kinds", "2 rows", "'stop'", "2026-01-01T12:00"):
        assert part in told


@pytest.mark.parametrize("way", ["own", "frame", "feast"])
def test_of_rows_of_one_moment_the_later_written_wins(tmp_path: Path, way: str) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64})
    keys = pl.Series("stop", [place % 7 for place in range(700)])
    rows = lake(tmp_path, {"n": pl.Series(range(700))}, keys)
    materialize(store, way, rows)
    asked = pl.DataFrame({"stop": range(7)}).with_columns(event_timestamp=pl.lit(NOON, pl.Datetime("us", "UTC")))
    assert store.online(SERVICE, asked)["n"].to_list() == list(range(693, 700))
    assert store.historical(SERVICE, asked)["n"].to_list() == list(range(693, 700))


@pytest.mark.parametrize("key", [Float64, Float32])
def test_a_key_that_tells_no_entities_apart_is_refused_when_declared(tmp_path: Path, key: Any) -> None:
    with pytest.raises(DataError, match="join key 'stop' is Float"):
        opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64}, key)


def test_entities_that_are_times_are_whole_seconds(tmp_path: Path) -> None:
    store = opened(tmp_path, str(tmp_path / "online.db"), {"n": Int64}, UnixTimestamp)
    half = NOON + timedelta(milliseconds=500)
    keys = pl.Series("stop", [NOON], pl.Datetime("us", "UTC"))
    materialize(store, "own", lake(tmp_path, {"n": pl.Series([10])}, keys))
    asked = pl.DataFrame({"stop": pl.Series([NOON, half], dtype=pl.Datetime("us", "UTC"))})
    assert store.online(SERVICE, asked)["n"].to_list() == [10, None]
    with pytest.raises(DataError, match="whole seconds"):
        store.write_online(SERVICE, {"kinds": asked.with_columns(n=pl.lit(1), event_timestamp=pl.lit(NOON))})
    with pytest.raises(DataError, match="'stop'"):
        store.feast.get_online_features(["kinds:n"], {"stop": [half]})
