"""The ingest service: `python -m feature_pipeline.stream.service --project flights --port 3100`.

`POST /events` takes one event, `{"events": [...]}` or a line an event (`application/x-ndjson`) and answers 202 once all
of them are durable; a request with a wrong event is refused as a whole. `GET /status`, `/rejected`, `/metrics`,
`/livez`. The consumer runs as a child process and is started again when it dies.
"""

import argparse
import asyncio
import gc
import hmac
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import orjson
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from feature_pipeline.stream.checkpoint import Checkpoint
from feature_pipeline.stream.consumer import checkpoint_of, project_named, report
from feature_pipeline.stream.events import EventError, EventSchema
from fti.errors import FtiError, NotReadyError
from fti.http.app import JsonEndpoint, JsonResponse, RequestError, decoded, read_body
from fti.http.batching import MicroBatcher
from fti.project import Project
from fti.settings import Settings
from fti.stores.events.log import EventLog, open_event_log

MAX_BODY_BYTES = 4 * 2**20
MAX_WAITING = 200_000
"""Events that may wait in memory; over it new ones are refused until the log has caught up."""
MAX_PROBLEMS = 100
RESTART_SECONDS = 1.0
NUMBERS = ("accepted", "applied", "duplicates", "rejected", "lag", "freshness_seconds", "last_applied")
"""Of `status`, those that are metrics too."""

Handler = Callable[[Request], Awaitable[Any]]


