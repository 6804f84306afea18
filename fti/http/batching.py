"""Groups without waiting: what arrives while one group is being answered becomes the next group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class MicroBatcher(Generic[Item, Answer]):
    """Runs `answer(items)` in one thread, as few times as the load allows; the event loop never waits for it.

    An item that breaks its group is answered alone, so that its neighbours do not share its error; with `retry=False`
    they do, where a second run could do something twice.
    """

    def __init__(
        self, answer: Callable[[Sequence[Item]], Sequence[Answer]], *, max_size: int = 64, retry: bool = True
    ) -> None:
        self._answer, self._max_size, self._retry = answer, max_size, retry
        self._pending: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="micro-batch")
        self._drain: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """The answer to `item`; raises what answering it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._pending.append((item, future))
        if self._drain is None or self._drain.done():
            self._drain = loop.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._pending:
            group, self._pending = self._pending[: self._max_size], self._pending[self._max_size :]
            last = len(group) == 1 or not self._retry
            if not await self._settle(group, last=last) and not last:
                for member in group:
                    await self._settle([member], last=True)

    async def _settle(self, group: list[tuple[Item, asyncio.Future[Answer]]], *, last: bool) -> bool:
        """Answer `group`; False when it failed, its members untouched unless this is their last time."""
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, self._answer, [item for item, _ in group])
        await asyncio.wait([work])
        error = work.exception()
        for index, (_, future) in enumerate(group):
            if future.done():
                continue  # the client went away
            if error is None:
                future.set_result(work.result()[index])
            elif last:
                future.set_exception(error)
        return error is None
