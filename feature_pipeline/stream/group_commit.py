"""Group commit: what arrives while one group is being made durable becomes the next group, one write for all of it."""

import asyncio
from collections.abc import Callable, Sequence

from fti.errors import NotReadyError

MAX_WAITING = 200_000
"""Events that may wait in memory; over it new ones are refused until the log has caught up."""


class GroupCommit:
    """Calls `write` in a thread, with as many events at once as have come; one call at a time."""

    def __init__(self, write: Callable[[Sequence[bytes]], None]) -> None:
        self._write = write
        self._waiting: list[tuple[list[bytes], asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def append(self, events: list[bytes]) -> None:
        """Return once `events` are durable; raise what writing them raised."""
        if sum(len(lines) for lines, _ in self._waiting) > MAX_WAITING:
            raise NotReadyError("more events come than the log can take: send them again later")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((events, done))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            (error,) = await asyncio.gather(
                asyncio.to_thread(self._write, [line for lines, _ in group for line in lines]), return_exceptions=True
            )
            for _, done in group:
                if done.done():
                    continue  # the client went away
                done.set_exception(error) if error else done.set_result(None)
