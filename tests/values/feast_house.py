"""A feature repository with one view per kind of value, in files, and two online stores: FTI's way in and Feast's."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import feast
import polars as pl
from feast import types

from fti.stores.features.store import FeatureStore
from tests.values.kinds import Kind

YAML = """
project: values
provider: local
registry: {registry_type: sql, path: ""}
offline_store: {type: fti.stores.features.offline.store.PolarsOfflineStore}
online_store: {type: fti.stores.features.online.store.PackedOnlineStore}
entity_key_serialization_version: 3
"""
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SCALARS = {
    pl.Int8: types.Int32,
    pl.Int16: types.Int32,
    pl.Int32: types.Int32,
    pl.Int64: types.Int64,
    pl.Int128: types.Int64,
    pl.UInt8: types.Int32,
    pl.UInt16: types.Int32,
    pl.UInt32: types.Int64,
    pl.UInt64: types.Int64,
    pl.Float32: types.Float32,
    pl.Float64: types.Float64,
    pl.Decimal: types.Decimal,
    pl.Boolean: types.Bool,
    pl.String: types.String,
    pl.Categorical: types.String,
    pl.Enum: types.String,
    pl.Binary: types.Bytes,
    pl.Date: types.UnixTimestamp,
    pl.Datetime: types.UnixTimestamp,
    pl.Duration: types.Int64,
    pl.Time: types.Int64,
}
"""The type of Feast that comes nearest: it has none of its own for the small integers, dates and durations."""


def feast_type(dtype: Any) -> Any:
    """The nearest of Feast's types."""
    if isinstance(dtype, pl.List | pl.Array):
        return types.Array(feast_type(dtype.inner))
    if isinstance(dtype, pl.Struct):
        return types.Struct({field.name: feast_type(field.dtype) for field in dtype.fields})
    return SCALARS[dtype.base_type() if isinstance(dtype, pl.DataType) else dtype]


class House:
    """Feature views `k0`, `k1`, ... of `kinds`, each with a feature service of its name, and two ways online."""

    def __init__(self, folder: Path, kinds: Iterable[Kind]) -> None:
        self.folder = folder
        (folder / "feature_store.yaml").write_text(YAML)
        self.names = {kind.name: f"k{place}" for place, kind in enumerate(kinds)}
        self.ways = {way: self._store(way) for way in ("fti", "feast")}
        self.views: dict[str, Any] = {}

    def carry_offline(self, kind: Kind, values: pl.Series, *, many: bool) -> pl.Series:
        """The values as features of rows that are asked for a minute after."""
        name = self._declared(kind, values)
        return pl.concat(self.ways["fti"].historical(name, part)["value"] for part in _parts(len(values), many))

    def carry_online(self, kind: Kind, values: pl.Series, *, many: bool) -> pl.Series:
        """By FTI's materialization and reading."""
        name = self._declared(kind, values)
        self.ways["fti"].materialize(name, NOON - timedelta(days=1), NOON + timedelta(days=1))
        return pl.concat(self.ways["fti"].online(name, part)["value"] for part in _parts(len(values), many))

    def carry_feast(self, kind: Kind, values: pl.Series, *, many: bool) -> list[Any]:
        """By Feast's own `materialize` and `get_online_features`, values as Python has them."""
        name = self._declared(kind, values)
        store = self.ways["feast"].feast
        with redirect_stdout(StringIO()):
            store.materialize(NOON - timedelta(days=1), NOON + timedelta(days=1), feature_views=[name])
        found: list[Any] = []
        for part in _parts(len(values), many):
            entities = [{"id": number} for number in part["id"].to_list()]
            found += store.get_online_features([f"{name}:value"], entities).to_dict()["value"]
        return found

    def _declared(self, kind: Kind, values: pl.Series) -> str:
        name = self.names[kind.name]
        self._write(name, values)
        if name not in self.views:
            view, service = self._objects(name, kind)
            for way in self.ways.values():
                way.feast.apply([self.entity, view, service])
            self.views[name] = view
        return name

    entity = feast.Entity(name="id", join_keys=["id"], value_type=feast.ValueType.INT64)

    def _objects(self, name: str, kind: Kind) -> tuple[Any, Any]:
        source = feast.FileSource(name=name, path=f"{name}.parquet", timestamp_field="at")
        schema = [feast.Field(name="id", dtype=types.Int64), feast.Field(name="value", dtype=feast_type(kind.dtype))]
        view = feast.FeatureView(name=name, entities=[self.entity], schema=schema, source=source)
        return view, feast.FeatureService(name=name, features=[view])

    def _write(self, name: str, values: pl.Series) -> None:
        rows = _asked(len(values)).rename({"event_timestamp": "at"})
        rows = rows.with_columns(pl.col("at") - timedelta(minutes=1), values.alias("value"))
        path = self.folder / f"{name}.parquet"
        rows.write_parquet(path.with_suffix(".aside"))
        path.with_suffix(".aside").rename(path)

    def _store(self, way: str) -> FeatureStore:
        root = self.folder / way
        root.mkdir()
        return FeatureStore(
            self.folder, str(root), str(self.folder), f"sqlite:///{root}/registry.db", str(root / "online.db")
        )


def _asked(number: int) -> pl.DataFrame:
    moment = pl.lit(NOON, pl.Datetime("us", "UTC")).alias("event_timestamp")
    return pl.DataFrame({"id": range(number)}, schema={"id": pl.Int64}).with_columns(moment)


def _parts(number: int, many: bool) -> list[pl.DataFrame]:
    asked = _asked(number)
    return [asked] if many else [asked[at : at + 1] for at in range(number)]
