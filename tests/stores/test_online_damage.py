"""What is damaged in the online store is told and never used; materializing again mends it."""

import random
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import redis
from feast.types import Array, Float32, Int64, String

from fti.errors import DataError
from fti.project import Freshness
from fti.stores.features.online.layout import Layout
from fti.stores.features.online.sections import HEADER
from fti.stores.features.store import FeatureStore
from tests.stores.test_online_values import NOON, SERVICE, lake, materialize, opened

ENTITIES = 40
NUMBERS = {"a": Float32, "b": Int64}
TEXTS = {**NUMBERS, "text": String, "items": Array(Int64)}
ASKED = pl.DataFrame({"stop": range(ENTITIES)})


def filled(folder: Path, online_path: str, features: dict) -> tuple[FeatureStore, pl.DataFrame]:
    """A store with rows of all entities online, and these rows."""
    store = opened(folder, online_path, features)
    columns = {
        "a": pl.Series([place / 3 for place in range(ENTITIES)], dtype=pl.Float32),
        "b": pl.Series([None if place % 5 == 0 else place << 40 for place in range(ENTITIES)], dtype=pl.Int64),
        "text": pl.Series([f"text {place}" * (place % 3) for place in range(ENTITIES)]),
        "items": pl.Series([[place, None] for place in range(ENTITIES)]),
    }
    rows = lake(folder, {name: columns[name] for name in features})
    materialize(store, "own", rows)
    return store, rows


def flip(value: bytes, bit: int) -> bytes:
    """`value` with one other bit."""
    found = bytearray(value)
    found[bit >> 3] ^= 1 << (bit & 7)
    return bytes(found)


@pytest.mark.parametrize("features", [NUMBERS, TEXTS], ids=["numbers", "texts"])
def test_a_flipped_bit_in_a_row_is_told_and_mended_by_materializing(tmp_path: Path, features: dict) -> None:
    store, rows = filled(tmp_path, str(tmp_path / "online.db"), features)
    whole = store.online(SERVICE, ASKED)
    draw = random.Random(0)
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as connection:
        stored = dict(connection.execute("SELECT key, value FROM entities"))
        for number in range(60):
            key = draw.choice(sorted(stored))
            bit = number if number < 8 else draw.randrange(8 * len(stored[key]))
            connection.execute("UPDATE entities SET value = ? WHERE key = ?", (flip(stored[key], bit), key))
            stop = int.from_bytes(key[-8:], "little")
            for asked in (ASKED, ASKED.filter(stop=stop)):
                with pytest.raises(DataError) as error:
                    store.online(SERVICE, asked)
                for part in (f"stop {stop}", "kinds", "Materialize"):
                    assert part in str(error.value)
            with pytest.raises(DataError, match=f"stop {stop} "):
                store.feast.get_online_features(["kinds:a"], {"stop": [stop]}).to_dict()
            assert store.online(SERVICE, ASKED.filter(pl.col("stop") != stop)).equals(
                whole.filter(ASKED["stop"] != stop)
            )
            materialize(store, "own", rows)
            assert store.online(SERVICE, ASKED).equals(whole), bit


def test_a_row_under_another_key_is_told(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM entities ORDER BY key")]
        value = connection.execute("SELECT value FROM entities WHERE key = ?", (keys[3],)).fetchone()[0]
        connection.execute("UPDATE entities SET value = ? WHERE key = ?", (value, keys[1]))
    with pytest.raises(DataError, match="stop 1 "):
        store.online(SERVICE, ASKED)
    assert store.online(SERVICE, pl.DataFrame({"stop": [3]}))["a"].to_list() == [1.0]


def test_sections_that_are_zeros_or_cut_off_are_told(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as connection:
        key, value = connection.execute("SELECT key, value FROM entities ORDER BY key").fetchone()
        for damaged in (bytes(len(value)), value[:-8], value[:20], value + value[:-8], value + bytes(8), bytes(8)):
            connection.execute("UPDATE entities SET value = ? WHERE key = ?", (damaged, key))
            for asked in (ASKED, ASKED.head(1)):
                with pytest.raises(DataError, match="stop 0 "):
                    store.online(SERVICE, asked)


@pytest.mark.parametrize("features", [NUMBERS, TEXTS], ids=["numbers", "texts"])
def test_a_flipped_bit_in_the_file_never_gives_another_value(tmp_path: Path, features: dict) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), features)
    whole = store.online(SERVICE, ASKED)
    store._backend.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store._backend.close()
    file = tmp_path / "online.db"
    content = file.read_bytes()
    draw = random.Random(1)
    starts = [found.start() for found in re.finditer(re.escape(b'["test","stop"]'), content)]
    told = 0
    for _ in range(60):
        place = draw.choice(starts) + draw.randrange(100)
        file.write_bytes(flip(content, 8 * place + draw.randrange(8)))
        fresh = FeatureStore(tmp_path, str(tmp_path), str(tmp_path), f"sqlite:///{tmp_path}/registry.db", str(file))
        try:
            found = fresh.online(SERVICE, ASKED)
        except DataError as error:
            told += "stop" in str(error) or str(file) in str(error)
        else:
            lacking = found["missing_views"].list.len() > 0
            assert found.filter(~lacking).equals(whole.filter(~lacking))
        finally:
            fresh._backend.close()
    assert told > 30


