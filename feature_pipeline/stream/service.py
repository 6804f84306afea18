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
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from feature_pipeline.stream.checkpoint import Checkpoint
from feature_pipeline.stream.consumer import checkpoint_of, project_named, report
from feature_pipeline.stream.events import EventError, EventSchema
from feature_pipeline.stream.group_commit import GroupCommit
from fti.errors import FtiError
from fti.project import Project
from fti.settings import Settings
from fti.stores.event_log import EventLog, open_event_log

MAX_BODY_BYTES = 4 * 2**20
RESTART_SECONDS = 1.0

logger = logging.getLogger("fti.stream")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, Any]


class RequestError(Exception):
    """A request that is refused: HTTP status and JSON body."""

    def __init__(self, status: int, **body: Any) -> None:
        super().__init__(body.get("error"))
        self.answer: Answer = (status, body)


class IngestService:
    """The ASGI application of one project."""

    def __init__(self, project: Project, log: EventLog, checkpoint: Checkpoint, *, token: str = "") -> None:
        self.project, self.log, self.checkpoint = project, log, checkpoint
        self.accepted = 0
        self._schema = EventSchema(project)
        self._token = token.encode()
        self._commit = GroupCommit(log.append)
        self._routes: dict[tuple[str, str], Callable[[Scope, Receive], Awaitable[Answer]]] = {
            ("POST", "/events"): self.events,
            ("GET", "/status"): self.status,
            ("GET", "/rejected"): self.rejected,
            ("GET", "/metrics"): self.metrics,
            ("GET", "/livez"): self.live,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI connection."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        status, content = await self._answer(scope, receive)
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        kind = b"text/plain; version=0.0.4" if isinstance(content, bytes) else b"application/json"
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if status == 413:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def events(self, scope: Scope, receive: Receive) -> Answer:
        """Accept events: all of the request's or none."""
        self._authorize(scope)
        contents = _contents(await _body(receive), _header(scope, b"content-type"))
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
            raise RequestError(status, error="no event was accepted", problems=problems[:100])
        await self._commit.append(lines)
        self.accepted += len(lines)
        return 202, {"accepted": len(lines)}

    async def status(self, scope: Scope, receive: Receive) -> Answer:
        """How far the consumer is; `lag` is the number of accepted events that are not applied yet."""
        return 200, await asyncio.to_thread(self._status)

    async def rejected(self, scope: Scope, receive: Receive) -> Answer:
        """The events that were set aside last."""
        self._authorize(scope)
        return 200, {"rejected": await asyncio.to_thread(self.checkpoint.rejected)}

    async def metrics(self, scope: Scope, receive: Receive) -> Answer:
        """The numbers of `status` for Prometheus."""
        numbers = await asyncio.to_thread(self._status)
        return 200, "".join(
            f'fti_events_{name}{{project="{self.project.name}"}} {numbers[name]}\n'
            for name in ("accepted", "applied", "duplicates", "rejected", "lag", "freshness_seconds", "last_applied")
            if numbers[name] is not None
        ).encode()

    async def live(self, scope: Scope, receive: Receive) -> Answer:
        return 200, {"project": self.project.name}

    def _status(self) -> dict[str, Any]:
        facts = self.checkpoint.facts()
        lag = self.log.backlog(facts.pop("position"))
        return {"project": self.project.name, "accepted": self.accepted, "lag": lag, **facts}

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            return 404, {"error": f"no such page; there are {', '.join(f'{m} {p}' for m, p in self._routes)}"}
        try:
            return await route(scope, receive)
        except RequestError as error:
            return error.answer
        except FtiError as error:
            return 503, {"error": str(error)}
        except Exception:
            logger.exception("a request failed")
            return 500, {"error": "the request failed; the service's log says why"}

    def _authorize(self, scope: Scope) -> None:
        given = _header(scope, b"authorization").removeprefix(b"Bearer ")
        if self._token and not hmac.compare_digest(given, self._token):
            raise RequestError(401, error="send `authorization: Bearer <FTI_EVENTS_TOKEN>`")


def _header(scope: Scope, name: bytes) -> bytes:
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise RequestError(413, error=f"at most {MAX_BODY_BYTES // 2**20} MiB a request; send smaller batches")
    return body


def _contents(body: bytes, kind: bytes) -> list[Any]:
    """The decoded events of a request."""
    try:
        if kind.startswith(b"application/x-ndjson"):
            return [orjson.loads(line) for line in body.splitlines() if line.strip()]
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, error=f"the body is not JSON: {error}") from None
    events = content.get("events", [content]) if isinstance(content, dict) else content
    if not isinstance(events, list):
        raise RequestError(400, error='`events` is not a list; send {"events": [...]}')
    return events


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


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
