"""Routes of a service, on Starlette: one reader of bodies, one form of answers, one of errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fti.errors import FtiError, NotReadyError

logger = logging.getLogger("fti.http")


class RequestError(FtiError):
    """A request that cannot be answered as it is: the HTTP status, and what the JSON says beside `error`."""

    def __init__(self, status: int, error: str, **more: Any) -> None:
        super().__init__(error)
        self.status, self.more = status, more

    def body(self) -> dict[str, Any]:
        """The JSON answer."""
        return {"error": str(self), **self.more}


class JsonResponse(Response):
    """An answer in JSON. After a body that is too large, the connection is closed: the rest of it is not read."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200) -> None:
        super().__init__(content, status_code, {"connection": "close"} if status_code == 413 else None)

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class JsonEndpoint:
    """ASGI application of one route. `handler` returns a response, or the content of a JSON answer with status 200.

    Every error becomes an answer: if one escaped, a client of BentoML's server would hang. Errors of the class
    `unavailable` have status 503 and tell their message, others 500 and the sentence `failure`.
    """

    def __init__(
        self,
        handler: Callable[[Request], Awaitable[Any]],
        *,
        failure: str,
        unavailable: type[FtiError] = NotReadyError,
        observe: Callable[[str, int, float], None] = lambda path, status, seconds: None,
    ) -> None:
        self._handler, self._failure, self._unavailable, self._observe = handler, failure, unavailable, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        started = time.perf_counter()
        response = await self._response(Request(scope, receive))
        self._observe(scope["path"], response.status_code, time.perf_counter() - started)
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        try:
            content = await self._handler(request)
            return content if isinstance(content, Response) else JsonResponse(content)
        except RequestError as error:
            return JsonResponse(error.body(), error.status)
        except ClientDisconnect:
            return JsonResponse({"error": "the client left before its request was complete"}, 400)
        except self._unavailable as error:
            return JsonResponse({"error": str(error)}, 503)
        except Exception:
            logger.exception("a request failed")
            return JsonResponse({"error": self._failure}, 500)


async def read_body(request: Request, max_bytes: int, error: str, **more: Any) -> bytes:
    """The body; RequestError 413 with `error` and `more` as soon as it is over `max_bytes`."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise RequestError(413, error, **more)
    return b"".join(parts)


def decoded(body: bytes, **more: Any) -> Any:
    """The JSON in a body; RequestError 400 with `more` where it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"the body is not JSON: {error}", **more) from None
