"""How a feature service is read online: made once, used by every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fti.errors import DataError
from fti.project import Freshness
from fti.stores.online import keys
from fti.stores.online.backend import Backend
from fti.stores.online.reading import Group, Rows, Wanted
from fti.stores.online.types import FIXED, UTC_TIME, Tail, polars_type, tail

MISSING, STALE, LATER = "missing_views", "stale_views", "later_views"
NAMES = pl.List(pl.String)
FOREVER = 2**62
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
        return {name: kind.load for name, kind in self._tails.items()}

    @cached_property
    def features(self) -> dict[str, Any]:
        """Feast's features by name, in the order of the service."""
        own = {feature.name: feature for feature in self.view.features}
        return {name: own[name] for name in self.types}

    @cached_property
    def _tails(self) -> dict[str, Tail]:
        return {name: tail(own.dtype) for name, own in self.features.items() if str(own.dtype) not in FIXED}

    def series(self, name: str, raws: Sequence[Any]) -> pl.Series:
        """A feature of any length as a column; what is not bytes is a value already."""
        if self.types[name] is None:
            raise DataError(f"feature {self.name}:{name} has no polars type; read it with get_online_features")
        load, dtype, stored = self.loads[name], self.types[name], self._tails[name].stored
        if stored == dtype:
            return pl.Series(name, [load(raw) if isinstance(raw, bytes) else raw for raw in raws], dtype)
        defaults = pl.Series(name, [None if isinstance(raw, bytes) else raw for raw in raws], dtype)
        return defaults.fill_null(
            pl.Series(name, [load(raw) if isinstance(raw, bytes) else None for raw in raws], stored).cast(dtype)
        )


@dataclass(frozen=True)
class Limits:
    """How old the values of a plan's views may be."""

    max_age: np.ndarray[Any, Any]
    """Microseconds, view by view."""
    defaults: list[Mapping[str, Any]]
    """What takes the place of older values, where there is something."""


@dataclass(frozen=True)
class Entity:
    """What some views of a service are asked for: the columns that make a key."""

    start: bytes
    columns: tuple[tuple[str, Any], ...]
    """Columns of the entity rows and their types, in the order of the sorted join keys."""


class ServicePlan:
    """The views of one feature service and the entities that they share."""

    def __init__(self, views: Sequence[ServedView]) -> None:
        entities = list(dict.fromkeys(map(entity_of, views)))
        self.views = list(views)
        self.types = {name: dtype for served in views for name, dtype in served.types.items()}
        self.group = Group(
            [replace(served.wanted, slot=entities.index(entity_of(served))) for served in views], len(entities)
        )
        self._entities = entities
        self._columns = list(dict.fromkeys(column for entity in entities for column in entity.columns))
        self._ordered = len(self.group.names) == 1 and not self.group.tails
        """Whether the features come out in their order."""
        self._limits: tuple[Mapping[str, Freshness], Limits] | None = None

    def read(
        self, backend: Backend, rows: pl.DataFrame, moments: np.ndarray[Any, Any] | None, fresh: Mapping[str, Freshness]
    ) -> pl.DataFrame:
        """The features of `rows`, with `missing_views` and `stale_views`, and `later_views` where there are some;
        `moments` are microseconds."""
        found, stale, later = self._fetch(backend, rows), None, None
        if moments is not None:
            limits = self.limits(fresh)
            later = found.events > moments[:, None]
            late = found.events < moments[:, None] - limits.max_age
            if not found.complete:
                late &= found.found
            if late.any():
                found, stale = outdated(self.group, found, late, limits), late
        missing = None if found.complete else ~found.found
        flags = [self._named(MISSING, missing, rows.height), self._named(STALE, stale, rows.height)]
        if later is not None and later.any():
            flags.append(self._named(LATER, later, rows.height))
        return self._frame(found, flags)

    def limits(self, fresh: Mapping[str, Freshness]) -> Limits:
        """How old the views may be: the project's policies, or their TTL."""
        if self._limits is None or self._limits[0] is not fresh:
            self._limits = (fresh, limits_of(self.views, fresh))
        return self._limits[1]

    def events(self, backend: Backend, rows: pl.DataFrame) -> pl.DataFrame:
        """When the values of each view (a column) happened; null where nothing is online."""
        found, columns = self._fetch(backend, rows), []
        for place, served in enumerate(self.views):
            events = pl.Series(served.name, found.events[:, place]).cast(UTC_TIME)
            columns.append(events.set(pl.Series(~found.found[:, place]), None))
        return pl.DataFrame(columns)

    def _fetch(self, backend: Backend, rows: pl.DataFrame) -> Rows:
        """What is online, all read at once."""
        parts = {column: keys.part(rows.get_column(column[0]), column[1]) for column in self._columns}
        asked = [
            keys.joined(entity.start, [parts[column] for column in entity.columns], rows.height)
            for entity in self._entities
        ]
        encoded, values = stored(backend, asked)
        return self.group.decode(values, backend.layout, encoded)

    def _frame(self, found: Rows, flags: list[pl.Series]) -> pl.DataFrame:
        """The features in their order and the flags."""
        frames = [frame_of(dtype, *own, self.group.names[dtype]) for dtype, own in found.fixed.items()]
        if self._ordered:
            return frames[0].hstack(flags)
        columns = {series.name: series for frame in frames for series in frame.get_columns()}
        for (view, name), raws in zip(self.group.tails, found.tails, strict=True):
            columns[name] = self.views[view].series(name, raws)
        return pl.DataFrame([*(columns[name] for name in self.types), *flags])

    def _named(self, column: str, flags: np.ndarray[Any, Any] | None, height: int) -> pl.Series:
        """The names of the views whose flag is set, by row, in the order of the service."""
        if flags is None or not flags.any():
            return _nothing(column, height)
        rows, places = flags.nonzero()
        ends = np.searchsorted(rows, np.arange(height + 1))
        names = pa.array([self.views[place].name for place in places.tolist()], pa.large_string())
        return pl.Series(column, pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), names))


