"""The hot path over HTTP, plain ASGI in front of BentoML's application: `/predict`, `/predict_batch`, `/status`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from fti.errors import NotReadyError
from inference_pipeline.metrics import ServiceMetrics
from inference_pipeline.microbatch import MicroBatcher
from inference_pipeline.predictor import STALE_FLAG, Answer, Arrival, Predictor
from inference_pipeline.refuse import StaleFeatures
from inference_pipeline.request import MAX_BODY_BYTES, REQUEST_ID, Problem, RequestError, parse_batch, parse_one

logger = logging.getLogger("fti.service")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


class Endpoint:
    """Answers predictions. Single requests are grouped while they wait; a batch has a thread of its own."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.metrics = ServiceMetrics(predictor.project.name)
        self._singles = MicroBatcher(self._answer)
        self._batches = ThreadPoolExecutor(1, thread_name_prefix="predict-batch")

    async def predict(self, body: bytes) -> dict[str, Any]:
        """One request in, its answer out."""
        arrived = time.perf_counter()
        answer = await self._singles.submit(Arrival(parse_one(self.predictor.project, body), arrived))
        if isinstance(answer, StaleFeatures):
            raise answer
        return answer

    async def predict_batch(self, body: bytes) -> dict[str, Any]:
        """`{"instances": [...]}` in, `{"predictions": [...]}` out, in the same order, by one model version.

        A request that is refused has its error in place of its prediction; the others are answered.
        """
        return await asyncio.get_running_loop().run_in_executor(self._batches, self._answer_batch, body)

    async def status(self, body: bytes) -> dict[str, Any]:
        """What is serving."""
        return await asyncio.get_running_loop().run_in_executor(None, self.predictor.status)

    def _answer_batch(self, body: bytes) -> dict[str, Any]:
        arrived = time.perf_counter()
        rows = parse_batch(self.predictor.project, body)
        answers = self._answer([Arrival(row, arrived) for row in rows])
        return {
            "predictions": [
                {REQUEST_ID: row[REQUEST_ID], "status": answer.status} | answer.body()
                if isinstance(answer, StaleFeatures)
                else answer
                for row, answer in zip(rows, answers, strict=True)
            ]
        }

    def _answer(self, arrivals: Sequence[Arrival]) -> list[Answer]:
        """The predictor's answers; stale features among them are counted."""
        answers = self.predictor.answer(arrivals)
        for answer in answers:
            stale = answer.views if isinstance(answer, StaleFeatures) else answer["flags"].get(STALE_FLAG, ())
            self.metrics.stale(stale)
        return answers


class HotPath:
    """ASGI middleware: the endpoint's own routes are answered here, everything else is passed on to `app`."""

    def __init__(self, app: Asgi, endpoint: Endpoint) -> None:
        self.app = app
        self.endpoint = endpoint
        self._routes = {
            ("POST", "/predict"): endpoint.predict,
            ("POST", "/predict_batch"): endpoint.predict_batch,
            ("GET", "/status"): endpoint.status,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status, answer = await answer_or_error(route, receive)
        self.endpoint.metrics.observe(scope["path"], status, time.perf_counter() - started)
        await _respond(send, status, answer)


async def answer_or_error(
    route: Callable[[bytes], Awaitable[dict[str, Any]]], receive: Receive
) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON of one request. Every error becomes an answer: if one escaped, the client would hang."""
    try:
        return 200, await route(await _body(receive))
    except RequestError as error:
        return error.status, error.body()
    except NotReadyError as error:
        return 503, {"error": str(error)}
    except Exception:
        logger.exception("a request failed")
        return 500, {"error": "the prediction failed; the service's log says why"}


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        if len(body) > MAX_BODY_BYTES:
            break
        message = await receive()
        body += message.get("body", b"")
    if len(body) > MAX_BODY_BYTES:
        expected = f"at most {MAX_BODY_BYTES // 2**20} MiB; send smaller batches"
        raise RequestError(413, "the body is too large", [Problem("", "too large", expected)])
    return body


async def _respond(send: Send, status: int, answer: dict[str, Any]) -> None:
    body = orjson.dumps(answer)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