@pytest.mark.redis
def test_a_damaged_row_is_told_on_redis(tmp_path: Path, empty_redis: str) -> None:
    store, rows = filled(tmp_path, empty_redis, TEXTS)
    whole = store.online(SERVICE, ASKED)
    draw = random.Random(2)
    with redis.Redis.from_url(empty_redis) as client:
        keys = sorted(key for key in client.scan_iter() if b"stop" in key)
        for _ in range(12):
            key = draw.choice(keys)
            value = client.get(key)
            body = 8 * HEADER.size + draw.randrange(8 * (len(value) - HEADER.size))
            client.set(key, flip(value, body))
            with pytest.raises(DataError, match=f"stop {int.from_bytes(key[-8:], 'little')} "):
                store.online(SERVICE, ASKED)
            materialize(store, "own", rows)
            assert store.online(SERVICE, ASKED).equals(whole)


def test_a_damaged_layout_is_told(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    store._backend.close()
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as connection:
        connection.execute("UPDATE layouts SET features = replace(features, 'Float32', 'Int32')")
    fresh = FeatureStore(tmp_path, str(tmp_path), str(tmp_path), store.registry, store.online_store)
    with pytest.raises(DataError):
        fresh.online(SERVICE, ASKED)


def test_the_check_of_completeness_tells_too(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as connection:
        connection.execute("UPDATE entities SET value = zeroblob(80) WHERE key = (SELECT max(key) FROM entities)")
    with pytest.raises(DataError, match="damaged"):
        store.missing_online(SERVICE, NOON - timedelta(1), NOON)


def test_rows_without_a_checksum_from_before_are_read_until_they_are_written_again(tmp_path: Path) -> None:
    store, rows = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    whole = store.online(SERVICE, ASKED)
    before = Layout.of([("a", "Float32"), ("b", "Int64")])
    before = Layout(before.features, checked=False)
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as connection:
        connection.execute("INSERT INTO layouts VALUES (?, ?)", (before.fingerprint, before.json.decode()))
        for key, value in connection.execute("SELECT key, value FROM entities").fetchall()[::2]:
            view, _, _, event, created = HEADER.unpack_from(value)
            body = value[HEADER.size : HEADER.size + 1] + value[HEADER.size + 8 : HEADER.size + 20]
            head = HEADER.pack(view, HEADER.size + len(body), before.fingerprint, event, created)
            connection.execute("UPDATE entities SET value = ? WHERE key = ?", (head + body, key))
    assert store.online(SERVICE, ASKED).equals(whole)
    materialize(store, "own", rows)
    assert store.online(SERVICE, ASKED).equals(whole)
    with sqlite3.connect(tmp_path / "online.db") as connection:
        assert {len(value) for (value,) in connection.execute("SELECT value FROM entities")} == {64}


def test_a_moment_before_the_newest_row_is_flagged(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    moments = [NOON, NOON - timedelta(microseconds=1), datetime(2020, 1, 1, tzinfo=UTC)]
    asked = pl.DataFrame({"stop": [1, 2, 3], "event_timestamp": moments})
    found = store.online(SERVICE, asked)
    assert found["later_views"].to_list() == [[], ["kinds"], ["kinds"]]
    assert "later_views" not in store.online(SERVICE, asked.head(1)).columns
    assert "later_views" not in store.online(SERVICE, asked.drop("event_timestamp")).columns
    unknown = store.online(SERVICE, pl.DataFrame({"stop": [999], "event_timestamp": moments[2:]}))
    assert "later_views" not in unknown.columns


@pytest.mark.redis
@pytest.mark.parametrize("length", [0, 16, 2**31])
def test_a_damaged_length_does_not_hang_redis_and_is_mended(tmp_path: Path, empty_redis: str, length: int) -> None:
    store, rows = filled(tmp_path, empty_redis, NUMBERS)
    whole = store.online(SERVICE, ASKED)
    with redis.Redis.from_url(empty_redis, socket_timeout=5) as client:
        key = min(key for key in client.scan_iter() if b"stop" in key)
        value = client.get(key)
        client.set(key, b"\0" * 8 + length.to_bytes(4, "little") + value[12:])
        with pytest.raises(DataError, match="damaged"):
            store.online(SERVICE, ASKED)
        materialize(store, "own", rows)
    assert store.online(SERVICE, ASKED).equals(whole)


def test_a_default_that_its_feature_cannot_hold_is_refused(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, str(tmp_path / "online.db"), NUMBERS)
    long_ago = pl.DataFrame({"stop": [1], "event_timestamp": [NOON + timedelta(days=2)]})

    def answer(value: object) -> list[object]:
        policy = Freshness(max_age=timedelta(days=1), on_stale="default", defaults={"b": value})
        return store.online(SERVICE, long_ago, {"kinds": policy})["b"].to_list()

    assert answer(7.0) == [7]
    with pytest.raises(DataError, match=r"'b'.*1\.5"):
        answer(1.5)