class IngestService(Router):
    """The ASGI application of one project. What arrives while one group is being made durable is written at once."""

    def __init__(
        self,
        project: Project,
        log: EventLog,
        checkpoint: Checkpoint,
        *,
        token: str = "",
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.project, self.log, self.checkpoint = project, log, checkpoint
        self.accepted = self._num_waiting = 0
        self._schema = EventSchema(project)
        self._max_waiting = max_waiting
        self._token = token.encode()
        self._commit = MicroBatcher(self._write, max_size=MAX_WAITING, retry=False)
        handlers: dict[tuple[str, str], Handler] = {
            ("POST", "/events"): self.events,
            ("GET", "/status"): self.status,
            ("GET", "/rejected"): self.rejected,
            ("GET", "/metrics"): self.metrics,
            ("GET", "/livez"): self.live,
        }
        self._pages = ", ".join(f"{method} {path}" for method, path in handlers)
        serve = partial(JsonEndpoint, failure="the request failed; the service's log says why", unavailable=FtiError)
        routes = [Route(path, serve(handler), methods=[method]) for (method, path), handler in handlers.items()]
        super().__init__([*routes, Route("/{path:path}", serve(self.nothing))])

    async def events(self, request: Request) -> Response:
        """Accept events: all of the request's or none."""
        self._authorize(request)
        too_large = f"at most {MAX_BODY_BYTES // 2**20} MiB a request; send smaller batches"
        body = await read_body(request, MAX_BODY_BYTES, too_large)
        lines = self._lines(_contents(body, request.headers.get("content-type", "")))
        if self._num_waiting > self._max_waiting:
            raise NotReadyError("more events come than the log can take: send them again later")
        self._num_waiting += len(lines)
        try:
            await self._commit.submit(lines)
        finally:
            self._num_waiting -= len(lines)
        self.accepted += len(lines)
        return JsonResponse({"accepted": len(lines)}, 202)

    async def status(self, request: Request) -> dict[str, Any]:
        """How far the consumer is; `lag` is the number of accepted events that are not applied yet."""
        return await asyncio.to_thread(self._status)

    async def rejected(self, request: Request) -> dict[str, Any]:
        """The events that were set aside last."""
        self._authorize(request)
        return {"rejected": await asyncio.to_thread(self.checkpoint.rejected)}

    async def metrics(self, request: Request) -> Response:
        """The numbers of `status` for Prometheus."""
        gauges = Gauges(self.project.name, await asyncio.to_thread(self._status))
        return Response(generate_latest(gauges), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def live(self, request: Request) -> dict[str, Any]:
        """That the process answers."""
        return {"project": self.project.name}

    async def nothing(self, request: Request) -> None:
        """Any other path or method."""
        raise RequestError(404, f"no such page; there are {self._pages}")

    def _lines(self, contents: Sequence[Any]) -> list[bytes]:
        """The events as lines of the log; RequestError when one is wrong."""
        now = time.time_ns() // 1000
        lines, problems, status = [], [], 202
        for place, content in enumerate(contents):
            try:
                event = self._schema.check(content)
            except EventError as error:
                problems.append({"event": place, "field": error.field, "expected": error.expected})
                status = max(status, error.status)
            else:
                kept = {"id": event.id, "source": event.source, "row": content["row"], "accepted": now}
                lines.append(orjson.dumps(kept))
        if problems:
            raise RequestError(status, "no event was accepted", problems=problems[:MAX_PROBLEMS])
        return lines

    def _write(self, requests: Sequence[list[bytes]]) -> Sequence[None]:
        """Make the events of several requests durable."""
        self.log.append([line for lines in requests for line in lines])
        return [None] * len(requests)

    def _status(self) -> dict[str, Any]:
        facts = self.checkpoint.facts()
        lag = self.log.backlog(facts.pop("position"))
        return {"project": self.project.name, "accepted": self.accepted, "lag": lag, **facts}

    def _authorize(self, request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").encode("latin-1")
        if self._token and not hmac.compare_digest(given, self._token):
            raise RequestError(401, "send `authorization: Bearer <FTI_EVENTS_TOKEN>`")


class Gauges(Collector):
    """The numbers of a service's status as metrics; one that is not known yet is left out."""

    def __init__(self, project: str, numbers: dict[str, Any]) -> None:
        self._project, self._numbers = project, numbers

    def collect(self) -> Iterator[Metric]:
        """A gauge for each number."""
        for name in NUMBERS:
            if self._numbers[name] is not None:
                gauge = GaugeMetricFamily(f"fti_events_{name}", f"`{name}` of GET /status.", labels=["project"])
                gauge.add_metric([self._project], self._numbers[name])
                yield gauge


def _contents(body: bytes, kind: str) -> list[Any]:
    """The decoded events of a request."""
    if kind.startswith("application/x-ndjson"):
        return [decoded(line) for line in body.splitlines() if line.strip()]
    content = decoded(body)
    events = content.get("events", [content]) if isinstance(content, dict) else content
    if not isinstance(events, list):
        raise RequestError(400, '`events` is not a list; send {"events": [...]}')
    return events


async def keep_consumer(project: str) -> None:
    """Run the consumer, and start it again when it dies, until this task is cancelled."""
    command = ("-m", "feature_pipeline.stream.consumer", "--project", project, "--parent", str(os.getpid()))
    while True:
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        report("restarting", project=project, code=code)
        await asyncio.sleep(RESTART_SECONDS)


async def serve(settings: Settings, project: Project, host: str, port: int, *, consume: bool) -> None:
    """Serve until a signal."""
    import uvicorn

    log, checkpoint = open_event_log(settings, project.name), checkpoint_of(settings, project.name)
    log.append([])  # fails now, not at the first event, when another service writes this log
    app = IngestService(project, log, checkpoint, token=settings.events_token)
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections need not look at it while events wait
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, access_log=False, log_level="info"))
    consumer = asyncio.create_task(keep_consumer(project.name)) if consume else None
    try:
        await server.serve()
    finally:
        if consumer:
            consumer.cancel()
            await asyncio.gather(consumer, return_exceptions=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one project until a signal ends the process."""
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m feature_pipeline.stream.service", description=__doc__)
    parser.add_argument("--project", help="name of a project in FTI_PROJECTS; the first one if not given")
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.events_port)
    parser.add_argument("--no-consumer", action="store_true", help="only accept events; a consumer runs elsewhere")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    project = project_named(settings, arguments.project)
    asyncio.run(serve(settings, project, arguments.host, arguments.port, consume=not arguments.no_consumer))


if __name__ == "__main__":
    main()
