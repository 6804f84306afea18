"""Checks of what is served: online features, the service's answers and refusals, the drift report."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from fti.project import Monitor, Project, RequestField
from fti.testing.rehearsal import Rehearsal
from fti.testing.result import Broken
from fti.times import TIME

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

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
    from training_pipeline.judging.parity import parity, verdict

    service, fields = rehearsal.project.features.service, rehearsal.project.service.request
    for view, schema in rehearsal.feature_store.schemas(service).items():
        if lacking := [key for key in schema.keys if key not in fields or key not in rehearsal.labelled.columns]:
            raise Broken(
                f"the view {view!r} is looked up by {', '.join(lacking)}, which a request does not have: add it to "
                "Service.request and to Label.rows, under the name of the entity's join key."
            )
    entities = rehearsal.requests.tail(ASKED).drop(TIME)
    found, moment = parity(rehearsal.online, service, entities)
    passed, description = verdict(service, found, moment, entities.height)
    if not passed:
        raise Broken(description)


def service_answers(rehearsal: Rehearsal) -> None:
    """The request made of the fields' examples, and real ones, over the service's ASGI application."""
    from fti.http.app import RequestError
    from inference_pipeline.serving.request import RequestSchema

    project = rehearsal.project
    example = {name: field.example for name, field in project.service.request.items()}
    try:
        RequestSchema(project).one(orjson.dumps(example))
    except RequestError as error:
        raise Broken(
            f"the fields' examples are no request: {_error(error.body())}. Mend RequestField.example."
        ) from error
    app = application(rehearsal)
    for what, body in [("the request of the fields' examples", example), *_real(rehearsal)]:
        status, answer = ask(app, body)
        if status != 200:
            raise Broken(
                f"{what} {body} is answered with {status}: {_error(answer)}. Make the request's "
                "fields and Label.rows agree."
            )
        missing = [name for name in ANSWER[project.model.task] if answer.get(name) is None]
        if missing:
            raise Broken(f"the answer to {what} lacks {', '.join(missing)}: {answer}. The model predicts NaN.")


def service_refuses(rehearsal: Rehearsal) -> None:
    """A missing, a wrongly typed and an unknown field are refused with status 422 and the field's name."""
    require_refusals(rehearsal.project, application(rehearsal))


def require_refusals(project: Project, app: ASGIApp) -> None:
    """Ask `app` what it must not answer."""
    for name, what, body in bad_requests(project):
        status, answer = ask(app, body)
        if status != 422 or name not in str(answer):
            raise Broken(
                f"a request with {what} {name!r} is answered with {status} instead of 422: {answer}. "
                "Look at the field's type in Service.request."
            )


def no_drift_against_itself(rehearsal: Rehearsal) -> None:
    """The drift statistics of the training rows against their own reference: of all, and window by window."""
    from fti.model import drift

    project, rows = rehearsal.project, rehearsal.featured
    monitor = project.monitor
    categorical = list(project.model.categorical)
    names = [name for of in rehearsal.online.feature_names(project.features.service).values() for name in of]
    numeric = [name for name in (*names, *project.features.on_demand_names) if name not in categorical]
    reference = drift.reference(rows, numeric=numeric, categorical=categorical)
    drifted = _drifted(monitor, rows, reference)
    if drifted > monitor.max_drifted_share:
        raise Broken(
            f"{drifted:.0%} of the features of the training rows themselves count as drifted, the limit is "
            f"{monitor.max_drifted_share:.0%}: raise Monitor.max_drifted_share, quantile or factor."
        )
    windows = [window for window in _windows(rows, monitor.window) if window.height >= monitor.min_rows]
    over = sum(_drifted(monitor, window, reference) > monitor.max_drifted_share for window in windows)
    if len(windows) > 1 and over > len(windows) / 2:
        raise Broken(
            f"{over} of {len(windows)} windows of {monitor.window} in the training rows count as drifted: choose a "
            "longer Monitor.window, more min_rows, or a higher max_drifted_share, quantile or factor."
        )


def _drifted(monitor: Monitor, rows: pl.DataFrame, reference: Any) -> float:
    """Share of features that drifted."""
    from fti.model import drift

    table = drift.compare(rows, reference, quantile=monitor.quantile, factor=monitor.factor)
    return float(table["drifted"].sum()) / max(table.height, 1)


def _windows(rows: pl.DataFrame, width: timedelta) -> list[pl.DataFrame]:
    """`rows` in neighbouring windows from the oldest on."""
    since = (pl.col(TIME) - pl.col(TIME).min()).dt.total_microseconds()
    numbered = rows.with_columns(__window=since // int(width.total_seconds() * 1e6))
    return numbered.partition_by("__window", include_key=False, maintain_order=True)


def application(rehearsal: Rehearsal) -> ASGIApp:
    """The service's hot path with the trained model as champion, without a server around it."""
    from inference_pipeline.serving.endpoint import Endpoint, HotPath
    from inference_pipeline.serving.predictor import Predictor

    assert rehearsal.champion
    stores = rehearsal.stores
    predictor = Predictor(rehearsal.project, rehearsal.online, rehearsal.registry, stores.prediction_log)
    predictor.refresh()
    return HotPath(_nothing_else, Endpoint(predictor))


def ask(app: ASGIApp, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and answer of `POST /predict`."""

    import httpx

    async def exchange() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
            return await client.post("/predict", content=orjson.dumps(body))

    response = asyncio.run(exchange())
    return response.status_code, response.json()


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


async def _nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"{scope} is not of the hot path")
