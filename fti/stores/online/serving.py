"""How a feature service is read online: made once, used by every request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from fti.errors import DataError
from fti.project import Freshness
from fti.stores.online import keys
from fti.stores.online.backend import Backend
from fti.stores.online.reading import Rows, Wanted, decode
from fti.stores.online.types import FIXED, polars_type, tail

MISSING, STALE = "missing_views", "stale_views"
NAMES = pl.List(pl.String)
DUMMY_KEY = "__dummy_id"
"""Join key of views without an entity, as Feast writes it: always an empty text."""
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


@dataclass(frozen=True)
class Policy:
    """What happens to values of a view that are older than `max_age` microseconds; None: they never are."""

    max_age: int | None
    defaults: Mapping[str, Any]


class ServicePlan:
    """The views of one feature service, grouped by the entities they share."""

    def __init__(self, views: Sequence[ServedView]) -> None:
        self.views = list(views)
        self.types = {name: dtype for served in views for name, dtype in served.types.items()}
        self._groups: dict[tuple[Any, ...], list[int]] = {}
        for place, served in enumerate(views):
            self._groups.setdefault((served.start, served.columns, served.key_types), []).append(place)
        self._policies: tuple[Mapping[str, Freshness], list[Policy]] | None = None

    def read(
        self, backend: Backend, rows: pl.DataFrame, moments: np.ndarray[Any, Any] | None, fresh: Mapping[str, Freshness]
    ) -> pl.DataFrame:
        """The features of `rows`, with `missing_views` and `stale_views`; `moments` are microseconds."""
        found = self._fetch(backend, rows)
        stale = np.zeros((len(found), rows.height), bool)
        if moments is not None:
            for place, (policy, view) in enumerate(zip(self.policies(fresh), found, strict=True)):
                if policy.max_age is not None:
                    stale[place] = view.found & (view.events < moments - policy.max_age)
                    if stale[place].any():
                        found[place] = outdated(self.views[place], view, stale[place], policy.defaults)
        columns = self._columns(found, rows.height)
        missing = ~np.array([view.found for view in found])
        flags = [self._named(MISSING, missing), self._named(STALE, stale)]
        return pl.DataFrame([*(columns[name] for name in self.types), *flags])

    def policies(self, fresh: Mapping[str, Freshness]) -> list[Policy]:
        """The policy of each view: the project's, or its TTL."""
        if self._policies is None or self._policies[0] is not fresh:
            unknown = fresh.keys() - {served.name for served in self.views}
            if unknown:
                raise DataError(f"freshness of {', '.join(sorted(unknown))}: the service reads no such view")
            self._policies = (fresh, [policy_of(served, fresh.get(served.name)) for served in self.views])
        return self._policies[1]

    def _fetch(self, backend: Backend, rows: pl.DataFrame) -> list[Rows]:
        """What is online of each view, all read at once."""
        asked = []
        for start, columns, types in self._groups:
            if columns == (DUMMY_KEY,):
                rows = rows.with_columns(pl.lit("").alias(DUMMY_KEY))
            encoded = keys.of_frame(start, rows, columns, types)
            asked.append((encoded, list(dict.fromkeys(encoded))))
        values = iter(backend.get([key for _, distinct in asked for key in distinct if key is not None]))
        found: dict[int, Rows] = {}
        for (encoded, distinct), places in zip(asked, self._groups.values(), strict=True):
            own = [None if key is None else next(values) for key in distinct]
            views = decode(own, [self.views[place].wanted for place in places], backend.layout)
            if len(distinct) < len(encoded):
                index = {key: place for place, key in enumerate(distinct)}
                back = np.array([index[key] for key in encoded])
                views = [view.take(back) for view in views]
            found.update(zip(places, views, strict=True))
        return [found[place] for place in range(len(self.views))]

    def _columns(self, found: Sequence[Rows], height: int) -> dict[str, pl.Series]:
        """Feature -> column. Columns of one type share one buffer."""
        columns: dict[str, pl.Series] = {}
        for dtype in FIXED:
            views = [(served, view) for served, view in zip(self.views, found, strict=True) if dtype in view.fixed]
            if views:
                names = [name for served, _ in views for name in served.wanted.of_type(dtype)]
                values = np.concatenate([view.fixed[dtype][0] for _, view in views], axis=1)
                valid = np.concatenate([view.fixed[dtype][1] for _, view in views], axis=1)
                columns.update(zip(names, split(dtype, values, valid, names, height), strict=True))
        for served, view in zip(self.views, found, strict=True):
            for (name, _), raws in zip(served.wanted.tails, view.tails, strict=True):
                load, given = served.loads[name], served.types[name]
                if given is None:
                    raise DataError(
                        f"feature {served.name}:{name} has no polars type; read it with get_online_features"
                    )
                python = [load(raw) if isinstance(raw, bytes) else raw for raw in raws]
                columns[name] = pl.Series(name, python, given, strict=False)
        return columns

    def _named(self, column: str, flags: np.ndarray[Any, Any]) -> pl.Series:
        """The names of the views whose flag is set, by row."""
        if not flags.any():
            return pl.Series(column, [[]], NAMES).new_from_index(0, flags.shape[1])
        names = [served.name for served in self.views]
        lists = [[name for name, flag in zip(names, row, strict=True) if flag] for row in flags.T.tolist()]
        return pl.Series(column, lists, NAMES)


