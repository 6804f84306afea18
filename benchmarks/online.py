"""Speed of the online store, against Feast's own stores and against the least that any store has to do.

    python benchmarks/online.py --out online.json

Three views of ten 32-bit features for 10,000 drivers, in Feast's SQLite store, in Feast's Redis store, in ours on both
(a real `redis-server` on a free port is started and stopped). One request asks for all thirty features of 1 or of 100
drivers. `_call` is the same call of Feast's SDK on each store, `get_online_features(...).to_dict()`; `feast_*_sdk` is
that call without `to_dict`, `ours_*` is `FeatureStore.online`, which gives a frame. `bare` makes the keys, as every
client of a request has to, reads the same packed values with one MGET or one SELECT and decodes them to the same
columns; it looks at no time, no checksum, no duplicate and no null among the keys, and trusts that all values have one
shape. All sides take turns in one run.
"""

import argparse
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fti.stores.features.store import FeatureStore

DRIVERS, VIEWS, FEATURES = 10_000, 3, 10
SERVICE = "drivers_v1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OURS = "fti.stores.features.online.store.PackedOnlineStore"
FRAME = {"as_series": False}
ROUNDS = {1: 2000, 100: 300}
FEAST_ROUNDS = {1: 300, 100: 40}


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, redis_server() as address:
        figures = measure(Path(folder), address)
    text = json.dumps(figures, indent=1)
    print(text)
    print(table(figures), file=sys.stderr)
    if arguments.out:
        arguments.out.write_text(text)


def measure(folder: Path, address: str) -> dict[str, Any]:
    """Write all stores, check that they answer the same, time them."""
    rows = {f"view_{number}": frame(number) for number in range(VIEWS)}
    places = {
        "feast_sqlite": {"type": "sqlite", "path": str(folder / "feast.db")},
        "feast_redis": {"type": "redis", "connection_string": f"{address},db=0"},
        "ours_sqlite": {"type": OURS, "path": str(folder / "ours.db")},
        "ours_redis": {"type": OURS, "path": f"redis://{address}/1"},
    }
    stores = {name: feature_store(folder / name, online) for name, online in places.items()}
    ours = {name: our_store(folder / name, places[name]) for name in ("ours_sqlite", "ours_redis")}
    writes = {name: milliseconds(partial(write, store, rows)) for name, store in stores.items()}
    writes |= {
        f"{name}_frame": milliseconds(partial(store.write_online, SERVICE, rows)) for name, store in ours.items()
    }
    figures: dict[str, Any] = {"write_10000_rows_of_3_views_ms": writes}
    for number in (1, 100):
        asked = [f"driver-{(place * 97) % DRIVERS}" for place in range(number)]
        sides = {**feast_sides(stores, asked), **our_sides(ours, asked), **bare_sides(places, asked)}
        check(sides)
        figures[f"entities_{number}"] = compare(sides, number)
    return figures


def frame(number: int) -> pl.DataFrame:
    """A view's rows, one in fifty values null."""
    random = np.random.default_rng(number)
    values = random.normal(size=(DRIVERS, FEATURES)).astype(np.float32)
    columns = {f"f{number}_{place}": values[:, place] for place in range(FEATURES)}
    rows = pl.DataFrame({"driver": [f"driver-{place}" for place in range(DRIVERS)], **columns})
    nulls = pl.Series(random.random(DRIVERS) < 0.02)
    return rows.with_columns(
        pl.when(~nulls).then(pl.col(f"f{number}_0")).alias(f"f{number}_0"),
        pl.lit(NOW - timedelta(minutes=number), pl.Datetime("us", "UTC")).alias("event_timestamp"),
    )


def feature_store(folder: Path, online: dict[str, Any]) -> Any:
    """Feast itself with this online store, registered, in a folder of its own."""
    import feast
    import yaml
    from feast import Entity, FeatureService, FeatureView, Field, FileSource
    from feast.types import Float32, String
    from feast.value_type import ValueType

    folder.mkdir()
    config = {
        "project": "bench",
        "provider": "local",
        "registry": {"registry_type": "sql", "path": f"sqlite:///{folder}/registry.db", "cache_ttl_seconds": 3600},
        "offline_store": {"type": "fti.stores.features.offline.store.PolarsOfflineStore", "root": str(folder)},
        "online_store": online,
        "entity_key_serialization_version": 3,
    }
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    store = feast.FeatureStore(repo_path=str(folder))
    driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=f"view_{number}",
            entities=[driver],
            schema=[
                Field(name="driver", dtype=String),
                *(Field(name=f"f{number}_{place}", dtype=Float32) for place in range(FEATURES)),
            ],
            source=FileSource(name=f"view_{number}", path=str(folder / "none"), timestamp_field="event_timestamp"),
            ttl=timedelta(days=365),
        )
        for number in range(VIEWS)
    ]
    store.apply([driver, *views, FeatureService(name=SERVICE, features=views)])
    return store


def our_store(folder: Path, online: dict[str, Any]) -> FeatureStore:
    """`FeatureStore` on the same state."""
    registry = f"sqlite:///{folder}/registry.db"
    return FeatureStore(folder, str(folder), str(folder), registry, online["path"])


def write(store: Any, rows: dict[str, pl.DataFrame]) -> None:
    """Write everything through Feast's SDK."""
    for view, values in rows.items():
        store.write_to_online_store(view, values.to_pandas())


def milliseconds(work: Callable[[], Any]) -> float:
    """How long `work` takes, once."""
    begun = time.perf_counter()
    work()
    return round((time.perf_counter() - begun) * 1e3, 1)


