"""The request and answer models that BentoML publishes as OpenAPI. The hot path checks requests itself."""

from collections.abc import Mapping
from typing import Any

import orjson
import polars as pl
from pydantic import BaseModel, Field, create_model

from fti.project import Project, RequestField

PYTHON_TYPES: tuple[tuple[Any, type], ...] = ((pl.Boolean, bool), (pl.String, str))


class Flags(BaseModel):
    """What to know about a prediction before trusting it."""

    unknown_entities: list[str] = Field(default=[], description="Feature views that have never seen the entity.")
    stale_views: list[str] = Field(
        default=[], description="Feature views whose values were too old: they are missing, or defaults."
    )
    later_views: list[str] = Field(
        default=[], description="Feature views whose values happened after the moment of prediction: they are used."
    )


class Answer(BaseModel):
    """One prediction."""

    request_id: str
    model_version: int
    latency_ms: float
    flags: Flags


class BinaryAnswer(Answer):
    """The prediction of a binary model."""

    probability: float = Field(description="Probability of label 1.", examples=[0.27])
    label: int = Field(description="1 when the probability reaches the project's threshold.", examples=[0])


class MulticlassAnswer(Answer):
    """The prediction of a model of several classes."""

    label: str = Field(description="The most probable class.", examples=["b"])
    probability: float = Field(description="Its probability.", examples=[0.7])
    probabilities: dict[str, float] = Field(description="Of every class.", examples=[{"a": 0.3, "b": 0.7}])


class RegressionAnswer(Answer):
    """The prediction of a number."""

    prediction: float = Field(examples=[42.5])


ANSWERS: Mapping[str, type[Answer]] = {
    "binary": BinaryAnswer,
    "multiclass": MulticlassAnswer,
    "regression": RegressionAnswer,
}
"""By task."""


class Detail(BaseModel):
    """One thing that is wrong."""

    field: str
    problem: str
    expected: str


class Refusal(BaseModel):
    """A request of a batch that is not answered: values of a feature view are older than its policy allows."""

    request_id: str
    status: int
    error: str
    details: list[Detail]


def answer(project: Project) -> type[BaseModel]:
    """The model of one answer."""
    return ANSWERS[project.model.task]


def answers(project: Project) -> type[BaseModel]:
    """The model of the answers to many requests, in their order."""
    one: Any = list[answer(project) | Refusal]  # type: ignore[misc]
    model: type[BaseModel] = create_model(f"{project.name}_answers", predictions=(one, ...))
    return model


def request(project: Project) -> type[BaseModel]:
    """The model of one request."""
    fields = {name: _field(field) for name, field in project.service.request.items()}
    identity = (str | None, Field(default=None, description="A request sent twice under one id is logged once."))
    model: type[BaseModel] = create_model(f"{project.name}_request", **fields, request_id=identity)  # type: ignore[call-overload]
    return model


def batch(project: Project) -> type[BaseModel]:
    """The model of many requests."""
    instances = Field(min_length=1, max_length=project.service.max_batch_size)
    many: Any = list[request(project)]  # type: ignore[misc]
    model: type[BaseModel] = create_model(f"{project.name}_batch", instances=(many, instances))
    return model


def body(fields: dict[str, Any]) -> bytes:
    """A validated model's fields as the JSON that the endpoint parses."""
    return orjson.dumps(fields, default=lambda value: value.model_dump(exclude_unset=True))


def _field(field: RequestField) -> tuple[Any, Any]:
    kind = next((python for dtype, python in PYTHON_TYPES if field.dtype == dtype), None)
    if kind is None:
        kind = int if field.dtype.is_integer() else float if field.dtype.is_float() else str
    extra = {"format": "date-time"} if isinstance(field.dtype, pl.Datetime) else {}
    details: dict[str, Any] = {
        "description": field.description,
        "examples": [field.example],
        "json_schema_extra": extra,
    }
    if field.optional:
        return (kind | None, Field(default=None, **details))
    return (kind, Field(**details))
