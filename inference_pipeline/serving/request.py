"""Request bodies to typed rows; anything malformed gets an answer that names the field and says what was expected."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Annotated, Any, TypeVar

import numpy as np
import orjson
import polars as pl
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from fti.errors import DataError
from fti.http.app import RequestError, decoded
from fti.http.fields import iso_moment, json_type, kind_of, model_of, name_of, path_of, problem_of
from fti.project import Project, RequestField

REQUEST_ID = "request_id"
INSTANCES = "instances"
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_TEXT, MAX_ID = 1_000, 200
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


UNREADABLE = [asdict(Problem("", "unreadable", "JSON in UTF-8; NaN is not JSON"))]
_ID = Problem(REQUEST_ID, "", f"text of 1 to {MAX_ID} characters; a request sent twice under one id is logged once")


def refusal(status: int, error: str, problems: Sequence[Problem]) -> RequestError:
    """A request that cannot be answered as it is: what is wrong with it, field by field."""
    return RequestError(status, error, details=[asdict(problem) for problem in problems])


@dataclass(frozen=True)
class RequestSchema:
    """What requests of a project look like."""

    project: Project

    @cached_property
    def request(self) -> type[BaseModel]:
        """The model of one request."""
        identity = Annotated[str, Field(min_length=1, max_length=MAX_ID)] | None
        fields: dict[str, tuple[Any, Any]] = {REQUEST_ID: (identity, Field(default=None, description=_ID.expected))}
        for name, field in self.project.service.request.items():
            kind = _type(name, field)
            if name == self.project.label.time:
                kind = Annotated[kind, AfterValidator(self._near)]
            default: Any = {"default": None} if field.optional else {}
            details = Field(description=field.description, examples=[field.example], **default)
            fields[name] = (kind | None if field.optional else kind, details)
        return model_of(f"{self.project.name}_request", fields)

    @cached_property
    def batch(self) -> type[BaseModel]:
        """The model of many requests."""
        instances = Field(min_length=1, max_length=self.project.service.max_batch_size)
        return model_of(f"{self.project.name}_batch", {INSTANCES: (list[self.request], instances)})  # type: ignore[name-defined]

    @cached_property
    def frame(self) -> dict[str, Any]:
        """Column name -> polars type of a frame of parsed rows."""
        return {REQUEST_ID: pl.String} | {name: field.dtype for name, field in self.project.service.request.items()}

    def one(self, body: bytes) -> Row:
        """One request: an object of the project's request fields and, optionally, `request_id`."""
        try:
            return self._row(self.request.model_validate(_content(body)))
        except ValidationError as error:
            raise self._malformed(error) from None

    def many(self, body: bytes) -> list[Row]:
        """Many requests: `{"instances": [request, ...]}`. One malformed request refuses the whole batch."""
        content = _content(body)
        try:
            batch = self.batch.model_validate(content)
        except ValidationError as error:
            raise self._no_batch(error, content) or self._malformed(error) from None
        (instances,) = vars(batch).values()
        return [self._row(request) for request in instances]

    def example(self) -> Row:
        """The request made of every field's example."""
        values = {name: field.example for name, field in self.project.service.request.items()}
        return self.one(orjson.dumps(values))

    def _row(self, request: BaseModel) -> Row:
        row = dict(zip(self.frame, vars(request).values(), strict=True))
        row[REQUEST_ID] = row[REQUEST_ID] or uuid.uuid4().hex
        return row

    def _near(self, moment: Moment) -> Moment:
        """Refuse a predicted moment too far ahead of the project's clock: nothing is known of it yet."""
        start = moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        ahead = self.project.service.max_ahead
        last = self.project.now() + ahead
        if start > last:
            raise ValueError(
                f"is {moment.isoformat()}, after {last:%Y-%m-%d %H:%M} UTC, which is {ahead} ahead of the clock "
                "(Service.max_ahead): correct it, or ask later"
            )
        return moment

    def _no_batch(self, error: ValidationError, content: Any) -> RequestError | None:
        """What is told of a body whose requests cannot even be looked at."""
        kinds = {found["type"] for found in error.errors(include_url=False) if len(found["loc"]) < 2}
        if not kinds:
            return None
        most = self.project.service.max_batch_size
        expected = f"an object with one field {INSTANCES!r}, a list of 1 to {most} requests"
        if kinds <= {"too_short", "too_long"}:
            problem = f"holds {len(content[INSTANCES])} requests"
            return refusal(422, "wrong batch size", [Problem(INSTANCES, problem, expected)])
        return refusal(422, "not a batch", [Problem(INSTANCES, "missing, not a list, or not alone", expected)])

    def _malformed(self, error: ValidationError) -> RequestError:
        problems = [self._problem(found) for found in error.errors(include_url=False)[:MAX_PROBLEMS]]
        names = ", ".join(dict.fromkeys(problem.field or "the body" for problem in problems))
        return refusal(422, f"malformed request: {names}", problems)

    def _problem(self, error: ErrorDetails) -> Problem:
        path, fields = path_of(error["loc"]), self.project.service.request
        name = error["loc"][-1] if error["loc"] else 0
        if not isinstance(name, str):
            return Problem(path, problem_of(error), f"an object with the fields {list(fields)}")
        if name == REQUEST_ID:
            return Problem(path, f"is {name_of(error['input'])}", _ID.expected)
        if name not in fields:
            return Problem(path, problem_of(error), f"one of {[*fields, REQUEST_ID]}")
        too_large = error["type"] in ("greater_than_equal", "less_than_equal")
        problem = f"does not fit in {fields[name].dtype}" if too_large else problem_of(error)
        return Problem(path, problem, describe(fields[name]))


