"""The typed call from an event loop: flipcall.asyncio.connect(), the same service with `async def`.

The server is the ordinary one. A call that is answered while the client spins never touches the loop, and the loop
is what this must not cost; so the loops of the measurement run inside it.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import flipcall
from bench.echo import ITEM, Item
from bench.measure import Effort, Sample, sample_loops
from bench.peer import ServeConfig
from bench.peers.base import Address
from bench.placement import UnavailableError
from bench.policies import policy_named
from bench.process import PeerProcess
from bench.rows import Labels

TRANSPORT = "flipcall-asyncio"
T = TypeVar("T")


class Echo(flipcall.Service):
    """bench.echo.Echo as a task sees it: the same name, the same signature."""

    async def echo(self, item: Item) -> Item:
        """`item`, as it came."""
        raise NotImplementedError


class EventLoopCall:
    """Echo.echo(ITEM) from a task of this process. Raises UnavailableError where the library cannot do it."""

    def __init__(self, labels: Labels, directory: Path) -> None:
        self.labels = labels
        try:
            connect = importlib.import_module("flipcall.asyncio").connect
        except ImportError:
            raise UnavailableError("this build of flipcall has no flipcall.asyncio") from None
        address = Address(transport="flipcall", path=str(directory / f"{TRANSPORT}.sock"))
        with ExitStack() as stack:
            self.peer = stack.enter_context(PeerProcess(ServeConfig(address=address, cpu=-1)))
            self._runner = stack.enter_context(_Loop())
            options = {"policy": policy_named(labels.policy or "balanced")}
            client = self._runner.run(_entered(connect(Echo, address.path, **options)))
            stack.callback(client.close)
            if self._runner.run(client.echo(ITEM)) != ITEM:
                raise AssertionError("the echo is not what was sent")
            self._echo = client.echo
            self._open = stack.pop_all()

    def run(self, effort: Effort) -> Sample:
        """One back-to-back run."""
        return sample_loops(self, effort.seconds, self.peer.cpu_times)

    def plain(self, count: int) -> int:
        """See measure.Loops."""
        return self._runner.run(_plain(self._echo, count))

    def stamped(self, count: int) -> list[int]:
        """See measure.Loops."""
        return self._runner.run(_stamped(self._echo, count))

    def __enter__(self) -> EventLoopCall:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._open.close()


class _Loop:
    """An event loop that keeps between runs what was made in it."""

    def __enter__(self) -> _Loop:
        self._loop = asyncio.new_event_loop()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        """What `awaitable` comes to."""
        return self._loop.run_until_complete(awaitable)


async def _entered(connecting: Awaitable[Any]) -> Any:
    return await connecting


async def _plain(echo: Callable[[Item], Awaitable[Item]], count: int) -> int:
    clock, item = time.perf_counter_ns, ITEM
    started = clock()
    for _ in repeat(None, count):
        await echo(item)
    return clock() - started


async def _stamped(echo: Callable[[Item], Awaitable[Item]], count: int) -> list[int]:
    clock, item = time.perf_counter_ns, ITEM
    stamps = [0] * count
    for index in range(count):
        before = clock()
        await echo(item)
        stamps[index] = clock() - before
    return stamps
