"""How a feature service is read online: made once, used by every request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from polars._plr import PyDataFrame

from fti.stores.features.online import keys
from fti.stores.features.online.backend import Backend
from fti.stores.features.online.freshness import Freshness, Limits, limits_of, outdated
from fti.stores.features.online.reading import Group, Rows, Wanted
from fti.stores.features.online.served import ServedView
from fti.stores.features.online.types import FIXED, polars_type
from fti.times import UTC_TIME

MISSING, STALE, LATER = "missing_views", "stale_views", "later_views"
NAMES = pl.List(pl.String)


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
            ages = moments[:, None] - found.events
            outside = ages.view(np.uint64) > limits.max_age  # unsigned, what is below 0 is above all limits
            if not found.complete:
                outside &= found.found
            if _any(outside):
                later = outside & (ages < 0)
                stale = outside & ~later
                found = outdated(self.group, found, stale, limits)
        missing = None if found.complete else ~found.found
        flags = [self._named(MISSING, missing, rows.height), self._named(STALE, stale, rows.height)]
        if later is not None and _any(later):
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
        if self._ordered:
            ((dtype, own),) = found.fixed.items()
            return frame_of(dtype, *own, self.group.names[dtype], flags)
        frames = [frame_of(dtype, *own, self.group.names[dtype]) for dtype, own in found.fixed.items()]
        columns = {series.name: series for frame in frames for series in frame.get_columns()}
        for (view, name), raws in zip(self.group.tails, found.tails, strict=True):
            columns[name] = self.views[view].series(name, raws)
        return pl.DataFrame([*(columns[name] for name in self.types), *flags])

    def _named(self, column: str, flags: np.ndarray[Any, Any] | None, height: int) -> pl.Series:
        """The names of the views whose flag is set, by row, in the order of the service."""
        if flags is None or not _any(flags):
            return _nothing(column, height)
        rows, places = flags.nonzero()
        ends = np.searchsorted(rows, np.arange(height + 1))
        names = pa.array([self.views[place].name for place in places.tolist()], pa.large_string())
        return pl.Series(column, pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), names))


def _any(flags: np.ndarray[Any, Any]) -> bool:
    """`flags.any()`, in a fifth of the time for some rows."""
    return b"\1" in flags.tobytes()


def stored(backend: Backend, asked: Sequence[keys.Keys]) -> tuple[keys.Keys, list[bytes | None]]:
    """The keys of rows, each of which has one of each of `asked`, and their values, all read at once."""
    encoded = asked[0] if len(asked) == 1 else list(chain.from_iterable(zip(*asked, strict=True)))
    distinct = set(encoded)
    if None not in distinct and len(distinct) == len(encoded):
        return encoded, backend.get(encoded)  # type: ignore[arg-type]
    there = [key for key in distinct if key is not None]
    values = dict(zip(there, backend.get(there), strict=True))
    return encoded, [None if key is None else values[key] for key in encoded]


def entity_of(served: ServedView) -> Entity:
    """What a view is asked for."""
    return Entity(served.start, tuple(zip(served.columns, served.key_types, strict=True)))


@lru_cache(maxsize=64)
def _nothing(column: str, height: int) -> pl.Series:
    """A column of empty lists."""
    return pl.Series(column, [[]], NAMES).new_from_index(0, height)


def frame_of(
    dtype: str,
    values: np.ndarray[Any, Any],
    valid: np.ndarray[Any, Any],
    names: Sequence[str],
    more: Sequence[pl.Series] = (),
) -> pl.DataFrame:
    """[rows, columns] to a frame whose columns are slices of one Arrow buffer, with `more` behind them."""
    complete = b"\0" not in valid.tobytes()
    bits = None if complete else pa.py_buffer(np.packbits(valid.T, bitorder="little"))
    buffers = [bits, pa.py_buffer(values.T.reshape(-1))]
    series = pl.Series(names[0], pa.Array.from_buffers(FIXED[dtype].arrow, values.size, buffers))
    return sliced(series.cast(pl.Boolean) if dtype == "Bool" else series, names, len(values), more)


def sliced(series: pl.Series, names: Sequence[str], height: int, more: Sequence[pl.Series] = ()) -> pl.DataFrame:
    """The columns that lie in `series` one after the other, and `more`, as a frame.

    Inside polars' own objects, since a Python object and two calls per column were the largest part of a read.
    """
    columns, own = [], series._s
    for place, name in enumerate(names):
        column = own.slice(place * height, height)
        column.rename(name)
        columns.append(column)
    columns.extend(own._s for own in more)
    return pl.DataFrame._from_pydf(PyDataFrame(columns))


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
