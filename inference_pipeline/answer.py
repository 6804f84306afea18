"""The models of answers, for the OpenAPI document. The predictor makes the answers themselves."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, create_model

from fti.project import Project
from inference_pipeline.serving.request import Problem


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


class Refusal(BaseModel):
    """A request of a batch that is not answered: values of a feature view are older than its policy allows."""

    request_id: str
    status: int
    error: str
    details: list[Problem]


def answer_model(project: Project) -> type[BaseModel]:
    """The model of one answer."""
    return ANSWERS[project.model.task]


def answers_model(project: Project) -> type[BaseModel]:
    """The model of the answers to many requests, in their order."""
    one: Any = list[answer_model(project) | Refusal]  # type: ignore[misc]
    model: type[BaseModel] = create_model(f"{project.name}_answers", predictions=(one, ...))
    return model
