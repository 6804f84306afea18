"""Checks of what is served: online features, the service's answers and refusals, the drift report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from fti.project import Project, RequestField
from fti.testing.rehearsal import Rehearsal
from fti.testing.result import Broken, NotApplicable

if TYPE_CHECKING:
    from inference_pipeline.endpoint import Asgi

ASKED = 300
REAL = 20
"""Real rows that the service is asked about."""
UNKNOWN_FIELD = "no_such_field"
ANSWER = {
    "binary": ("probability", "label"),
    "multiclass": ("probability", "label", "probabilities"),
    "regression": ("prediction",),
}


def online_equals_offline(rehearsal: Rehearsal) -> None:
    """Both stores say the same of the newest entities."""
    from training_pipeline.parity import parity, verdict

    service = rehearsal.project.features.service
    entities = rehearsal.labelled.tail(ASKED)
    entities = entities.select(name for name in rehearsal.project.service.request if name in entities.columns)
    found, moment = parity(rehearsal.online, service, entities)
    passed, description = verdict(service, found, moment, entities.height)
    if not passed:
        raise Broken(description)


def service_answers(rehearsal: Rehearsal) -> None:
    """The request made of the fields' examples, and real ones, over the service's ASGI application."""
    project, app = rehearsal.project, application(rehearsal)
    example = {name: field.example for name, field in project.service.request.items()}
    for what, body in [("the request of the fields' examples", example), *_real(rehearsal)]:
        status, answer = ask(app, body)
        if status != 200:
            raise Broken(
                f"{what} {body} is answered with {status}: {_error(answer)}. Mend RequestField.example, or "
                "the field's type."
            )
        missing = [name for name in ANSWER[project.model.task] if answer.get(name) is None]
        if missing:
            raise Broken(f"the answer to {what} lacks {', '.join(missing)}: {answer}. The model predicts NaN.")


def service_refuses(rehearsal: Rehearsal) -> None:
    """A missing, a wrongly typed and an unknown field are refused with status 422 and the field's name."""
    project, app = rehearsal.project, application(rehearsal)
    if all(field.optional for field in project.service.request.values()):
        raise NotApplicable("every request field is optional")
    for name, what, body in bad_requests(project):
        status, answer = ask(app, body)
        if status != 422 or name not in str(answer):
            raise Broken(
                f"a request with {what} {name!r} is answered with {status} instead of being refused: {answer}. "
                "Make the field required, or give it a stricter type."
            )


def no_drift_against_itself(rehearsal: Rehearsal) -> None:
    """The drift statistics of the training rows against their own reference, whole and by the monitor's window."""
    from inference_pipeline.drift_statistics import feature_table

    project, dataset = rehearsal.project, rehearsal.dataset
    monitor, rows = project.monitor, dataset.splits["train"]
    table = feature_table(rows, dataset.manifest["reference"], monitor)
    drifted = table.filter("drifted")["feature"].to_list()
    share = len(drifted) / max(table.height, 1)
    if share > monitor.max_drifted_share:
        raise Broken(
            f"{len(drifted)} of {table.height} features of the training rows themselves count as drifted, the limit is "
            f"{monitor.max_drifted_share:.0%}: raise Monitor.max_drifted_share, quantile or factor."
        )


def application(rehearsal: Rehearsal) -> Asgi:
    """The service's hot path with the trained model as champion, without a server around it."""
    from inference_pipeline import openapi
    from inference_pipeline.endpoint import Endpoint, HotPath
    from inference_pipeline.predictor import Predictor

    assert rehearsal.champion
    assert openapi.request(rehearsal.project)
    stores = rehearsal.stores
    predictor = Predictor(rehearsal.project, rehearsal.online, stores["model_registry"], stores["prediction_log"])
    predictor.refresh()
    return HotPath(_nothing_else, Endpoint(predictor))


def ask(app: Asgi, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of `POST /predict`."""

    async def exchange() -> tuple[int, dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": orjson.dumps(body), "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app({"type": "http", "method": "POST", "path": "/predict"}, receive, send)
        return sent[0]["status"], orjson.loads(b"".join(message.get("body", b"") for message in sent[1:]))

    return asyncio.run(exchange())


def bad_requests(project: Project) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name of a field, what is wrong with it, and the request."""
    good = {name: field.example for name, field in project.service.request.items()}
    for name, field in project.service.request.items():
        if not field.optional:
            yield name, "the missing field", {key: value for key, value in good.items() if key != name}
        yield name, "a wrong type in", {**good, name: _wrong(field)}
    yield UNKNOWN_FIELD, "the unknown field", {**good, UNKNOWN_FIELD: 1}


def _wrong(field: RequestField) -> Any:
    """A value that no field of this type takes."""
    return {"not": "a value"} if field.dtype == pl.String else "not a value"


def _real(rehearsal: Rehearsal) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests made of the newest label rows."""
    for row in rehearsal.labelled.tail(REAL).iter_rows(named=True):
        fields = {name: row[name] for name in rehearsal.project.service.request if row.get(name) is not None}
        yield "the request of a label row", {name: _json(value) for name, value in fields.items()}


def _json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else value


def _error(answer: dict[str, Any]) -> str:
    details = "; ".join(
        f"{found['field']} {found['problem']}, expected {found['expected']}" for found in answer.get("details", [])
    )
    return details or str(answer.get("error"))


async def _nothing_else(
    scope: dict[str, Any], receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[Any]]
) -> None:
    raise AssertionError(f"{scope} is not of the hot path")
