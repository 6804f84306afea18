"""Request bodies to typed rows; anything malformed gets an answer that names the field and says what was expected."""

import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import numpy as np
import orjson
import polars as pl

from fti.errors import DataError, FtiError
from fti.project import Project, RequestField
from fti.times import last_moment

REQUEST_ID = "request_id"
INSTANCES = "instances"
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_TEXT = 1_000
MAX_PROBLEMS = 20
YEARS = (1900, 2200)
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_FINE = re.compile(r"[.,]\d{6}0*[1-9]")
"""Digits of a second below the microsecond."""

Row = dict[str, Any]
Moment = TypeVar("Moment", bound=date)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a request."""

    field: str
    problem: str
    expected: str


class RequestError(FtiError):
    """A request that cannot be answered as it is. Carries the HTTP status and what is wrong, field by field."""

    def __init__(self, status: int, error: str, problems: list[Problem] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.problems = problems or []

    def body(self) -> dict[str, Any]:
        """The JSON answer."""
        details = [{"field": p.field, "problem": p.problem, "expected": p.expected} for p in self.problems]
        return {"error": str(self), "details": details}


class _Malformed(ValueError):
    """A value that its field does not take; the message says what the value is."""


def parse_one(project: Project, body: bytes) -> Row:
    """One request: an object of the project's request fields and, optionally, `request_id`."""
    problems: list[Problem] = []
    row = _row(project, _json(body), "", problems)
    _refuse(problems)
    return row


def parse_batch(project: Project, body: bytes) -> list[Row]:
    """Many requests: `{"instances": [request, ...]}`. One malformed request refuses the whole batch."""
    content = _json(body)
    expected = f"an object with one field {INSTANCES!r}, a list of 1 to {project.service.max_batch_size} requests"
    if not isinstance(content, dict) or set(content) != {INSTANCES} or not isinstance(content[INSTANCES], list):
        raise RequestError(422, "not a batch", [Problem(INSTANCES, "missing, not a list, or not alone", expected)])
    number = len(content[INSTANCES])
    if not 1 <= number <= project.service.max_batch_size:
        raise RequestError(422, "wrong batch size", [Problem(INSTANCES, f"holds {number} requests", expected)])
    problems: list[Problem] = []
    rows = [_row(project, item, f"{INSTANCES}[{index}].", problems) for index, item in enumerate(content[INSTANCES])]
    _refuse(problems)
    return rows


def schema(project: Project) -> dict[str, Any]:
    """Column name -> polars type of a frame of parsed rows."""
    return {REQUEST_ID: pl.String} | {name: field.dtype for name, field in project.service.request.items()}


def example(project: Project) -> Row:
    """The request made of every field's example."""
    values = {name: field.example for name, field in project.service.request.items()}
    return parse_one(project, orjson.dumps(values))


def describe(field: RequestField) -> str:
    """What `field` takes, in words."""
    kind = _kind(field.dtype)
    return f"{_WORDS[kind]}{' or null' if field.optional else ''} ({field.description}), for example {field.example!r}"


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            400, f"the body is not JSON: {error}", [Problem("", "unreadable", "JSON in UTF-8; NaN is not JSON")]
        ) from None


def _refuse(problems: list[Problem]) -> None:
    if problems:
        names = ", ".join(dict.fromkeys(problem.field or "the body" for problem in problems[:MAX_PROBLEMS]))
        raise RequestError(422, f"malformed request: {names}", problems[:MAX_PROBLEMS])


def _row(project: Project, item: Any, prefix: str, problems: list[Problem]) -> Row:
    fields = project.service.request
    if not isinstance(item, dict):
        problems.append(Problem(prefix.rstrip("."), f"is {_name(item)}", f"an object with the fields {list(fields)}"))
        return {}
    row: Row = {REQUEST_ID: _request_id(item.get(REQUEST_ID), prefix, problems)}
    for name, field in fields.items():
        try:
            row[name] = _value(item, name, field)
            if name == project.label.time:
                _require_near(project, row[name])
        except _Malformed as error:
            problems.append(Problem(prefix + name, str(error), describe(field)))
    known = f"one of {[*fields, REQUEST_ID]}"
    problems.extend(
        Problem(prefix + name, "unknown field", known) for name in item.keys() - fields.keys() - {REQUEST_ID}
    )
    return row


