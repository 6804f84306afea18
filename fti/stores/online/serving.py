"""How a feature service is read online: made once, used by every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fti.errors import DataError
from fti.project import Freshness
from fti.stores.online import keys
from fti.stores.online.backend import Backend
from fti.stores.online.reading import Group, Rows, Wanted
from fti.stores.online.types import FIXED, UTC_TIME, polars_type, tail

MISSING, STALE = "missing_views", "stale_views"
NAMES = pl.List(pl.String)
FOREVER = 2**62
_NONE = np.zeros((0, 0), bool)
"""No flag is set."""
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class ServedView:
    """A feature view as one feature service reads it."""

    view: Any
    """The `feast.FeatureView`, with the service's projection."""
    start: bytes
    """Prefix of its entities' keys."""
    columns: tuple[str, ...]
    """Columns of the entity rows, in the order of the sorted join keys."""
    key_types: tuple[Any, ...]
    wanted: Wanted
    types: dict[str, Any]
    """Feature -> polars type, in the order of the service."""

    @property
    def name(self) -> str:
        return str(self.view.name)

    @cached_property
    def loads(self) -> dict[str, Callable[[bytes], Any]]:
        """Feature of any length -> bytes to Python value."""
        types = {feature.name: feature.dtype for feature in self.view.features}
        return {name: tail(types[name]).load for name, _ in self.wanted.tails}

    def series(self, name: str, raws: Sequence[Any]) -> pl.Series:
        """A feature of any length as a column; what is not bytes is a value already."""
        if self.types[name] is None:
            raise DataError(f"feature {self.name}:{name} has no polars type; read it with get_online_features")
        load = self.loads[name]
        return pl.Series(name, [load(raw) if isinstance(raw, bytes) else raw for raw in raws], self.types[name])


@dataclass(frozen=True)
class Limits:
    """How old the values of a group's views may be, view by view."""

    max_age: np.ndarray[Any, Any]
    """Microseconds."""
    defaults: list[Mapping[str, Any]]
    """What takes the place of older values, where there is something."""


@dataclass(frozen=True)
class Asked:
    """Views of a service that are asked for the same entities."""

    start: bytes
    columns: tuple[str, ...]
    types: tuple[Any, ...]
    views: list[ServedView]
    group: Group

    def keys(self, rows: pl.DataFrame) -> list[bytes | None]:
        """The entities of `rows`."""
        return keys.of_frame(self.start, rows, self.columns, self.types)


