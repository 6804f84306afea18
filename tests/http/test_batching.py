"""Requests that wait together are answered together, and fail alone."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from fti.http.batching import MicroBatcher


def test_what_waits_is_one_group() -> None:
    groups: list[int] = []
    go = threading.Event()

    def answer(items: Sequence[int]) -> list[int]:
        go.wait(5)
        groups.append(len(items))
        return [2 * item for item in items]

    async def run() -> list[int]:
        batcher = MicroBatcher(answer, max_size=8)
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(20)]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [2 * item for item in range(20)]
    assert sum(groups) == 20
    assert max(groups) == 8


def test_one_bad_item_fails_alone() -> None:
    def answer(items: Sequence[int]) -> list[int]:
        if 3 in items:
            raise ArithmeticError("three")
        return list(items)

    async def run() -> list[int | BaseException]:
        batcher = MicroBatcher(answer)
        return await asyncio.gather(*(batcher.submit(item) for item in range(5)), return_exceptions=True)

    found = asyncio.run(run())
    assert isinstance(found[3], ArithmeticError)
    assert found[:3] + found[4:] == [0, 1, 2, 4]


def test_a_client_that_leaves_hurts_nobody() -> None:
    async def run() -> int:
        batcher = MicroBatcher(lambda items: list(items))
        leaving = asyncio.create_task(batcher.submit(1))
        staying = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    assert asyncio.run(run()) == 2


def test_without_a_retry_a_group_runs_once_and_shares_its_error() -> None:
    groups: list[list[int]] = []

    def answer(items: Sequence[int]) -> list[int]:
        groups.append(list(items))
        raise ArithmeticError("the disk is full")

    async def run() -> list[int | BaseException]:
        batcher = MicroBatcher(answer, retry=False)
        return await asyncio.gather(*(batcher.submit(item) for item in range(3)), return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [ArithmeticError] * 3
    assert groups == [[0, 1, 2]]