def stored(backend: Backend, asked: Sequence[keys.Keys]) -> tuple[keys.Keys, list[bytes | None]]:
    """The keys of rows, each of which has one of each of `asked`, and their values, all read at once."""
    encoded = asked[0] if len(asked) == 1 else list(chain.from_iterable(zip(*asked, strict=True)))
    distinct = dict.fromkeys(encoded)
    if None not in distinct and len(distinct) == len(encoded):
        return encoded, backend.get(encoded)  # type: ignore[arg-type]
    there = [key for key in distinct if key is not None]
    values = dict(zip(there, backend.get(there), strict=True))
    return encoded, [None if key is None else values[key] for key in encoded]


def entity_of(served: ServedView) -> Entity:
    """What a view is asked for."""
    return Entity(served.start, tuple(zip(served.columns, served.key_types, strict=True)))


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
    """The policies of the views."""
    policies = [policy_of(served, fresh.get(served.name)) for served in views]
    ages = [own.max_age // _MICROSECOND if own.max_age else FOREVER for own in policies]
    return Limits(np.array(ages), [own.defaults for own in policies])


def outdated(group: Group, rows: Rows, stale: np.ndarray[Any, Any], limits: Limits) -> Rows:
    """`rows` without their stale values: defaults where there are some, null elsewhere."""
    fixed = {}
    for dtype, (values, valid) in rows.fixed.items():
        defaults = [limits.defaults[place].get(name) for place, name in group.columns[dtype]]
        given = np.array([default is not None for default in defaults])
        filled = np.array([0 if default is None else default for default in defaults], values.dtype)
        old = stale[:, [place for place, _ in group.columns[dtype]]]
        fixed[dtype] = (np.where(old, filled, values), np.where(old, given, valid))
    tails: list[list[Any]] = []
    for (place, name), raws in zip(group.tails, rows.tails, strict=True):
        default = limits.defaults[place].get(name)
        tails.append([default if old else raw for raw, old in zip(raws, stale[:, place].tolist(), strict=True)])
    return replace(rows, fixed=fixed, tails=tails)


@lru_cache(maxsize=64)
def _nothing(column: str, height: int) -> pl.Series:
    """A column of empty lists."""
    return pl.Series(column, [[]], NAMES).new_from_index(0, height)


def frame_of(
    dtype: str, values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], names: Sequence[str]
) -> pl.DataFrame:
    """[rows, columns] to a frame whose columns are slices of one Arrow buffer."""
    complete = b"\0" not in valid.tobytes()
    bits = None if complete else pa.py_buffer(np.packbits(valid.T, bitorder="little"))
    buffers = [bits, pa.py_buffer(values.T.reshape(-1))]
    series = pl.Series(names[0], pa.Array.from_buffers(FIXED[dtype].arrow, values.size, buffers))
    return sliced(series.cast(pl.Boolean) if dtype == "Bool" else series, names, len(values))


def sliced(series: pl.Series, names: Sequence[str], height: int) -> pl.DataFrame:
    """The columns that lie in `series` one after the other, as a frame.

    Inside polars' own objects, since a Python object and two calls per column were the largest part of a read.
    """
    columns = []
    for place, name in enumerate(names[1:], 1):
        column = series._s.slice(place * height, height)
        column.rename(name)
        columns.append(column)
    return pl.DataFrame._from_pydf(series.slice(0, height).to_frame()._df.hstack(columns))


def served_view(project: str, view: Any, view_number: int, projection: Any) -> ServedView:
    """`view`, which has the projection of a feature service."""
    keys.require_types(view)
    entity_columns = keys.entity_columns(view)
    features = {feature.name: feature.dtype for feature in projection.features}
    return ServedView(
        view=view,
        start=keys.prefix(project, [column.name for column in entity_columns]),
        columns=tuple(projection.join_key_map.get(column.name, column.name) for column in entity_columns),
        key_types=tuple(polars_type(column.dtype) for column in entity_columns),
        wanted=Wanted(view_number, tuple((name, str(dtype)) for name, dtype in features.items()), name=view.name),
        types={name: polars_type(dtype) for name, dtype in features.items()},
    )
