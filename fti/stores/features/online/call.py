"""A call of Feast's `get_online_features`, answered by columns; Feast's protobuf is made when somebody asks for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from struct import Struct
from typing import Any

import numpy as np
import pandas as pd
from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.online_stores.online_store import OnlineStore
from feast.online_response import TIMESTAMP_POSTFIX, OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import RepoConfig
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from fti.errors import DataError
from fti.stores.features.online import keys
from fti.stores.features.online.nested import MICROS, moment, plain
from fti.stores.features.online.reading import Group, LayoutOf, Rows, Wanted
from fti.stores.features.online.serving import Entity
from fti.stores.features.online.shape import Array
from fti.stores.features.online.types import polars_type, tail

_INTEGER = Struct("<q").pack
_KEYS: dict[Any, tuple[type, bytes, Callable[[Any], bytes], int]] = {
    ValueType.STRING: (str, b"s", str.encode, 0),
    ValueType.INT64: (int, b"i", _INTEGER, 1 << 63),
    ValueType.INT32: (int, b"i", _INTEGER, 1 << 31),
}
"""Type of a join key -> the type of its values in Python, the tag of its part of a key, value to bytes, and what whole
numbers must be less than."""
_WHOLE = (int, np.integer)
_PLAIN: dict[ValueType, tuple[type, ...]] = {
    ValueType.STRING: (str, *_WHOLE),
    ValueType.INT64: _WHOLE,
    ValueType.INT32: _WHOLE,
    ValueType.BYTES: (bytes,),
}
"""Type of a join key -> the types of what it may be asked for with."""
_UNTYPED = {str: ValueType.STRING, int: ValueType.INT64}
Given = Mapping[str, list[Any]]
"""Join keys with their values, as the call has them."""
Asked = tuple[Any, int, Sequence[str]]
"""A feature view with its projection, its number, and the features asked of it."""


@dataclass(frozen=True)
class Call:
    """How a set of features is asked for: made once per resolved request, used by every call of it."""

    context: Sequence[Any]
    """Feast's resolved request."""
    group: Group
    entities: list[Entity]
    names: list[str]
    """Of the features, in the order of the answer."""
    features: list[tuple[int, str]]
    """Their views and own names."""
    types: dict[str, ValueType]
    """By name, for what Feast makes of a protobuf."""

    @classmethod
    def of(cls, project: str, context: Sequence[Any], asked: Sequence[Asked], full: bool, types: Any) -> Call | None:
        """None where only Feast's own way can answer: on-demand views, features that a view lacks."""
        on_demand, requested = context[1], context[6]
        owns = [{field.name: str(field.dtype) for field in view.features} for view, _, _ in asked]
        features = [(place, name) for place, (_, _, wanted) in enumerate(asked) for name in wanted]
        names = [f"{asked[place][0].projection.name_to_use()}__{name}" if full else name for place, name in features]
        if on_demand or not requested.issuperset(names) or any(name not in owns[place] for place, name in features):
            return None
        entities = [_entity(project, view) for view, _, _ in asked]
        slots = list(dict.fromkeys(entities))
        wanted = [
            Wanted(number, tuple((name, own[name]) for name in features_of_view), slots.index(entity), view.name)
            for (view, number, features_of_view), own, entity in zip(asked, owns, entities, strict=True)
        ]
        return cls(context, Group(wanted, len(slots)), slots, names, features, types)

    def given(self, entity_rows: Any) -> Given | None:
        """The join keys among `entity_rows`; None where Feast's own way has to look at them."""
        columns = _columns(entity_rows)
        if not columns or len(set(map(len, columns.values()))) != 1 or not all(columns.values()):
            return None
        _, _, names, key_types, join_keys, *_ = self.context
        known = {name: values for name, values in columns.items() if name in join_keys}
        if not known or not self._needed <= known.keys() or not self._originals.isdisjoint(known):
            return None
        if any(name in names and name not in join_keys for name in columns):
            return None  # by the entity's name, which Feast has deprecated
        return known if all(_is_plain(values, key_types.get(name)) for name, values in known.items()) else None

    def keys(self, given: Given) -> list[keys.Keys]:
        """The keys of each of `entities`."""
        parts, height = {}, len(next(iter(given.values())))
        for name in self._needed:
            _, tag, dump, _ = _KEYS[self.context[3][name]]
            parts[name] = (tag, list(map(dump, given[name])))
        return [
            keys.joined(entity.start, [parts[column] for column, _ in entity.columns], height)
            for entity in self.entities
        ]

    @cached_property
    def _needed(self) -> set[str]:
        """Columns that make keys."""
        return {column for entity in self.entities for column, _ in entity.columns}

    @cached_property
    def _originals(self) -> set[str]:
        """Join keys that go by another name here: where both are given, Feast takes the last."""
        maps = [view.projection.join_key_map for view, _ in self.context[5]]
        return {own for renamed in maps for own, other in renamed.items() if own != other}

    @cached_property
    def _loads(self) -> list[Callable[[bytes], Any]]:
        """Bytes to Python value, of the features of any length."""
        views = [view for view, _ in self.context[5]]
        dtypes = [{field.name: field.dtype for field in view.features} for view in views]
        named = dict(zip(self.features, self.names, strict=True))
        return [_load(dtypes[place][name], self.types.get(named[place, name])) for place, name in self.group.tails]

    def values(self, rows: Rows) -> list[list[Any]]:
        """The values of each feature, as Feast gives them to Python."""
        found = [column for dtype in self.group.columns for column in _lists(dtype, *rows.fixed[dtype])]
        for load, raws in zip(self._loads, rows.tails, strict=True):
            found.append([None if raw is None else load(raw) for raw in raws])
        return [found[place] for place in self._places]

    @cached_property
    def _places(self) -> list[int]:
        """Where each feature is among what was read: type by type, then those of any length."""
        read = [*chain.from_iterable(self.group.columns.values()), *self.group.tails]
        places = {feature: place for place, feature in enumerate(read)}
        return [places[feature] for feature in self.features]


