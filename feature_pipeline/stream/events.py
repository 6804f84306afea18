"""Events: `{"id": "...", "source": "flights", "row": {...}}`, checked against the schema of their source.

A row is a whole row of the source; a later event with the same key replaces it. Columns that are left out are null.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import orjson
import polars as pl
from pydantic import AfterValidator, ValidationError

from fti.http.fields import bounds, iso_moment, json_type, kind_of, model_of
from fti.project import Project, Source
from fti.times import micros

MAX_ID = 200
LARGEST = 2**63 - 1
"""Whole numbers are 64 bits with a sign in between."""
PLAIN = {"text": pl.String, "boolean": pl.Boolean, "integer": pl.Int64, "number": pl.Float64}
"""Type of the parsed values of each kind; those of datetimes are microseconds."""
EXPECTED = {
    "text": "a text",
    "boolean": "true or false",
    "integer": "a whole number from {low} to {high}",
    "number": "a number",
    "moment": "a time as ISO 8601 with its offset, for example 2013-01-31T09:05:00Z",
}


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
        accepted = content.get("accepted")
        return Event(name, str(source), columns.values(row), accepted if isinstance(accepted, int) else None)

    def rows(self, source: str, events: Iterable[Event]) -> pl.DataFrame:
        """The rows of events of one source, in their order."""
        return self._columns[source].frame(event.values for event in events)

    @cached_property
    def _columns(self) -> Mapping[str, "Columns"]:
        return {name: Columns(self.project, source) for name, source in self.project.streamed.items()}


class Columns:
    """The columns of a source, and the JSON values that they take; left out, one that is not of the key is null."""

    def __init__(self, project: Project, source: Source) -> None:
        self.dtypes = {name: pl.Series(dtype=dtype).dtype for name, dtype in source.schema.items()}
        self._expected = {name: _expected(dtype) for name, dtype in self.dtypes.items()}
        fields = {name: json_type(dtype, _micros, LARGEST) for name, dtype in self.dtypes.items()}
        if time := source.timestamp:
            near, words = _timely(project, source)
            fields[time] = Annotated[fields[time], AfterValidator(near)]
            self._expected[time] += words
        required = {name: (kind, ...) if name in source.key else (kind | None, None) for name, kind in fields.items()}
        self._model = model_of(f"{source.name}_row", required)

    def values(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """The parsed values of a row, in the order of the schema; EventError names the first that is wrong."""
        try:
            return tuple(vars(self._model.model_validate(row)).values())
        except ValidationError as error:
            raise self._error(error) from None

    def frame(self, values: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
        """The rows of which these are the values."""
        columns = zip(self.dtypes.items(), zip(*values, strict=True), strict=True)
        return pl.DataFrame([pl.Series(n, column, dtype=_plain(dtype)).cast(dtype) for (n, dtype), column in columns])

    def _error(self, error: ValidationError) -> EventError:
        problems = error.errors(include_url=False)
        unknown = [str(found["loc"][0]) for found in problems if found["type"] == "extra_forbidden"]
        if unknown:
            return EventError(f"row.{min(unknown)}", f"no such column; the columns are {', '.join(self.dtypes)}")
        name = str(problems[0]["loc"][0])
        is_null = problems[0]["type"] == "missing" or problems[0]["input"] is None
        return EventError(f"row.{name}", self._expected[name] + ("; it is part of the key" if is_null else ""))


def _expected(dtype: pl.DataType) -> str:
    """What a column takes, in words; ValueError for a type that events cannot have."""
    kind = kind_of(dtype)
    if kind is None or kind not in EXPECTED:
        raise ValueError(f"a streamed source has no columns of type {dtype}: events are JSON")
    low, high = bounds(dtype, LARGEST) if kind == "integer" else (0, 0)
    return EXPECTED[kind].format(low=low, high=high)


def _plain(dtype: pl.DataType) -> Any:
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", dtype.time_zone)
    return PLAIN[str(kind_of(dtype))]


def _micros(value: Any) -> int:
    return micros(iso_moment(value))


def _timely(project: Project, source: Source) -> tuple[Callable[[int], int], str]:
    """The time of a row lies in the project's partitions, as it does in a batch, and near its clock: reader, words."""
    start, end = project.partitions_start, project.partitions_end
    first, last = micros(start), micros(end) if end else None

    def near(moment: int) -> int:
        latest = micros(project.now() + source.max_ahead)
        if moment < first or (last is not None and moment >= last) or moment > latest:
            raise ValueError("too far away")
        return moment

    span = f"in the project's partitions: from {start:%Y-%m-%d}" + (f" to before {end:%Y-%m-%d}" if end else " on")
    return near, f", {span}, at most {source.max_ahead} ahead of the clock (Source.max_ahead)"
