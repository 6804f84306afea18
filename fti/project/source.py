"""Sources: where the raw rows of a project come from, and what they must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One Great Expectations expectation by its own name, for example
    `Expectation("expect_column_values_to_be_in_set", column="origin", value_set=["EWR"])`."""

    type: str
    """Its name."""
    kwargs: Mapping[str, Any]
    """Its arguments."""


def expect(type: str, **kwargs: Any) -> Expectation:
    """`expect("expect_column_values_to_not_be_null", column="carrier")`."""
    return Expectation(type=type, kwargs=kwargs)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Raw rows that come from outside; becomes the asset `raw_<name>`.

    `read(start, end)` returns the rows with `start <= timestamp < end` (UTC). Without a `timestamp` the source is a
    reference table: not partitioned, read whole, both arguments ignored.
    """

    name: str
    """A Python identifier; the asset is `raw_<name>`, the table in the lake `<project>/raw/<name>`."""
    read: Callable[[datetime, datetime], pl.DataFrame]
    """See above. It may read anything: a file, a warehouse, an API."""
    schema: Mapping[str, Any]
    """Column name -> polars data type, of every column that the project uses."""
    key: tuple[str, ...]
    """Columns that identify a row: never null, never twice."""
    timestamp: str | None = None
    """Column that says when a row happened, UTC; it decides the day that the row belongs to."""
    expectations: tuple[Expectation, ...] = ()
    """Rules on the rows; one that breaks a rule is set aside."""
    max_quarantined_share: float = 0.0
    """Share of rows that may be set aside because they break a rule; one more and nothing is written."""
    description: str = ""
    """For the catalogue and Dagster."""
    streamed: bool = False
    """Whether rows also come one by one, as events (docs/streaming.md). The timestamp is then part of the key."""
    max_ahead: timedelta = timedelta(days=1)
    """How far ahead of the project's clock (`Project.now`) the timestamp of an event may lie: more for rows that are
    planned, such as departures."""

    def __post_init__(self) -> None:
        if self.max_ahead < timedelta(0):
            raise ValueError(f"source {self.name!r}: max_ahead must not be negative, not {self.max_ahead}")
        if self.streamed and self.timestamp not in self.key:
            raise ValueError(f"source {self.name!r} is streamed: its timestamp must be one of the columns of its key")