class ServicePlan:
    """The views of one feature service, grouped by the entities they share."""

    def __init__(self, views: Sequence[ServedView]) -> None:
        self.views = list(views)
        self.types = {name: dtype for served in views for name, dtype in served.types.items()}
        together: dict[tuple[Any, ...], list[ServedView]] = {}
        for served in views:
            together.setdefault((served.start, served.columns, served.key_types), []).append(served)
        self._asked = [
            Asked(start, columns, types, own, Group([served.wanted for served in own]))
            for (start, columns, types), own in together.items()
        ]
        self._limits: tuple[Mapping[str, Freshness], list[Limits]] | None = None

    def read(
        self, backend: Backend, rows: pl.DataFrame, moments: np.ndarray[Any, Any] | None, fresh: Mapping[str, Freshness]
    ) -> pl.DataFrame:
        """The features of `rows`, with `missing_views` and `stale_views`; `moments` are microseconds."""
        found = self._fetch(backend, rows)
        stale = [_NONE] * len(found)
        if moments is not None:
            for place, (asked, limits) in enumerate(zip(self._asked, self.limits(fresh), strict=True)):
                late = found[place].found & (found[place].events < moments[:, None] - limits.max_age)
                if late.any():
                    stale[place] = late
                    found[place] = outdated(asked, found[place], late, limits)
        columns = self._columns(found, rows.height)
        missing = [_NONE if own.found.all() else ~own.found for own in found]
        flags = [self._named(MISSING, missing, rows.height), self._named(STALE, stale, rows.height)]
        return pl.DataFrame([*columns, *flags])

    def limits(self, fresh: Mapping[str, Freshness]) -> list[Limits]:
        """How old the views of each group may be: the project's policies, or their TTL."""
        if self._limits is None or self._limits[0] is not fresh:
            self._limits = (fresh, [limits_of(own.views, fresh) for own in self._asked])
        return self._limits[1]

    def events(self, backend: Backend, rows: pl.DataFrame) -> pl.DataFrame:
        """When the values of each view (a column) happened; null where nothing is online."""
        columns = {}
        for asked, own in zip(self._asked, self._fetch(backend, rows), strict=True):
            for place, served in enumerate(asked.views):
                events = pl.Series(served.name, own.events[:, place]).cast(UTC_TIME)
                columns[served.name] = events.set(pl.Series(~own.found[:, place]), None)
        return pl.DataFrame([columns[served.name] for served in self.views])

    def _fetch(self, backend: Backend, rows: pl.DataFrame) -> list[Rows]:
        """What is online of each group, all read at once."""
        encoded = [asked.keys(rows) for asked in self._asked]
        distinct = [list(dict.fromkeys(own)) for own in encoded]
        there: list[Any] = [[key for key in own if key is not None] if None in own else own for own in distinct]
        values = backend.get(there[0] if len(there) == 1 else [key for own in there for key in own])
        found, first = [], 0
        for asked, all_keys, own, known in zip(self._asked, encoded, distinct, there, strict=True):
            part: list[bytes | None] = values[first : first + len(known)]
            first += len(known)
            if len(known) < len(own):
                part.insert(own.index(None), None)
            answer = asked.group.decode(part, backend.layout)
            if len(own) < len(all_keys):
                index = {key: place for place, key in enumerate(own)}
                answer = answer.take(np.array([index[key] for key in all_keys]))
            found.append(answer)
        return found

    def _columns(self, found: Sequence[Rows], height: int) -> list[pl.Series]:
        """The features in their order. Columns of one type share one buffer."""
        columns: list[Any] = [None] * len(self.types)
        for dtype, (names, places) in self._places.items():
            blocks = [own.fixed[dtype] for own in found if dtype in own.fixed]
            values, valid = blocks[0]
            if len(blocks) > 1:
                values = np.concatenate([block for block, _ in blocks], axis=1)
                valid = np.concatenate([present for _, present in blocks], axis=1)
            for place, series in zip(places, split(dtype, values, valid, names, height), strict=True):
                columns[place] = series
        order = list(self.types)
        for asked, own in zip(self._asked, found, strict=True):
            for (view, name), raws in zip(asked.group.tails, own.tails, strict=True):
                columns[order.index(name)] = asked.views[view].series(name, raws)
        return columns

    @cached_property
    def _places(self) -> dict[str, tuple[list[str], list[int]]]:
        """Type of fixed width -> its features in the order of the groups, and their places in the answer."""
        order = list(self.types)
        names = {dtype: [name for asked in self._asked for name in asked.group.names.get(dtype, ())] for dtype in FIXED}
        return {dtype: (own, [order.index(name) for name in own]) for dtype, own in names.items() if own}

    def _named(self, column: str, flags: Sequence[np.ndarray[Any, Any]], height: int) -> pl.Series:
        """The names of the views whose flag is set, by row, in the order of the service."""
        if all(own is _NONE for own in flags):
            return _nothing(column, height)
        lists: list[list[str]] = [[] for _ in range(height)]
        flag = {
            served.name: own[:, place]
            for asked, own in zip(self._asked, flags, strict=True)
            for place, served in enumerate(asked.views if own is not _NONE else ())
        }
        for served in self.views:
            for row in np.flatnonzero(flag.get(served.name, ())).tolist():
                lists[row].append(served.name)
        return pl.Series(column, lists, NAMES)


