"""Where accepted events wait for the consumer: a local log, or a Redis Stream when `FTI_EVENTS_URI` names one.

An event is one line of JSON. Both keep it until it is applied; after a crash the consumer gets it again.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from fti.errors import ConflictError, DataError
from fti.settings import Settings

ROLL_BYTES = 64 * 2**20
"""A file of the local log that is longer is closed."""
READ_BYTES = 8 * 2**20
"""Most that one read takes from a file."""
POLL_SECONDS = 0.005


class EventLog(Protocol):
    """Events in the order of their acceptance. One process reads; what it has read but not committed comes again."""

    def append(self, events: Sequence[bytes]) -> None:
        """Add events; durable when it returns."""

    def read(self, limit: int, wait: float) -> list[bytes]:
        """The next events, about `limit` at most; waits for the first one up to `wait` seconds."""

    def commit(self) -> None:
        """Everything that was read is applied: it may be forgotten."""

    @property
    def position(self) -> str:
        """How far it was read; a log that is opened there goes on after it. Empty where the server keeps it."""

    def backlog(self, position: str) -> int:
        """Number of events after `position` that are not applied."""


def open_event_log(settings: Settings, project: str, position: str = "") -> EventLog:
    """The log that the settings name, to be read after `position`."""
    if settings.events_uri:
        from fti.stores.events.redis_log import RedisEventLog

        return RedisEventLog(settings.events_uri, f"fti:{project}:events")
    if settings.storage_uri:
        raise DataError(
            "FTI_STORAGE_URI is set and FTI_EVENTS_URI is not: events would wait on this machine, where no other one "
            "finds them. Set it to redis://host:6379/0."
        )
    return LocalEventLog(state_folder(settings, project) / "events", start=position)


def state_folder(settings: Settings, project: str) -> Path:
    """Folder of the local log and of what the consumer remembers."""
    return settings.root / "stream" / project


@dataclass
class LocalEventLog:
    """Numbered files of lines, `<CRC-32> <event>`. One process appends, with one `fdatasync` a group; a torn last line
    is nobody's event.

    A position is `<number of the file>:<bytes read of it>`.
    """

    folder: Path
    start: str = ""
    _read: tuple[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        number, _, offset = self.start.partition(":")
        self._read = (int(number or 0), int(offset or 0))

    @property
    def position(self) -> str:
        return f"{self._read[0]}:{self._read[1]}"

    def append(self, events: Sequence[bytes]) -> None:
        content = b"".join(b"%08x %s\n" % (zlib.crc32(event), event) for event in events)
        size = os.fstat(self._writer).st_size
        written = os.write(self._writer, content)
        if written < len(content):
            os.ftruncate(self._writer, size)
            raise OSError(f"{self.folder}: {written} of {len(content)} bytes fit on the disk; free some space")
        os.fdatasync(self._writer)
        if size + written > ROLL_BYTES:
            os.close(self._writer)
            self._writer = self._open(self._numbers()[-1] + 1)

    def read(self, limit: int, wait: float) -> list[bytes]:
        deadline = time.monotonic() + wait
        while not (lines := self._next(limit)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return lines

    def commit(self) -> None:
        for number in self._numbers():
            if number < self._read[0]:
                self._path(number).unlink()

    def backlog(self, position: str) -> int:
        number, offset = LocalEventLog(self.folder, start=position)._read
        files = [found for found in self._numbers() if found >= number]
        return sum(_whole(self._path(found), offset if found == number else 0).count(b"\n") for found in files)

    def _next(self, limit: int) -> list[bytes]:
        """Lines after the position; goes on to the next file only when that is there and this one has no more."""
        numbers = self._numbers()
        later = [number for number in numbers if number > self._read[0]]
        number, offset = self._read
        content = _whole(self._path(number), offset, READ_BYTES) if number in numbers else b""
        if not content and later:
            self._read = (later[0], 0)
            return self._next(limit)
        lines = content.split(b"\n")[:-1][:limit]
        events = [self._event(line, number) for line in lines]
        self._read = (number, offset + sum(len(line) + 1 for line in lines))
        return events

    def _event(self, line: bytes, number: int) -> bytes:
        """The event of a line, which begins with its checksum; those of versions before begin with their brace."""
        if line.startswith(b"{"):
            return line
        if line[:9] != b"%08x " % zlib.crc32(line[9:]):
            raise DataError(
                f"{self._path(number)} is damaged: the event of line {line[:60]!r} is not as it was accepted. Take "
                "that line out of the file to go on without it."
            )
        return line[9:]

    def _numbers(self) -> list[int]:
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        return sorted(int(name.partition(".")[0]) for name in names if name.endswith(".ndjson"))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.ndjson"

    @cached_property
    def _writer(self) -> int:
        """The newest file, for appending, without a torn last line. Kept open, and the lock with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder / ".writer", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"{self.folder} has a writer already: one ingest service a project") from None
        handle = self._open(max(self._numbers(), default=1))
        os.ftruncate(handle, len(_whole(self._path(max(self._numbers())), 0)))
        return handle

    def _open(self, number: int) -> int:
        return os.open(self._path(number), os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _whole(path: Path, offset: int, size: int = -1) -> bytes:
    """Whole lines of a file from `offset` on."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
    except FileNotFoundError:
        return b""
    return content[: content.rfind(b"\n") + 1]
