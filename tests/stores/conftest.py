"""The two places of the online store: a file of SQLite and a real Redis server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.redis_server import redis_server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url


@pytest.fixture
def empty_redis(redis_url: str) -> str:
    """The server, emptied."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def online_path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """`path` of an online store that is empty."""
    if request.param == "sqlite":
        return str(tmp_path / "online.db")
    path: str = request.getfixturevalue("empty_redis")
    return path
