"""A connection to Redis on which one command after another is asked and answered."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Any

EAGER_NANOSECONDS = 200_000
"""How long an answer is looked for before the thread sleeps: about what a server beside us takes, and what being woken
costs on an idle processor."""
MAX_PAUSE = 255
"""Reads in a row that sleep at once after answers have come late."""


class _Heads(dict[int, bytes]):
    """Length of an argument -> what comes before it in a command."""

    def __missing__(self, length: int) -> bytes:
        self[length] = b"\r\n$%d\r\n" % length
        return self[length]


_HEADS = _Heads()


def packed_mget(keys: Sequence[bytes]) -> bytes:
    """The command in Redis's protocol, in two thirds of the time that any command takes."""
    arguments = b"".join([_HEADS[len(key)] + key for key in keys])
    return b"*%d\r\n$4\r\nMGET%b\r\n" % (len(keys) + 1, arguments)


class Line:
    """A connection of redis-py, kept by its reader. Used by one thread at a time.

    It looks for an answer without sleeping as long as answers come that fast; each that does not doubles the number of
    reads that sleep at once.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._readable = select.poll()
        self._readable.register(connection._sock, select.POLLIN)
        self._pause = self.num_asleep = 0
        """The next reads that sleep at once."""

    def mget(self, keys: Sequence[bytes], *, eager: bool) -> list[bytes | None]:
        """The values of `keys`; redis-py's errors. `eager`: whether the processor may be kept busy."""
        self.connection.send_packed_command([packed_mget(keys)], check_health=False)
        if eager:
            self._look()
        found: list[bytes | None] = self.connection.read_response()
        return found

    def _look(self) -> None:
        """Return when an answer is there, or after a while."""
        if self.num_asleep:
            self.num_asleep -= 1
            return
        end = time.perf_counter_ns() + EAGER_NANOSECONDS
        while not self._readable.poll(0):
            if time.perf_counter_ns() > end:
                self._pause = self.num_asleep = min(2 * self._pause + 1, MAX_PAUSE)
                return
        self._pause = 0
