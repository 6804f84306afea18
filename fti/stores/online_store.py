"""A Feast online store on SQLite: a table per feature view, a row per entity, a column per feature.

Feast's own SQLite store keeps a row per feature value, a protobuf each, and lets an older row overwrite a newer one.
Here a whole entity is one row of plain values, which any SQLite tool can show, and the newest row wins whatever the
order of writing. Write-ahead logging lets one process write while others read.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson
import polars as pl
from feast.entity import Entity
from feast.feature_view import FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from pydantic import field_validator

EVENT, CREATED = "event_ts", "created_ts"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES: dict[str, tuple[str, Any]] = {
    "Int32": ("INTEGER", pl.Int32),
    "Int64": ("INTEGER", pl.Int64),
    "Float32": ("REAL", pl.Float32),
    "Float64": ("REAL", pl.Float64),
    "Bool": ("INTEGER", pl.Boolean),
    "String": ("TEXT", pl.String),
    "Bytes": ("BLOB", pl.Binary),
}
"""Feast type -> column type, polars type."""


class TableOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`online_store:` in `feature_store.yaml`."""

    type: Literal["fti.stores.online_store.TableOnlineStore"] = "fti.stores.online_store.TableOnlineStore"
    path: str = "online.db"

    @field_validator("path")
    @classmethod
    def _make_folder(cls, path: str) -> str:
        """The folder is made here, so that the registry beside it can be opened in a fresh clone."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return path


@dataclass(frozen=True)
class ViewTable:
    """The table of one feature view and its statements. Keys and features map a column to its Feast type."""

    name: str
    keys: Mapping[str, str]
    features: Mapping[str, str]

    @classmethod
    def of(cls, config: RepoConfig, view: FeatureView) -> ViewTable:
        name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
        keys = {column.name: str(column.dtype) for column in view.entity_columns}
        return cls(name, keys, {feature.name: str(feature.dtype) for feature in view.features})

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names in the order of `write`."""
        return (*self.keys, EVENT, CREATED, *self.features)

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Polars type of every feature."""
        return {feature: TYPES[dtype][1] for feature, dtype in self.features.items()}

    @cached_property
    def key_schema(self) -> dict[str, Any]:
        """Polars type of every key."""
        return {key: TYPES[dtype][1] for key, dtype in self.keys.items()}

    def filled(self, connection: sqlite3.Connection) -> bool:
        """Whether any entity is online."""
        return connection.execute(f"SELECT 1 FROM {_quote(self.name)} LIMIT 1").fetchone() is not None

    def create(self, connection: sqlite3.Connection) -> None:
        """Make the table, or add the features that it lacks."""
        keys = ", ".join(f"{_quote(key)} {TYPES[dtype][0]}" for key, dtype in self.keys.items())
        primary = ", ".join(_quote(key) for key in self.keys)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {_quote(self.name)} "
            f"({keys}, {EVENT} INTEGER NOT NULL, {CREATED} INTEGER, PRIMARY KEY ({primary})) WITHOUT ROWID"
        )
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({_quote(self.name)})")}
        for feature, dtype in self.features.items():
            if feature not in present:
                connection.execute(f"ALTER TABLE {_quote(self.name)} ADD COLUMN {_quote(feature)} {TYPES[dtype][0]}")

    @cached_property
    def upsert(self) -> str:
        """Statement that keeps the newer row."""
        values = [EVENT, CREATED, *(_quote(feature) for feature in self.features)]
        return (
            f"INSERT INTO {_quote(self.name)} ({', '.join(_quote(column) for column in self.columns)}) "
            f"VALUES ({', '.join('?' * len(self.columns))}) "
            f"ON CONFLICT ({', '.join(_quote(key) for key in self.keys)}) DO UPDATE SET "
            f"{', '.join(f'{value} = excluded.{value}' for value in values)} "
            f"WHERE (excluded.{EVENT}, coalesce(excluded.{CREATED}, 0)) >= ({EVENT}, coalesce({CREATED}, 0))"
        )

    def select(self, features: Iterable[str]) -> str:
        """Statement with one parameter, a JSON list of keys: (place in the list, event time, feature, ...)."""
        chosen = ", ".join(f"t.{_quote(feature)}" for feature in features)
        where = " AND ".join(f"t.{_quote(key)} = asked.value ->> {place}" for place, key in enumerate(self.keys))
        return (
            f"SELECT asked.key, t.{EVENT}, {chosen} FROM json_each(?) AS asked "
            f"CROSS JOIN {_quote(self.name)} AS t WHERE {where}"
        )


class TableOnlineStore(OnlineStore):  # type: ignore[misc]
    """Feast's online store interface on `ViewTable`s. Connections belong to threads and stay open."""

    def __init__(self) -> None:
        self._local = threading.local()

    def connection(self, config: RepoConfig) -> sqlite3.Connection:
        """This thread's connection; transactions are explicit."""
        path = database(config)
        if getattr(self._local, "path", None) != path:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._local.connection = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._local.connection.execute("PRAGMA journal_mode = WAL")
            self._local.connection.execute("PRAGMA synchronous = NORMAL")
            self._local.path = path
        connection: sqlite3.Connection = self._local.connection
        return connection

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Make the tables of views to keep, drop those of views to delete."""
        with transaction(self.connection(config)) as connection:
            for view in tables_to_keep:
                ViewTable.of(config, view).create(connection)
            for view in tables_to_delete:
                connection.execute(f"DROP TABLE IF EXISTS {_quote(ViewTable.of(config, view).name)}")

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Drop the tables."""
        self.update(config, tables, (), entities, (), partial=False)

    def write(self, config: RepoConfig, table: ViewTable, rows: Iterable[Sequence[Any]]) -> None:
        """Upsert rows in the order of `table.columns`, times as microseconds since 1970, in one transaction."""
        with transaction(self.connection(config)) as connection:
            connection.executemany(table.upsert, rows)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKeyProto, dict[str, ValueProto], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's own way in."""
        view = ViewTable.of(config, table)
        rows = []
        for entity, values, event, created in data:
            keys = dict(zip(entity.join_keys, map(feast_value_type_to_python_type, entity.entity_values), strict=True))
            features = {name: feast_value_type_to_python_type(value) for name, value in values.items()}
            times = {EVENT: _micros(event), CREATED: None if created is None else _micros(created)}
            rows.append([(keys | times | features).get(column) for column in view.columns])
        self.write(config, view, rows)
        if progress:
            progress(len(rows))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, ValueProto] | None]]:
        """Feast's own way out."""
        view = ViewTable.of(config, table)
        features = {feature.name: feature.dtype for feature in table.features}
        names = [name for name in requested_features or features if name in features]
        keys = []
        for entity in entity_keys:
            values = dict(
                zip(entity.join_keys, map(feast_value_type_to_python_type, entity.entity_values), strict=True)
            )
            keys.append([values[key] for key in view.keys])
        answer: list[tuple[datetime | None, dict[str, ValueProto] | None]] = [(None, None)] * len(keys)
        for place, event, *row in self.connection(config).execute(view.select(names), (orjson.dumps(keys),)):
            protos = {
                name: python_values_to_proto_values([value], features[name].to_value_type())[0]
                for name, value in zip(names, row, strict=True)
            }
            answer[place] = (EPOCH + timedelta(microseconds=event), protos)
        return answer


class transaction:
    """`with transaction(connection) as connection:` commits at the end, rolls back on an exception."""

    def __init__(self, connection: sqlite3.Connection, mode: str = "IMMEDIATE") -> None:
        self._connection, self._mode = connection, mode

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute(f"BEGIN {self._mode}")
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def database(config: RepoConfig) -> Path:
    """The SQLite file; a relative path starts at the folder of `feature_store.yaml`."""
    path = Path(config.online_store.path)
    return path if path.is_absolute() or config.repo_path is None else Path(config.repo_path) / path


def _micros(moment: datetime) -> int:
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - EPOCH) // timedelta(microseconds=1)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
