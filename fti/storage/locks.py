"""Locks by name: a file beside the SQLite database, or an advisory lock of PostgreSQL where several machines work.

A lock ends with the process that holds it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fti.files import POLL_SECONDS, file_lock


@contextmanager
def lock(url: str, name: str, *, waiting: Callable[[], bool] = lambda: True) -> Iterator[bool]:
    """Hold the lock `name` of the database at `url`; whether it is held.

    While somebody else holds it, `waiting` is asked again and again whether to go on waiting.
    """
    from fti.storage.sql import is_postgresql

    if is_postgresql(url):
        with _advisory(url, name, waiting) as held:
            yield held
    else:
        with file_lock(Path(url.removeprefix("sqlite:///")).parent / "locks" / f"{name}.lock", waiting=waiting) as held:
            yield held


@contextmanager
def _advisory(url: str, name: str, waiting: Callable[[], bool]) -> Iterator[bool]:
    from sqlalchemy import text

    from fti.storage.sql import database

    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with database(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        take = text("SELECT pg_try_advisory_lock(:number)")
        while not (held := bool(connection.execute(take, {"number": number}).scalar())):
            if not waiting():
                break
            time.sleep(POLL_SECONDS)
        try:
            yield held
        finally:
            if held:
                connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": number})
