"""What only Redis does: one round trip, entities that expire, a server that goes away and comes back."""

import os

import pandas as pd
import polars as pl
import pytest
import redis

from fti.errors import NotReadyError
from fti.stores.features.online.redis_backend import RedisBackend
from fti.stores.features.store import FeatureStore
from tests.redis_server import free_port, redis_server
from tests.stores.test_online_store import NOON, ROWS, driver, moods, read, store_at, trips, write

pytestmark = pytest.mark.redis


def commands(client):
    """Commands that clients sent, by name."""
    stats = {name.removeprefix("cmdstat_"): own["calls"] for name, own in client.info("commandstats").items()}
    return {name: calls for name, calls in stats.items() if not name.startswith(("info", "client", "config", "hello"))}


def test_many_entities_and_several_views_take_one_command(tmp_path, empty_redis):
    from feast import FeatureService

    service = FeatureService(name="both_v1", features=[trips, moods])
    store = store_at(tmp_path, empty_redis, [driver, trips, moods, service])
    write(store, "trips", {"driver": [f"d{n}" for n in range(500)], "count": [1] * 500, "mean": [0.5] * 500})
    write(store, "moods", {"driver": ["d1"], "mood": ["calm"], "happy": [True]})
    asked = [f"d{n}" for n in range(510)]
    (tmp_path / "feature_store.yaml").write_text(YAML)
    registry = f"sqlite:///{tmp_path}/registry.db"
    own = FeatureStore(tmp_path, str(tmp_path), str(tmp_path), registry, empty_redis)
    own.online("both_v1", pl.DataFrame({"driver": ["d1"]}))
    read(store, service, driver=["d1"])
    with redis.Redis.from_url(empty_redis) as client:
        client.config_resetstat()
        frame = own.online("both_v1", pl.DataFrame({"driver": asked}))
        assert commands(client) == {"mget": 1}
        answer = read(store, service, driver=asked)
        assert commands(client) == {"mget": 2}
    assert frame["count"].to_list() == answer["count"] == [1] * 500 + [None] * 10
    assert frame["mood"].to_list() == answer["mood"]
    assert frame["missing_views"][1].to_list() == []
    assert frame["missing_views"][509].to_list() == ["trips", "moods"]


YAML = """
project: test
provider: local
registry: {registry_type: sql}
offline_store: {type: fti.stores.features.offline.store.PolarsOfflineStore}
online_store: {type: fti.stores.features.online.store.PackedOnlineStore}
entity_key_serialization_version: 3
"""


def test_entities_expire_together_with_what_is_known_of_their_views(tmp_path, empty_redis):
    store = store_at(tmp_path, empty_redis, [driver, trips])
    store.config.online_store.key_ttl_seconds = 1000
    write(store, "trips", ROWS)
    with redis.Redis.from_url(empty_redis) as client:
        keys = client.keys()
        assert len(keys) == 3
        assert all(0 < client.ttl(key) <= 1000 for key in keys)
        for key in keys:
            client.expire(key, 0)
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [None]


def test_a_server_that_is_away_is_a_clear_error_and_its_return_is_noticed(tmp_path):
    port = free_port()
    url = f"redis://:secret@127.0.0.1:{port}/0?socket_connect_timeout=1"
    store = store_at(tmp_path, url, [driver, trips])
    with pytest.raises(NotReadyError, match="does not answer") as caught:
        read(store, ["trips:count"], driver=["ann"])
    assert "secret" not in str(caught.value)
    for count in (1, 2):
        with redis_server(port) as plain:
            with redis.Redis.from_url(plain) as client:
                client.config_set("requirepass", "secret")
            write(store, "trips", {"driver": ["ann"], "count": [count], "mean": [0.0]})
            assert read(store, ["trips:count"], driver=["ann"])["count"] == [count]
        with pytest.raises(NotReadyError, match="FTI_ONLINE_STORE_URI"):
            write(store, "trips", ROWS)


def test_concurrent_writers_leave_the_newest_row(tmp_path, empty_redis):
    from concurrent.futures import ThreadPoolExecutor

    store = store_at(tmp_path, empty_redis, [driver, trips])
    drivers = [f"d{n}" for n in range(50)]

    def send(minute):
        moment = NOON + pd.Timedelta(minutes=minute)
        write(store, "trips", {"driver": drivers, "count": [minute] * 50, "mean": [0.0] * 50}, moment)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, [7, 3, 19, 11, 2, 18, 5, 13]))
    assert read(store, ["trips:count"], driver=drivers)["count"] == [19] * 50


def test_a_connection_that_the_server_has_closed_costs_no_answer(tmp_path, empty_redis):
    store = store_at(tmp_path, empty_redis, [driver, trips])
    write(store, "trips", {"driver": ["ann"], "count": [1], "mean": [0.0]})
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [1]
    with redis.Redis.from_url(empty_redis) as client:
        assert client.client_kill_filter(_type="normal", skipme=True) > 0
    assert read(store, ["trips:count"], driver=["ann"])["count"] == [1]


def test_a_forked_process_reads_on_connections_of_its_own(empty_redis):
    backend = RedisBackend(empty_redis, "test", None)
    backend.client.set("key", "value")
    assert backend.get([b"key"]) == [b"value"]
    child = os.fork()
    if child == 0:
        answered = False
        try:
            answered = backend.get([b"key"] * 3) == [b"value"] * 3
        finally:
            os._exit(0 if answered else 1)  # this process is a copy of pytest
    assert backend.get([b"key"] * 2) == [b"value"] * 2
    assert os.waitpid(child, 0)[1] == 0
    backend.close()


def test_many_threads_read_at_once(empty_redis):
    from concurrent.futures import ThreadPoolExecutor

    backend = RedisBackend(empty_redis, "test", None)
    names = [str(number).encode() for number in range(200)]
    backend.client.mset({name: name for name in names})
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda name: backend.get([name, name]), names * 5)) == [[name, name] for name in names * 5]
    backend.close()
