"""filled() in an event loop: the fill runs in the loop, and a task may be cancelled around it."""

from __future__ import annotations

import asyncio

import pytest

import flipcall
import flipcall.asyncio
from tests.asyncio.conftest import Run, until
from tests.asyncio.test_client import connect, pool_of


class Filled(flipcall.Service, name="Filled"):
    async def size(self, data: bytes) -> int: ...
    async def slow(self, data: bytes) -> int: ...


class PlainFilled(flipcall.Service, name="Filled"):
    def size(self, data: bytes) -> int: ...
    def slow(self, data: bytes) -> int: ...


class ThreadFilled(PlainFilled):
    """`slow` ends when nobody waits for it any more."""

    def __init__(self) -> None:
        self.calls = 0

    def size(self, data: bytes) -> int:
        return len(data)

    def slow(self, data: bytes) -> int:
        self.calls += 1
        while not flipcall.context().cancelled:
            pass
        return len(data)


def test_a_task_that_is_cancelled_by_its_fill(run: Run, path: str) -> None:
    """The call is made, and given up where its task waits first; the channel comes back."""
    server = ThreadFilled()

    async def main() -> None:
        async with connect(Filled, path, max_channels=1) as client:
            task: asyncio.Task[int] | None = None

            def fill(place: memoryview) -> None:
                assert task is not None
                task.cancel()

            async def call() -> int:
                return await client.slow(flipcall.filled(5000, fill))

            task = asyncio.create_task(call())
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await client.size(flipcall.filled(3, len)) == 3
            assert len(pool_of(client).channels()) == 1

    with flipcall.Server(server, path):
        run(main)
    assert server.calls == 1


def test_a_task_that_is_cancelled_before(run: Run, path: str) -> None:
    """While it waits for a channel: nothing is filled."""

    async def main() -> None:
        async with connect(Filled, path, max_channels=1) as client:
            first = asyncio.create_task(client.slow(b"abc"))
            await until(lambda: server.calls == 1)
            second = asyncio.create_task(client.size(flipcall.filled(3, lambda p: pytest.fail("called"))))
            await until(lambda: len(pool_of(client).waiters) == 1)
            second.cancel()
            first.cancel()
            await asyncio.wait([first, second])
            assert first.cancelled()
            assert second.cancelled()
            assert await client.size(flipcall.filled(3, len)) == 3

    server = ThreadFilled()
    with flipcall.Server(server, path):
        run(main)


def test_calls_at_once(run: Run, path: str) -> None:
    """Many tasks fill, one after the other, each its own channel's place; what is kept fails its call alone."""

    async def main() -> None:
        kept: list[memoryview] = []

        async def keep() -> int:
            with pytest.raises(flipcall.MisuseError, match="outlives"):
                await client.size(flipcall.filled(9, lambda place: kept.append(place[1:])))
            return -1

        async with connect(Filled, path, max_channels=4) as client:
            calls = [keep() if n % 10 == 5 else client.size(flipcall.filled(n, len)) for n in range(100)]
            sizes = await asyncio.gather(*calls)
            assert sizes == [-1 if n % 10 == 5 else n for n in range(100)]
            assert len(kept) == 10

    with flipcall.Server(ThreadFilled(), path):
        run(main)