def describe(field: RequestField) -> str:
    """What `field` takes, in words."""
    kind = _WORDS[str(kind_of(field.dtype))]
    return f"{kind}{' or null' if field.optional else ''} ({field.description}), for example {field.example!r}"


def _content(body: bytes) -> Any:
    return decoded(body, details=UNREADABLE)


def _type(name: str, field: RequestField) -> Any:
    """The type of a field's values in JSON."""
    dtype, kind = field.dtype, kind_of(field.dtype)
    if kind is None or (kind == "moment" and not dtype.time_zone):
        raise DataError(
            f"field {name!r}: request fields cannot be {dtype}: use text, a boolean, a number, a date or a datetime "
            "with a zone"
        )
    read = json_type(dtype, lambda value: _moment(value, dtype))
    if kind == "text":
        return Annotated[read, Field(min_length=1, max_length=MAX_TEXT)]
    if kind == "number":
        return Annotated[read, BeforeValidator(lambda value: _exact(value, dtype))]
    return Annotated[read, AfterValidator(_in_our_years)] if kind == "date" else read


def _exact(value: Any, dtype: Any) -> Any:
    """A number that its type holds; what is no number is left to the model."""
    is_number = isinstance(value, int | float)
    if is_number and (float(value) != value or (dtype == pl.Float32 and abs(value) > LARGEST_FLOAT32)):
        raise ValueError(f"is {value}, which no {dtype} is")
    return value


def _moment(value: Any, dtype: Any) -> datetime:
    moment = _in_our_years(iso_moment(value))
    if _FINE.search(value) or (dtype.time_unit == "ms" and moment.microsecond % 1000):
        raise ValueError("has more digits than its time keeps, which is milliseconds or microseconds")
    return moment.astimezone(UTC)


def _in_our_years(moment: Moment) -> Moment:
    if not YEARS[0] < moment.year < YEARS[1]:
        raise ValueError(f"lies outside the years {YEARS[0]} to {YEARS[1]}")
    return moment


_WORDS = {
    "text": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "date": "an ISO 8601 date",
    "moment": "an ISO 8601 datetime with its offset from UTC",
}