def feast_sides(stores: dict[str, Any], asked: list[str]) -> dict[str, Callable[[], Any]]:
    """Feast's SDK: on its own stores as far as its protobuf, and on each store as far as Python's values."""

    def side(store: Any) -> Callable[[], Any]:
        service, entities = store.get_feature_service(SERVICE), {"driver": asked}
        return lambda: store.get_online_features(service, entities)

    def call(store: Any) -> Callable[[], Any]:
        ask = side(store)
        return lambda: ask().to_dict()

    own = {f"{name}_sdk": side(store) for name, store in stores.items() if name.startswith("feast")}
    return own | {f"{name}_call": call(store) for name, store in stores.items()}


def our_sides(stores: dict[str, Any], asked: list[str]) -> dict[str, Callable[[], Any]]:
    """`FeatureStore.online` with the moment of prediction, so that freshness is looked at."""
    rows = pl.DataFrame({"driver": asked}).with_columns(pl.lit(NOW, pl.Datetime("us", "UTC")).alias("event_timestamp"))

    def side(store: Any) -> Callable[[], Any]:
        return lambda: store.online(SERVICE, rows)

    return {name: side(store) for name, store in stores.items()}


def bare_sides(places: dict[str, Any], asked: list[str]) -> dict[str, Callable[[], Any]]:
    """One MGET or one SELECT of the same values, decoded to the same columns and nothing more."""
    import redis

    start = b'["bench","driver"]s'
    client = redis.Redis.from_url(places["ours_redis"]["path"])
    connection = sqlite3.connect(places["ours_sqlite"]["path"])
    select = f"SELECT key, value FROM entities WHERE key IN ({', '.join('?' * len(asked))})"

    def encoded() -> list[bytes]:
        return [start + name.encode() for name in asked]

    def from_sqlite() -> pl.DataFrame:
        keys = encoded()
        found = dict(connection.execute(select, keys))
        return columns_of([found[key] for key in keys])

    return {"bare_redis": lambda: columns_of(client.mget(encoded())), "bare_sqlite": from_sqlite}


def columns_of(values: list[bytes]) -> pl.DataFrame:
    """Packed values of equal shape to a frame: views in the order in which they lie."""
    import pyarrow as pa

    table = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
    width = table.shape[1] // VIEWS
    bits = [
        np.unpackbits(table[:, at + 32 : at + 40], axis=1, count=FEATURES, bitorder="little")
        for at in range(0, width * VIEWS, width)
    ]
    floats = [
        np.ascontiguousarray(table[:, at + 40 : at + width - 8]).view("<f4") for at in range(0, width * VIEWS, width)
    ]
    flat = np.concatenate(floats, axis=1).T.reshape(-1)
    valid = np.packbits(np.concatenate(bits, axis=1).T.reshape(-1), bitorder="little")
    series = pl.Series(pa.Array.from_buffers(pa.float32(), flat.size, [pa.py_buffer(valid), pa.py_buffer(flat)]))
    number = len(values)
    return pl.DataFrame([series.slice(at * number, number).alias(str(at)) for at in range(VIEWS * FEATURES)])


def check(sides: dict[str, Callable[[], Any]]) -> None:
    """Every side has the values of Feast's SQLite store."""
    names = [f"f{number}_{place}" for number in range(VIEWS) for place in range(FEATURES)]
    expected = sides["feast_sqlite_sdk"]().to_dict()
    for side, read in sides.items():
        if side.startswith("bare"):
            found = {tuple(column) for column in read().get_columns() for column in [column.to_list()]}
            assert found == {tuple(expected[name]) for name in names}, side
        else:
            answer = read()
            values = answer if isinstance(answer, dict) else answer.to_dict(**({} if side.endswith("sdk") else FRAME))
            assert all(values[name] == expected[name] for name in names), side


def compare(sides: dict[str, Callable[[], Any]], number: int) -> dict[str, Any]:
    """Milliseconds of each side, in turns, and the ratios."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for part in range(10):
        for side, read in sides.items():
            rounds = (FEAST_ROUNDS if side.startswith("feast") else ROUNDS)[number] // 10
            for _ in range(rounds + (5 if part == 0 else 0)):
                begun = time.perf_counter()
                read()
                times[side].append((time.perf_counter() - begun) * 1e3)
    figures: dict[str, Any] = {side: summary(found) for side, found in times.items()}
    p50 = {side: figure["p50_ms"] for side, figure in figures.items()}
    pairs = [
        pair
        for place in ("sqlite", "redis")
        for pair in (
            (f"feast_{place}_sdk", f"ours_{place}"),
            (f"feast_{place}_call", f"ours_{place}_call"),
            (f"ours_{place}", f"bare_{place}"),
        )
    ]
    figures["ratios"] = {f"{one} / {other}": round(p50[one] / p50[other], 2) for one, other in pairs}
    return figures


def table(figures: dict[str, Any]) -> str:
    """The ratios, for people."""
    one, many = (figures[f"entities_{number}"]["ratios"] for number in (1, 100))
    lines = [f"{'times by p50':<40}{'1 entity':>12}{'100 entities':>14}"]
    return "\n".join([*lines, *(f"{pair:<40}{one[pair]:>12.2f}{many[pair]:>14.2f}" for pair in one)])


def summary(times: list[float]) -> dict[str, float]:
    """Quantiles."""
    ordered = sorted(times)
    return {
        "p50_ms": round(ordered[len(ordered) // 2], 4),
        "p99_ms": round(ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)], 4),
    }


@contextmanager
def redis_server() -> Iterator[str]:
    """`host:port` of a server that keeps nothing on disk."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise SystemExit("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main()
