"""Files that are there whole or not at all: written aside, then renamed. And locks, which end with their process."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.05


@contextmanager
def aside(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A path of its own to write to; when the block ends well, that file takes the place of `path` by one rename.

    Whoever dies on the way leaves `path` as it was. A `durable` file survives the death of the machine: it costs a few
    milliseconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield own
        if durable:
            _sync(own)
        os.replace(own, path)
        if durable:
            _sync(path.parent)
    finally:
        own.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Put `content` in the place of what `path` holds."""
    with aside(path, durable=durable) as own:
        own.write_bytes(content.encode() if isinstance(content, str) else content)


def create_file(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet, whole; whether it was this call that made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        own.write_bytes(content)
        _sync(own)
        os.link(own, path)
        _sync(path.parent)
    except FileExistsError:
        return False
    finally:
        own.unlink(missing_ok=True)
    return True


def replace_json(path: Path, content: Any) -> None:
    """Put `content` in the place of what `path` holds, as JSON that people can read."""
    replace_file(path, json.dumps(content, indent=2, default=str) + "\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def file_lock(path: Path, *, waiting: Callable[[], bool] = lambda: True) -> Iterator[bool]:
    """Hold the lock `path` among the processes of this machine; whether it is held.

    While somebody else holds it, `waiting` is asked again and again whether to go on waiting.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    own = FileLock(path, thread_local=False)
    held = False
    while not held:
        try:
            own.acquire(timeout=0)
            held = True
        except Timeout:
            if not waiting():
                break
            time.sleep(POLL_SECONDS)
    try:
        yield held
    finally:
        if held:
            own.release()
