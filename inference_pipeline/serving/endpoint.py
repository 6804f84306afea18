"""The hot path over HTTP, in front of BentoML's application: `/predict`, `/predict_batch`, `/status`."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from fti.http.app import JsonEndpoint, read_body
from fti.http.batching import MicroBatcher
from inference_pipeline.serving.predict import StaleFeatures
from inference_pipeline.serving.predictor import STALE_FLAG, Answer, Arrival, Predictor
from inference_pipeline.serving.request import MAX_BODY_BYTES, REQUEST_ID, Problem

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds."""
TOO_LARGE = [asdict(Problem("", "too large", f"at most {MAX_BODY_BYTES // 2**20} MiB; send smaller batches"))]


class ServiceMetrics:
    """What Prometheus sees of the hot path of one process, beside BentoML's own metrics on `/metrics`."""

    def __init__(self, project: str) -> None:
        # Imported here: prometheus_client decides at import whether several processes share their metrics.
        from prometheus_client import Counter, Histogram

        labels = ("project", "path", "status")
        self._project = project
        self._requests = Counter("fti_requests", "Answered requests.", labels, registry=None)
        self._stale = Counter(
            "fti_stale_features",
            "Requests by feature view whose values were too old.",
            ("project", "view"),
            registry=None,
        )
        self._seconds = Histogram(
            "fti_request_seconds", "Seconds until the answer.", ("project", "path"), buckets=BUCKETS, registry=None
        )

    def stale(self, views: Iterable[str]) -> None:
        """Count one request whose values of `views` were too old."""
        for view in views:
            self._stale.labels(self._project, view).inc()

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(self._project, path, str(status)).inc()
        self._seconds.labels(self._project, path).observe(seconds)


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
        answer = await self._singles.submit(Arrival(self.predictor.schema.one(body), arrived))
        if isinstance(answer, StaleFeatures):
            raise answer
        return answer

    async def predict_batch(self, body: bytes) -> dict[str, Any]:
        """`{"instances": [...]}` in, `{"predictions": [...]}` out, in the same order, by one model version.

        A request that is refused has its error in place of its prediction; the others are answered.
        """
        return await asyncio.get_running_loop().run_in_executor(self._batches, self._answer_batch, body)

    async def status(self) -> dict[str, Any]:
        """What is serving."""
        return await asyncio.to_thread(self.predictor.status)

    def _answer_batch(self, body: bytes) -> dict[str, Any]:
        arrived = time.perf_counter()
        rows = self.predictor.schema.many(body)
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


class HotPath(Router):
    """ASGI middleware: the endpoint's own routes and `pages` are answered here, everything else by `app`."""

    def __init__(self, app: ASGIApp, endpoint: Endpoint, pages: Sequence[BaseRoute] = ()) -> None:
        serve = partial(
            JsonEndpoint,
            failure="the prediction failed; the service's log says why",
            observe=endpoint.metrics.observe,
        )
        super().__init__(
            [
                Route("/predict", serve(_reading(endpoint.predict)), methods=["POST"]),
                Route("/predict_batch", serve(_reading(endpoint.predict_batch)), methods=["POST"]),
                Route("/status", serve(lambda _: endpoint.status()), methods=["GET"]),
                *pages,
                Mount("/", app),
            ]
        )
        self._app = app

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's own."""
        await self._app(scope, receive, send)


def _reading(answer: Callable[[bytes], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[dict[str, Any]]]:
    """`answer` to the body of a request."""

    async def read_and_answer(request: Request) -> dict[str, Any]:
        return await answer(await read_body(request, MAX_BODY_BYTES, "the body is too large", details=TOO_LARGE))

    return read_and_answer
