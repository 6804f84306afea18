"""A feature view as a value: whom its rows are about, what it reads, and the pure function that makes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from fti.errors import DataError

if TYPE_CHECKING:
    import polars as pl

    from fti.views.windows import Rolling

Frame = Callable[..., "pl.DataFrame"]
"""A pure function from frames to a frame."""


def _unchanged(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of a view that is its first input, or its rolling statistics."""
    return rows


@dataclass(frozen=True, kw_only=True)
class View:
    """One feature view. Its rows hold the entity columns, `event_timestamp` (UTC, when the row became known) and the
    features. FTI gives it the raw rows of `[start - lookback, end)` and keeps what became known in `[start, end)`.
    """

    name: str
    """Name of the Feast feature view, and of the table in the lake."""
    entity: tuple[str, ...]
    """Columns that say whom a row is about: the join keys."""
    inputs: tuple[str | Frame, ...]
    """What `rows` is given, in this order: the raw rows of a source, by its name; or a frame that views share, as the
    function that makes it, whose parameters are the names of sources. It is made once for all views that name it."""
    rows: Frame = _unchanged
    """Inputs in, rows out. It draws no random numbers, reads no clock, and does not depend on the order of its inputs.
    Of raw tables without rows it returns its columns without rows."""
    rolling: Rolling | None = None
    """Rolling statistics of the first input by the entity, which `rows` is given in the place of that input."""
    lookback: timedelta
    """How much older the oldest raw row is that a feature row may need: at least the longest window."""

    def __post_init__(self) -> None:
        if self.rolling and self.rolling.longest > self.lookback:
            raise ValueError(
                f"view {self.name}: its longest window is {self.rolling.longest}, its lookback {self.lookback}: "
                "raise the lookback"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources that the view reads, itself or through a shared frame."""
        names = [[given] if isinstance(given, str) else sources_of(given) for given in self.inputs]
        return tuple(dict.fromkeys(name for part in names for name in part))

    def make(self, first: pl.DataFrame, *others: pl.DataFrame) -> pl.DataFrame:
        """The rows, made of the inputs."""
        return self.rows(self.rolling.of(first, self.entity) if self.rolling else first, *others)


def sources_of(frame: Frame) -> list[str]:
    """The sources that a shared frame is made of: the names of its parameters; one with a default is none."""
    parameters = inspect.signature(frame).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def make_views(
    views: Iterable[View], tables: Mapping[str, pl.DataFrame], start: datetime, end: datetime
) -> dict[str, pl.DataFrame]:
    """View -> its rows that became known in `[start, end)`, in the order of time. Shared frames are made once, and
    without what became known later."""
    import polars as pl

    from fti.times import TIME

    shared: dict[Frame, pl.DataFrame] = {}

    def frame(given: str | Frame) -> pl.DataFrame:
        if isinstance(given, str):
            return tables[given]
        if given not in shared:
            rows = given(*(tables[name] for name in sources_of(given)))
            shared[given] = rows.filter(pl.col(TIME) < end) if TIME in rows.columns else rows
        return shared[given]

    return {view.name: _inside(view.name, view.make(*map(frame, view.inputs)), start, end) for view in views}


def _inside(view: str, rows: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    import polars as pl

    from fti.times import TIME, UTC_TIME

    kind = rows.schema.get(TIME)
    if kind != UTC_TIME:
        raise DataError(f"view {view}: let `rows` return {TIME} of the type {UTC_TIME}: it is {kind or 'absent'}")
    return rows.filter(pl.col(TIME).is_between(start, end, closed="left")).sort(TIME, maintain_order=True)
