"""The event log on a Redis Stream: producers may also `XADD` to it themselves, the event as JSON in the field `event`.

Delivery is Redis's: an entry stays pending from its delivery to its acknowledgement, and a new consumer claims what
others left. Its ids keep the order, and pending entries are older than any new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fti.errors import NotReadyError

GROUP = "fti"
CONSUMER = "consumer"
FIELD = b"event"


@dataclass
class RedisEventLog:
    """One stream and the consumer group `fti` on it, which is one active consumer: the lake's lock sees to that."""

    url: str
    stream: str
    position: str = ""
    _pending: list[bytes] = field(default_factory=list, repr=False)
    """Ids that were read and are not acknowledged."""
    _claimed: bool = field(default=False, repr=False)

    def append(self, events: Sequence[bytes]) -> None:
        with self._errors():
            pipeline = self._redis.pipeline(transaction=False)
            for event in events:
                pipeline.execute_command("XADD", self.stream, "*", FIELD, event)
            pipeline.execute()

    def read(self, limit: int, wait: float) -> list[bytes]:
        """Entries that an earlier reader, or a lost answer, left pending come first."""
        with self._errors():
            entries = self._new(limit, wait) if self._claimed else self._left_over()
        self._pending += [number for number, _ in entries]
        return [fields.get(FIELD, b"") for _, fields in entries if fields is not None]

    def commit(self) -> None:
        if not self._pending:
            return
        with self._errors():
            milliseconds, _, number = self._pending[-1].partition(b"-")
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xack(self.stream, GROUP, *self._pending)
            pipeline.xtrim(self.stream, minid=f"{int(milliseconds)}-{int(number) + 1}", approximate=True)
            pipeline.execute()
        self._pending.clear()

    def backlog(self, position: str) -> int:
        with self._errors():
            groups = self._redis.xinfo_groups(self.stream) if self._redis.exists(self.stream) else []
            for group in groups:
                if group["name"] == GROUP.encode() and group["lag"] is not None:
                    return int(group["lag"]) + int(group["pending"])
            return int(self._redis.xlen(self.stream))

    def _new(self, limit: int, wait: float) -> list[tuple[bytes, Any]]:
        import redis

        block = max(1, int(wait * 1000))
        try:
            answer = self._redis.xreadgroup(GROUP, CONSUMER, {self.stream: ">"}, count=limit, block=block)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return self._left_over()  # a Redis that kept nothing came back: the group is made again
        return list(answer[0][1]) if answer else []

    def _left_over(self) -> list[tuple[bytes, Any]]:
        """Every pending entry of the group, oldest first."""
        import redis

        try:
            self._redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        found: list[tuple[bytes, Any]] = []
        start: Any = "0-0"
        while True:
            start, entries, _ = self._redis.xautoclaim(self.stream, GROUP, CONSUMER, 0, start_id=start, count=1000)
            found += entries
            if start == b"0-0":
                self._claimed = True
                return found

    @cached_property
    def _redis(self) -> Any:
        import redis

        return redis.Redis.from_url(self.url, socket_connect_timeout=5, health_check_interval=30)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """A lost answer may have delivered entries: they are claimed again before new ones are read."""
        import redis

        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._claimed = False
            self._pending.clear()
            raise NotReadyError(
                f"no Redis at {self.url.rpartition('@')[2]} ({error}): is FTI_EVENTS_URI right?"
            ) from error
