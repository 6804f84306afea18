"""How old online values may be when they answer, and what takes the place of older ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.stores.features.online.reading import Group, Rows
from fti.stores.features.online.served import ServedView
from fti.stores.features.online.types import FIXED, declared

FOREVER = 2**62
_MICROSECOND = timedelta(microseconds=1)


class Freshness(Protocol):
    """What is read of a `fti.project.Freshness`."""

    @property
    def max_age(self) -> timedelta: ...
    @property
    def on_stale(self) -> str: ...
    @property
    def defaults(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Limits:
    """How old the values of a plan's views may be."""

    max_age: np.ndarray[Any, Any]
    """Microseconds, view by view; unsigned."""
    defaults: list[Mapping[str, Any]]
    """What takes the place of older values, where there is something; times as microseconds."""


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
    ages = [min(own.max_age // _MICROSECOND, FOREVER) if own.max_age else FOREVER for own in policies]
    defaults = [_stored(served, own.defaults) for served, own in zip(views, policies, strict=True)]
    return Limits(np.array(ages, np.uint64), defaults)


def _stored(served: ServedView, defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """Defaults as their features are declared; DataError for one that would be another value then."""
    found = {}
    for name, value in defaults.items():
        dtype = served.features[name].dtype
        column = declared(
            pl.Series(name, [value]), dtype, of=f"freshness of {served.name}", row=lambda _: "its defaults"
        )
        found[name] = (column.to_physical() if str(dtype) in FIXED else column).to_list()[0]
    return found


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