@dataclass(frozen=True)
class Answered:
    """What a call has read, as the `Backend` of Feast's own way, which then reads nothing again."""

    keys: keys.Keys
    values: list[bytes | None]
    layout: LayoutOf

    def get(self, asked: Sequence[bytes]) -> list[bytes | None]:
        """The values of `asked`."""
        known = dict(zip(self.keys, self.values, strict=True))
        return [known[key] for key in asked]


class ColumnarResponse(OnlineResponse):  # type: ignore[misc]
    """Feast's response, in columns. `proto` is made, by Feast's own way, when it is first asked for."""

    def __init__(self, call: Call, given: Given, rows: Rows, proto: Callable[[], Any]) -> None:
        self._call, self._given, self._rows, self._proto = call, given, rows, proto
        self._feature_types = call.types

    @cached_property
    def proto(self) -> Any:
        """The protobuf of this response."""
        return self._proto()

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, Any]:
        """The join keys as they were given and the features; their times in seconds since 1970, 0 where unknown."""
        values = self._call.values(self._rows)
        if not include_event_timestamps:
            given = {name: list(own) for name, own in self._given.items()}
            return given | dict(zip(self._call.names, values, strict=True))
        seconds = np.where(self._rows.found, self._rows.events // MICROS, 0).T.tolist()
        answer: dict[str, Any] = {}
        for name, own in self._given.items():
            answer[name], answer[name + TIMESTAMP_POSTFIX] = list(own), [0] * len(own)
        for name, own, (place, _) in zip(self._call.names, values, self._call.features, strict=True):
            answer[name], answer[name + TIMESTAMP_POSTFIX] = own, list(seconds[place])
        return answer


def is_special(features: Any) -> bool:
    """Whether Feast does more than reading: it counts for its metrics, or has put whole vectors together before."""
    metrics = getattr(sys.modules.get("feast.metrics"), "_config", None)
    return bool(getattr(metrics, "online_features", False) or getattr(features, "precompute_online", False))


def _entity(project: str, view: Any) -> Entity:
    """What a view is asked for."""
    columns, renamed = keys.entity_columns(view), view.projection.join_key_map
    return Entity(
        keys.prefix(project, [column.name for column in columns]),
        tuple((renamed.get(column.name, column.name), polars_type(column.dtype)) for column in columns),
    )


def _columns(entity_rows: Any) -> dict[str, list[Any]]:
    """Lists by name; nothing where it is neither lists nor rows of the same names."""
    if isinstance(entity_rows, dict):
        plain = all(isinstance(values, list | tuple) for values in entity_rows.values())
        return {name: list(values) for name, values in entity_rows.items()} if plain else {}
    if (
        not isinstance(entity_rows, list)
        or not entity_rows
        or any(row.keys() != entity_rows[0].keys() for row in entity_rows)
    ):
        return {}
    return {name: [row[name] for row in entity_rows] for name in entity_rows[0]}


def _is_plain(values: list[Any], dtype: ValueType | None) -> bool:
    """Whether all values are what Feast makes the same key of as we do; a key that no view asks for has no type."""
    kind = type(values[0])
    if dtype is None:
        dtype = _UNTYPED.get(kind)
    if dtype not in _KEYS or kind is not _KEYS[dtype][0] or set(map(type, values)) != {kind}:
        return False
    limit = _KEYS[dtype][3]
    return not limit or (max(values) < limit and min(values) >= -limit)


def _load(dtype: Any, known: ValueType | None) -> Callable[[bytes], Any]:
    """How Feast gives a value of any length to Python; its times keep their microseconds."""
    if str(dtype) == "String":
        return bytes.decode
    kind = tail(dtype)
    if kind.stored != kind.polars:
        return lambda raw: plain(dtype, kind.load(raw))
    return lambda raw: feast_value_type_to_python_type(kind.to_proto(raw), known)


def require_keys(entity_rows: Any, types: Mapping[str, ValueType]) -> None:
    """DataError for a join key that Feast would make another one of: 1.5 or True the entity 1, 1.0 the text "1.0".

    Also for one that is null, of which Feast can make nothing.
    """
    for name, values in _columns(entity_rows).items():
        for place, value in enumerate(values):
            if name in types and _is_null(value):
                raise DataError(
                    f"join key {name!r} of entity row {place} is null: leave the row out, or give its entity"
                )
            if not _is_same_key(value, types.get(name)):
                raise DataError(
                    f"join key {name!r} of entity row {place} is {value!r}, and an entity by that name is "
                    f"{types[name].name}: give it as one"
                )


def _is_same_key(value: Any, dtype: ValueType | None) -> bool:
    """Whether what Feast makes of `value` is the same key; keys without a type are not looked up."""
    if isinstance(value, ValueProto) or dtype is None:
        return True
    if dtype is ValueType.UNIX_TIMESTAMP:
        return isinstance(value, (datetime, np.datetime64, *_WHOLE)) and not getattr(value, "microsecond", 0)
    if dtype is ValueType.BOOL:
        return isinstance(value, (bool, np.bool_)) or (isinstance(value, _WHOLE) and value in (0, 1))
    if dtype not in _PLAIN:
        return True
    if limit := _KEYS[dtype][3] if dtype in _KEYS else 0:
        if isinstance(value, float):
            return value.is_integer() and abs(value) < min(limit, 2**53)
        return isinstance(value, _WHOLE) and not isinstance(value, bool) and -limit <= int(value) < limit
    return isinstance(value, _PLAIN[dtype]) and not isinstance(value, bool)


def _is_null(value: Any) -> bool:
    """None, NaN, and pandas' NaT and NA; a key is no list."""
    return value is None or (not isinstance(value, ValueProto) and pd.api.types.is_scalar(value) and pd.isna(value))


def _lists(dtype: str, block: Array, valid: Array) -> list[list[Any]]:
    """The columns of `block` as Python values, None where not valid."""
    if dtype == "Bool":
        block = block.astype(bool)
    columns: list[list[Any]] = block.T.tolist()
    if dtype == "UnixTimestamp":
        columns = [list(map(moment, column)) for column in columns]
    if b"\0" in valid.tobytes():
        for row, column in zip(*(places.tolist() for places in (valid == 0).nonzero()), strict=True):
            columns[column][row] = None
    return columns


def proto_of(store: OnlineStore, config: RepoConfig, call: Call, given: Given, full_feature_names: bool) -> Any:
    """Feast's protobuf of an answer, made by Feast's own way from what `store` reads."""
    _, _, names, key_types, _, grouped, _, _, has_no_entity = call.context
    values = {
        name: python_values_to_proto_values(own, key_types.get(name, ValueType.UNKNOWN)) for name, own in given.items()
    }
    response = GetOnlineFeaturesResponse(results=[])
    utils._populate_result_rows_from_columnar(response, values)
    if has_no_entity:
        values[DUMMY_ENTITY_ID] = [ValueProto(string_val=DUMMY_ENTITY_VAL)] * len(next(iter(values.values())))
    store._read_features_per_fv(config, grouped, values, names, response, full_feature_names, False)
    return response
