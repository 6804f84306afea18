"""Which backend a path means."""

from __future__ import annotations

from pathlib import Path

from fti.stores.features.online.backend import Backend

REDIS = ("redis://", "rediss://", "unix://")


def is_redis(path: str) -> bool:
    """Whether `path` is the URL of a Redis server rather than a file."""
    return path.startswith(REDIS)


def open_backend(path: str, *, project: str, folder: Path | None, key_ttl_seconds: int | None) -> Backend:
    """The place that `path` names; a relative file starts at `folder`."""
    if is_redis(path):
        from fti.stores.features.online.redis_backend import RedisBackend

        return RedisBackend(path, project, key_ttl_seconds)
    from fti.stores.features.online.sqlite_backend import SqliteBackend

    file = Path(path)
    return SqliteBackend(file if file.is_absolute() or folder is None else folder / file)