def _request_id(value: Any, prefix: str, problems: list[Problem]) -> str:
    if value is None:
        return uuid.uuid4().hex
    if not isinstance(value, str) or not 1 <= len(value) <= 200:
        expected = "text of 1 to 200 characters; a request sent twice under one id is logged once"
        problems.append(Problem(prefix + REQUEST_ID, f"is {_name(value)}", expected))
    return str(value)


def _value(item: Mapping[str, Any], name: str, field: RequestField) -> Any:
    value = item.get(name)
    if value is None:
        if field.optional:
            return None
        raise _Malformed("is null" if name in item else "missing")
    try:
        read = _READERS[_kind(field.dtype)]
    except DataError as error:
        raise DataError(f"field {name!r}: {error}") from None
    return read(value, field.dtype)


def _require_near(project: Project, moment: datetime | date | None) -> None:
    """Refuse the predicted moment when it lies too far ahead of the project's clock: nothing is known about it yet."""
    if moment is None:
        return
    start = moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    last = last_moment(project.service.max_ahead, project.now())
    if start > last:
        raise _Malformed(
            f"is {moment.isoformat()}, after {last:%Y-%m-%d %H:%M} UTC, which is {project.service.max_ahead} ahead of "
            "the clock (Service.max_ahead): correct it, or ask later"
        )


def _kind(dtype: Any) -> str:
    if dtype == pl.String:
        return "text"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "number"
    if dtype == pl.Date:
        return "date"
    if isinstance(dtype, pl.Datetime) and dtype.time_zone:
        return "moment"
    raise DataError(
        f"request fields cannot be {dtype}: use text, a boolean, a number, a date or a datetime with a zone"
    )


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", int: "an integer", float: "a number"}
    return "null" if value is None else names[type(value)]


def _text(value: Any, dtype: Any) -> str:
    if not isinstance(value, str):
        raise _Malformed(f"is {_name(value)}")
    if not 1 <= len(value) <= MAX_TEXT:
        raise _Malformed("is empty" if not value else f"has more than {MAX_TEXT} characters")
    return value


def _boolean(value: Any, dtype: Any) -> bool:
    if not isinstance(value, bool):
        raise _Malformed(f"is {_name(value)}")
    return value


def _integer(value: Any, dtype: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Malformed(f"is {_name(value)}")
    bits = int(str(dtype).lstrip("UInt"))
    low, high = (0, 2**bits) if str(dtype).startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    if not low <= value < high:
        raise _Malformed(f"does not fit in {dtype}")
    return value


def _number(value: Any, dtype: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Malformed(f"is {_name(value)}")
    if not math.isfinite(value):
        raise _Malformed("is not finite")
    if float(value) != value or (dtype == pl.Float32 and abs(value) > LARGEST_FLOAT32):
        raise _Malformed(f"is {value}, which no {dtype} is")
    return float(value)


def _date(value: Any, dtype: Any) -> date:
    return _iso(value, date.fromisoformat)


def _moment(value: Any, dtype: Any) -> datetime:
    moment = _iso(value, datetime.fromisoformat)
    if moment.tzinfo is None:
        raise _Malformed("has no time zone")
    if _FINE.search(value) or (dtype.time_unit == "ms" and moment.microsecond % 1000):
        raise _Malformed("has more digits than its time keeps, which is milliseconds or microseconds")
    return moment.astimezone(UTC)


def _iso(value: Any, read: Callable[[str], Moment]) -> Moment:
    if not isinstance(value, str):
        raise _Malformed(f"is {_name(value)}")
    try:
        moment = read(value)
    except ValueError:
        raise _Malformed(f"is not ISO 8601: {value[:40]!r}") from None
    if not YEARS[0] < moment.year < YEARS[1]:
        raise _Malformed(f"lies outside the years {YEARS[0]} to {YEARS[1]}")
    return moment


_READERS: dict[str, Callable[[Any, Any], Any]] = {
    "text": _text,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "date": _date,
    "moment": _moment,
}
_WORDS = {
    "text": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "date": "an ISO 8601 date",
    "moment": "an ISO 8601 datetime with its offset from UTC",
}