def policy_of(served: ServedView, freshness: Freshness | None) -> Policy:
    """The policy of a view, checked against its schema and TTL."""
    ttl = served.view.ttl
    if freshness is None:
        return Policy(ttl // _MICROSECOND if ttl else None, {})
    if ttl and freshness.max_age > ttl:
        raise DataError(
            f"freshness of {served.name}: max_age {freshness.max_age} is over the view's ttl {ttl}; "
            "training never sees values that old, so serve none"
        )
    unknown = freshness.defaults.keys() - served.types.keys()
    if unknown:
        raise DataError(f"freshness of {served.name}: defaults for {', '.join(sorted(unknown))}, which it has not")
    return Policy(freshness.max_age // _MICROSECOND, freshness.defaults)


def outdated(served: ServedView, rows: Rows, stale: np.ndarray[Any, Any], defaults: Mapping[str, Any]) -> Rows:
    """`rows` without their stale values: defaults where there are some, null elsewhere."""
    fixed = {}
    for dtype, (values, valid) in rows.fixed.items():
        own_values, own_valid = values.copy(), valid.copy()
        own_valid[stale] = 0
        for place, name in enumerate(served.wanted.of_type(dtype)):
            if defaults.get(name) is not None:
                own_values[stale, place], own_valid[stale, place] = defaults[name], 1
        fixed[dtype] = (own_values, own_valid)
    tails: list[list[Any]] = [
        [defaults.get(name) if old else raw for raw, old in zip(raws, stale.tolist(), strict=True)]
        for (name, _), raws in zip(served.wanted.tails, rows.tails, strict=True)
    ]
    return Rows(rows.found, rows.events, fixed, tails)


def split(
    dtype: str, values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], names: Sequence[str], height: int
) -> list[pl.Series]:
    """[rows, columns] to one series per column."""
    flat = np.ascontiguousarray(values.T).reshape(-1)
    bits = None if valid.all() else np.packbits(np.ascontiguousarray(valid.T).reshape(-1), bitorder="little")
    buffers = [None if bits is None else pa.py_buffer(bits), pa.py_buffer(flat)]
    series = pl.Series("", pa.Array.from_buffers(FIXED[dtype].arrow, flat.size, buffers))
    if dtype == "Bool":
        series = series.cast(pl.Boolean)
    return [series.slice(place * height, height).alias(name) for place, name in enumerate(names)]


def served_view(project: str, view: Any, view_number: int, projection: Any) -> ServedView:
    """`view`, which has the projection of a feature service."""
    entity_columns = sorted(view.entity_columns, key=lambda column: str(column.name))
    features = {feature.name: feature.dtype for feature in projection.features}
    return ServedView(
        view=view,
        start=keys.prefix(project, [column.name for column in entity_columns]),
        columns=tuple(projection.join_key_map.get(column.name, column.name) for column in entity_columns),
        key_types=tuple(polars_type(column.dtype) for column in entity_columns),
        wanted=Wanted(view_number, tuple((name, str(dtype)) for name, dtype in features.items())),
        types={name: polars_type(dtype) for name, dtype in features.items()},
    )
