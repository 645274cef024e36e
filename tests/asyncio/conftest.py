"""What the tests of flipcall.asyncio share: a service of both kinds, its servers, and the loops to run in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

import flipcall
import flipcall.asyncio

try:
    import uvloop
except ImportError:
    uvloop = None
else:
    uvloop.new_event_loop().close()  # the first one opens two descriptors that stay with the process

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class Post(flipcall.Service):
    """The contract for a loop."""

    async def echo(self, x: int) -> int: ...
    async def wait(self, name: str) -> str: ...
    async def size(self, data: bytes) -> int: ...
    async def total(self, numbers: AsyncIterator[int]) -> int: ...
    def count(self, n: int) -> AsyncIterator[int]: ...
    def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]: ...


class LoopPost(Post):
    """An implementation for a loop. wait() waits for its event, and says when it was cancelled."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.cancelled: list[str] = []
        self.go: dict[str, asyncio.Event] = {}

    async def echo(self, x: int) -> int:
        return x

    async def wait(self, name: str) -> str:
        self.entered.append(name)
        try:
            await self.go.setdefault(name, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return name

    async def size(self, data: bytes) -> int:
        return len(data)

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([x async for x in numbers])

    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def doubled(self, numbers: AsyncIterator[int]) -> AsyncIterator[int]:
        async for x in numbers:
            yield 2 * x


class Threads:
    """A place for another class of the same name."""

    class Post(flipcall.Service):
        """The same contract for threads."""

        def echo(self, x: int) -> int: ...
        def wait(self, name: str) -> str: ...
        def size(self, data: bytes) -> int: ...
        def total(self, numbers: Iterator[int]) -> int: ...
        def count(self, n: int) -> Iterator[int]: ...
        def doubled(self, numbers: Iterator[int]) -> Iterator[int]: ...


PlainPost = Threads.Post


class ThreadPost(PlainPost):
    """An implementation for threads; wait() waits until it is let go or, unless it is "deaf", cancelled."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.cancelled: list[str] = []
        self.go = threading.Event()

    def echo(self, x: int) -> int:
        return x

    def wait(self, name: str) -> str:
        self.entered.append(name)
        context = flipcall.context()
        while not self.go.wait(0.001):
            if context.cancelled and name != "deaf":
                self.cancelled.append(name)
                break
        return name

    def size(self, data: bytes) -> int:
        return len(data)

    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    def count(self, n: int) -> Iterator[int]:
        return iter(range(n))

    def doubled(self, numbers: Iterator[int]) -> Iterator[int]:
        return (2 * x for x in numbers)


@pytest.fixture
def path(tmp_path: Any) -> str:
    """Where the server listens."""
    return str(tmp_path / "s")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine function in a new loop of each kind."""
    if request.param == "asyncio":
        return lambda main: asyncio.run(main())
    if uvloop is None:
        pytest.skip("uvloop is not installed")

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(main())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    return run


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return when it holds; the loop runs meanwhile."""
    async with asyncio.timeout(seconds) if hasattr(asyncio, "timeout") else _patient():
        while not condition():
            await asyncio.sleep(0.001)


class _patient:
    async def __aenter__(self) -> None: ...
    async def __aexit__(self, *exc: object) -> None: ...
