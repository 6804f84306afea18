"""Every request has an answer in JSON: a body that is too large, a handler that fails, a store that is not ready."""

import asyncio

import httpx
from starlette.requests import Request
from starlette.routing import Route, Router

from fti.errors import DataError, NotReadyError
from fti.http.app import JsonEndpoint, JsonResponse, RequestError, decoded, read_body

OBSERVED: list[tuple[str, int]] = []


async def echo(request: Request) -> JsonResponse:
    content = decoded(await read_body(request, 8, "too large", limit=8))
    return JsonResponse({"content": content}, 202)


async def not_ready(request: Request) -> None:
    raise NotReadyError("start it")


async def broken(request: Request) -> None:
    raise DataError("a detail that only the log tells")


async def refused(request: Request) -> None:
    raise RequestError(409, "no", details=["why"])


def application() -> Router:
    def serve(handler):
        return JsonEndpoint(
            handler, failure="failed", observe=lambda path, status, seconds: OBSERVED.append((path, status))
        )

    handlers = {"/echo": echo, "/not_ready": not_ready, "/broken": broken, "/refused": refused}
    return Router([Route(path, serve(handler), methods=["POST"]) for path, handler in handlers.items()])


def ask(path: str, content: bytes = b"") -> httpx.Response:
    async def exchange() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://service") as client:
            return await client.post(path, content=content)

    return asyncio.run(exchange())


def test_a_handler_chooses_its_status_and_is_observed():
    OBSERVED.clear()
    answer = ask("/echo", b"[1, 2]")
    assert (answer.status_code, answer.json()) == (202, {"content": [1, 2]})
    assert answer.headers["content-type"] == "application/json"
    assert OBSERVED == [("/echo", 202)]


def test_a_body_over_the_limit_is_refused_and_the_connection_closed():
    answer = ask("/echo", b"123456789")
    assert (answer.status_code, answer.json()) == (413, {"error": "too large", "limit": 8})
    assert answer.headers["connection"] == "close"
    assert ask("/echo", b"12345678").status_code == 202


def test_errors_become_answers():
    assert ask("/echo", b"{").status_code == 400
    assert ask("/echo", b"NaN").json()["error"].startswith("the body is not JSON: ")
    answer = ask("/refused")
    assert (answer.status_code, answer.json()) == (409, {"error": "no", "details": ["why"]})
    answer = ask("/not_ready")
    assert (answer.status_code, answer.json()) == (503, {"error": "start it"})
    answer = ask("/broken")
    assert (answer.status_code, answer.json()) == (500, {"error": "failed"})
