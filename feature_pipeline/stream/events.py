"""Events: `{"id": "...", "source": "flights", "row": {...}}`, checked against the schema of their source.

A row is a whole row of the source; a later event with the same key replaces it. Columns that are left out are null.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson
import polars as pl

from fti.project import Project, Source
from fti.times import last_moment, micros

MAX_ID = 200


@dataclass(frozen=True, slots=True)
class Event:
    """One row of a streamed source; its values are in the order of the schema, datetimes as microseconds."""

    id: str
    source: str
    values: tuple[Any, ...]
    accepted: int | None
    """When the service accepted it, microseconds since 1970; none when somebody else put it into the log."""


class EventError(ValueError):
    """What is wrong with an event: `field`, what was `expected` there. `status` is the HTTP answer."""

    def __init__(self, field: str, expected: str, status: int = 422) -> None:
        super().__init__(f"{field}: expected {expected}" if field else expected)
        self.field, self.expected, self.status = field, expected, status


@dataclass(frozen=True)
class EventSchema:
    """What events of a project look like."""

    project: Project

    def parse(self, line: bytes) -> Event:
        """An event from its JSON; raises EventError."""
        try:
            content = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise EventError("", f"an event as JSON ({error})") from None
        return self.check(content)

    def check(self, content: Any) -> Event:
        """An event from its decoded JSON; raises EventError."""
        if not isinstance(content, dict):
            raise EventError("", 'an object {"id": ..., "source": ..., "row": {...}}')
        name, source, row = content.get("id"), content.get("source"), content.get("row")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_ID:
            raise EventError("id", f"a text of 1 to {MAX_ID} characters, another one for each event")
        columns = self._columns.get(source) if isinstance(source, str) else None
        if columns is None:
            raise EventError("source", f"one of the streamed sources {', '.join(self._columns)}", status=404)
        if not isinstance(row, dict):
            raise EventError("row", "an object with the columns of the source")
        if len(row.keys() - columns.keys()):
            unknown = min(row.keys() - columns.keys())
            raise EventError(f"row.{unknown}", f"no such column; the columns are {', '.join(columns)}")
        accepted = content.get("accepted")
        values = tuple(column.value(row.get(column.name)) for column in columns.values())
        return Event(name, str(source), values, accepted if isinstance(accepted, int) else None)

    def rows(self, source: str, events: Iterable[Event]) -> pl.DataFrame:
        """The rows of events of one source, in their order."""
        columns = self._columns[source].values()
        values = zip(*(event.values for event in events), strict=True)
        series = (pl.Series(c.name, v, dtype=c.plain) for c, v in zip(columns, values, strict=True))
        return pl.DataFrame(list(series)).cast({column.name: column.dtype for column in columns})

    @cached_property
    def _columns(self) -> Mapping[str, Mapping[str, "Column"]]:
        found = {}
        for name, source in self.project.streamed.items():
            columns = {column.name: column for column in columns_of(source)}
            time = str(source.timestamp)
            found[name] = columns | {time: _timely(columns[time], self.project, source)}
        return found


@dataclass(frozen=True)
class Column:
    """A column of a source and the JSON values that it takes."""

    name: str
    dtype: Any
    required: bool
    plain: Any
    """Type of the parsed values."""
    parse: Callable[[Any], Any]
    expected: str

    def value(self, given: Any) -> Any:
        """The parsed value; raises EventError."""
        if given is None:
            if self.required:
                raise EventError(f"row.{self.name}", f"{self.expected}; it is part of the key")
            return None
        try:
            return self.parse(given)
        except (ValueError, TypeError):
            raise EventError(f"row.{self.name}", self.expected) from None


def columns_of(source: Source) -> Sequence[Column]:
    """The columns of a source's schema."""
    columns = []
    for name, dtype in source.schema.items():
        plain, parse, expected = _kind(pl.Series(dtype=dtype).dtype)
        columns.append(Column(name, dtype, name in source.key, plain, parse, expected))
    return columns


def _kind(dtype: pl.DataType) -> tuple[Any, Callable[[Any], Any], str]:
    if isinstance(dtype, pl.Datetime):
        return pl.Int64, _moment, "a time as ISO 8601 with its offset, for example 2013-01-31T09:05:00Z"
    if dtype.is_integer():
        kind: Any = type(dtype)
        low, high = pl.select(kind.min(), max=kind.max()).row(0)
        low, high = max(low, -(2**63)), min(high, 2**63 - 1)
        return pl.Int64, _integer(low, high), f"a whole number from {low} to {high}"
    if dtype.is_float():
        return pl.Float64, _number, "a number"
    if dtype == pl.Boolean:
        return pl.Boolean, _exactly(bool), "true or false"
    if dtype == pl.String:
        return pl.String, _exactly(str), "a text"
    raise ValueError(f"a streamed source has no columns of type {dtype}: events are JSON")


def _moment(value: str) -> int:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(value)
    return micros(moment)


def _timely(column: Column, project: Project, source: Source) -> Column:
    """The time of a row, which lies in the project's partitions, as it does in a batch, and near its clock."""
    start, end = project.partitions_start, project.partitions_end

    def parse(value: str) -> int:
        moment = _moment(value)
        if moment < micros(start) or (end is not None and moment >= micros(end)):
            raise ValueError(value)
        if moment > micros(last_moment(source.max_ahead, project.now())):
            raise ValueError(value)
        return moment

    span = f"in the project's partitions: from {start:%Y-%m-%d}" + (f" to before {end:%Y-%m-%d}" if end else " on")
    ahead = f"at most {source.max_ahead} ahead of the clock (Source.max_ahead)"
    return replace(column, parse=parse, expected=f"{column.expected}, {span}, {ahead}")


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(value)
        return value

    return parse


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(value)
    return float(value)


def _exactly(kind: type) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(value)
        return value

    return parse
