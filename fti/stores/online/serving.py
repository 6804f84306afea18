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
from fti.stores.online.types import FIXED, polars_type, tail

MISSING, STALE = "missing_views", "stale_views"
NAMES = pl.List(pl.String)
DUMMY_KEY = "__dummy_id"
"""Join key of views without an entity, as Feast writes it: always an empty text."""
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
        types = {feature.name: feature.dtype for feature in self.view.features}
        return {name: tail(types[name]).load for name, _ in self.wanted.tails}


@dataclass(frozen=True)
class Policy:
    """What happens to values of a view that are older than `max_age` microseconds."""

    max_age: int
    defaults: Mapping[str, Any]


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
        if self.columns == (DUMMY_KEY,):
            rows = pl.DataFrame({DUMMY_KEY: [""] * rows.height})
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
        self._policies: tuple[Mapping[str, Freshness], list[list[Policy]]] | None = None

    def read(
        self, backend: Backend, rows: pl.DataFrame, moments: np.ndarray[Any, Any] | None, fresh: Mapping[str, Freshness]
    ) -> pl.DataFrame:
        """The features of `rows`, with `missing_views` and `stale_views`; `moments` are microseconds."""
        found = self._fetch(backend, rows)
        stale = [np.zeros_like(own.found) for own in found]
        if moments is not None:
            for place, (asked, policies) in enumerate(zip(self._asked, self.policies(fresh), strict=True)):
                limits = np.array([policy.max_age for policy in policies])
                stale[place] = found[place].found & (found[place].events < moments[:, None] - limits)
                if stale[place].any():
                    found[place] = outdated(asked, found[place], stale[place], policies)
        columns = self._columns(found, rows.height)
        flags = [self._named(MISSING, [~own.found for own in found]), self._named(STALE, stale)]
        return pl.DataFrame([*(columns[name] for name in self.types), *flags])

    def policies(self, fresh: Mapping[str, Freshness]) -> list[list[Policy]]:
        """The policy of each view: the project's, or its TTL."""
        if self._policies is None or self._policies[0] is not fresh:
            unknown = fresh.keys() - {served.name for served in self.views}
            if unknown:
                raise DataError(f"freshness of {', '.join(sorted(unknown))}: the service reads no such view")
            policies = [[policy_of(served, fresh.get(served.name)) for served in own.views] for own in self._asked]
            self._policies = (fresh, policies)
        return self._policies[1]

    def _fetch(self, backend: Backend, rows: pl.DataFrame) -> list[Rows]:
        """What is online of each group, all read at once."""
        encoded = [asked.keys(rows) for asked in self._asked]
        distinct = [list(dict.fromkeys(own)) for own in encoded]
        values = iter(backend.get([key for own in distinct for key in own if key is not None]))
        found = []
        for asked, all_keys, own in zip(self._asked, encoded, distinct, strict=True):
            answer = asked.group.decode([None if key is None else next(values) for key in own], backend.layout)
            if len(own) < len(all_keys):
                index = {key: place for place, key in enumerate(own)}
                answer = answer.take(np.array([index[key] for key in all_keys]))
            found.append(answer)
        return found

    def _columns(self, found: Sequence[Rows], height: int) -> dict[str, pl.Series]:
        """Feature -> column. Columns of one type share one buffer."""
        columns: dict[str, pl.Series] = {}
        for dtype in FIXED:
            blocks = [own.fixed[dtype] for own in found if dtype in own.fixed]
            if blocks:
                names = [name for asked in self._asked for name in asked.group.names.get(dtype, ())]
                values = np.concatenate([block for block, _ in blocks], axis=1)
                valid = np.concatenate([present for _, present in blocks], axis=1)
                columns.update(zip(names, split(dtype, values, valid, names, height), strict=True))
        for asked, own in zip(self._asked, found, strict=True):
            for (place, name), raws in zip(asked.group.tails, own.tails, strict=True):
                served = asked.views[place]
                if served.types[name] is None:
                    raise DataError(
                        f"feature {served.name}:{name} has no polars type; read it with get_online_features"
                    )
                python = [served.loads[name](raw) if isinstance(raw, bytes) else raw for raw in raws]
                columns[name] = pl.Series(name, python, served.types[name], strict=False)
        return columns

    def _named(self, column: str, flags: Sequence[np.ndarray[Any, Any]]) -> pl.Series:
        """The names of the views whose flag is set, by row, in the order of the service."""
        height = len(flags[0]) if flags else 0
        if not any(own.any() for own in flags):
            return _nothing(column, height)
        names = [served.name for asked in self._asked for served in asked.views]
        order = [names.index(served.name) for served in self.views]
        rows = np.concatenate(flags, axis=1)[:, order].tolist()
        lists = [[served.name for served, flag in zip(self.views, row, strict=True) if flag] for row in rows]
        return pl.Series(column, lists, NAMES)


def policy_of(served: ServedView, freshness: Freshness | None) -> Policy:
    """The policy of a view, checked against its schema and TTL."""
    ttl = served.view.ttl
    if freshness is None:
        return Policy(ttl // _MICROSECOND if ttl else FOREVER, {})
    if ttl and freshness.max_age > ttl:
        raise DataError(
            f"freshness of {served.name}: max_age {freshness.max_age} is over the view's ttl {ttl}; "
            "training never sees values that old, so serve none"
        )
    unknown = freshness.defaults.keys() - served.types.keys()
    if unknown:
        raise DataError(f"freshness of {served.name}: defaults for {', '.join(sorted(unknown))}, which it has not")
    return Policy(freshness.max_age // _MICROSECOND, freshness.defaults)


def outdated(asked: Asked, rows: Rows, stale: np.ndarray[Any, Any], policies: Sequence[Policy]) -> Rows:
    """`rows` without their stale values: defaults where there are some, null elsewhere."""
    owner = {name: place for place, served in enumerate(asked.views) for name in served.types}
    fixed = {}
    for dtype, (values, valid) in rows.fixed.items():
        own_values, own_valid = values.copy(), valid.copy()
        for column, name in enumerate(asked.group.names[dtype]):
            old, default = stale[:, owner[name]], policies[owner[name]].defaults.get(name)
            own_valid[old, column] = default is not None
            own_values[old, column] = 0 if default is None else default
        fixed[dtype] = (own_values, own_valid)
    tails: list[list[Any]] = []
    for (place, name), raws in zip(asked.group.tails, rows.tails, strict=True):
        default = policies[place].defaults.get(name)
        tails.append([default if old else raw for raw, old in zip(raws, stale[:, place].tolist(), strict=True)])
    return Rows(rows.found, rows.events, fixed, tails)


@lru_cache(maxsize=64)
def _nothing(column: str, height: int) -> pl.Series:
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