@dataclass(frozen=True)
class Policy:
    """How old a view's values may be, and what happens to older ones."""

    max_age: timedelta | None
    """None: they never are too old."""
    on_stale: str
    defaults: Mapping[str, Any]


def policy_of(served: ServedView, freshness: Freshness | None) -> Policy:
    """The policy of a view, checked against its schema and TTL; without one, its TTL."""
    ttl = served.view.ttl or None
    if freshness is None:
        return Policy(ttl, "null", {})
    if ttl and freshness.max_age > ttl:
        raise DataError(
            f"freshness of {served.name}: max_age {freshness.max_age} is over the view's ttl {ttl}; "
            "training never sees values that old, so serve none"
        )
    unknown = freshness.defaults.keys() - served.types.keys()
    if unknown:
        raise DataError(f"freshness of {served.name}: defaults for {', '.join(sorted(unknown))}, which it has not")
    return Policy(freshness.max_age, freshness.on_stale, freshness.defaults)


def limits_of(views: Sequence[ServedView], fresh: Mapping[str, Freshness]) -> Limits:
    """The policies of the views of one group."""
    policies = [policy_of(served, fresh.get(served.name)) for served in views]
    ages = [own.max_age // _MICROSECOND if own.max_age else FOREVER for own in policies]
    return Limits(np.array(ages), [own.defaults for own in policies])


def outdated(asked: Asked, rows: Rows, stale: np.ndarray[Any, Any], limits: Limits) -> Rows:
    """`rows` without their stale values: defaults where there are some, null elsewhere."""
    owner = {name: place for place, served in enumerate(asked.views) for name in served.types}
    fixed = {}
    for dtype, (values, valid) in rows.fixed.items():
        own_values, own_valid = values.copy(), valid.copy()
        for column, name in enumerate(asked.group.names[dtype]):
            old, default = stale[:, owner[name]], limits.defaults[owner[name]].get(name)
            own_valid[old, column] = default is not None
            own_values[old, column] = 0 if default is None else default
        fixed[dtype] = (own_values, own_valid)
    tails: list[list[Any]] = []
    for (place, name), raws in zip(asked.group.tails, rows.tails, strict=True):
        default = limits.defaults[place].get(name)
        tails.append([default if old else raw for raw, old in zip(raws, stale[:, place].tolist(), strict=True)])
    return Rows(rows.found, rows.events, fixed, tails)


@lru_cache(maxsize=64)
def _nothing(column: str, height: int) -> pl.Series:
    """A column of empty lists."""
    return pl.Series(column, [[]], NAMES).new_from_index(0, height)


def split(
    dtype: str, values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], names: Sequence[str], height: int
) -> list[pl.Series]:
    """[rows, columns] to one series per column."""
    flat = values.T.reshape(-1)
    bits = None if valid.all() else np.packbits(valid.T.reshape(-1), bitorder="little")
    buffers = [None if bits is None else pa.py_buffer(bits), pa.py_buffer(flat)]
    series = pl.Series("", pa.Array.from_buffers(FIXED[dtype].arrow, flat.size, buffers))
    if dtype == "Bool":
        series = series.cast(pl.Boolean)
    return [series.slice(place * height, height).alias(name) for place, name in enumerate(names)]


def served_view(project: str, view: Any, view_number: int, projection: Any) -> ServedView:
    """`view`, which has the projection of a feature service."""
    entity_columns = keys.entity_columns(view)
    features = {feature.name: feature.dtype for feature in projection.features}
    return ServedView(
        view=view,
        start=keys.prefix(project, [column.name for column in entity_columns]),
        columns=tuple(projection.join_key_map.get(column.name, column.name) for column in entity_columns),
        key_types=tuple(polars_type(column.dtype) for column in entity_columns),
        wanted=Wanted(view_number, tuple((name, str(dtype)) for name, dtype in features.items())),
        types={name: polars_type(dtype) for name, dtype in features.items()},
    )
