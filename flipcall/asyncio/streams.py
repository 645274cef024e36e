"""Streaming calls in an event loop: flipcall.streams, step by step the same, its waits awaited."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, TypeVar

from ..errors import ProtocolError
from ..frame import END, ITEMS, MORE, REPLY
from ..items import Items, encode
from ..method import Method
from ..streams import UNREADABLE, Flowing, asked_for_more, item_octets, unreadable

T = TypeVar("T")


class Flow(Flowing, Protocol):
    """One in a loop; see LoopFlow."""

    async def publish(self, item: bytes) -> bool: ...
    async def publish_bulk(self, data: memoryview) -> bool: ...
    async def flip(self) -> None: ...
    async def take(self) -> None: ...
    async def regain(self) -> None: ...


class Stream(AsyncIterator[T], Generic[T]):
    """The results of a streaming call. The call is made when the first one is asked for.

    Iterate over it with `async for`; aclose(), or simply forget it, and the server stops. One task at a time.
    Raises what a call raises, and what the handler raised after the items that it yielded before.
    """

    def __init__(self, results: AsyncGenerator[T, None]) -> None:
        self._results = results

    def __aiter__(self) -> AsyncIterator[T]:
        return self._results

    async def __anext__(self) -> T:
        return await self._results.__anext__()

    async def aclose(self) -> None:
        """Ask for no more. Idempotent."""
        await self._results.aclose()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def as_items(source: Any, name: str) -> AsyncIterator[Any]:
    """The items of anything that can be iterated over, by `async for` or `for`. Raises TypeError for others."""
    if hasattr(source, "__aiter__"):
        items: AsyncIterator[Any] = source.__aiter__()
        return items
    if not isinstance(source, Iterable):
        raise TypeError(f"{name} must be iterable, not {type(source).__name__}")
    return _plain(source)


async def _plain(source: Iterable[Any]) -> AsyncIterator[Any]:
    for item in source:
        yield item


async def steps(
    flow: Flow, method: Method, requests: AsyncIterator[Any] | None
) -> AsyncGenerator[list[Any], None]:
    """Everything between the request and the reply, a batch of results at a time."""
    try:
        while True:
            if flow.mine and flow.kind == ITEMS:
                flow.hand(MORE)
            if flow.items:
                yield flow.drain()
            if flow.mine:
                if flow.kind == REPLY:
                    return
                await _produce(flow, method, requests)
                if flow.mine:  # the reply came instead of a wish for more
                    continue
            await flow.take()
    except UNREADABLE as e:
        raise ProtocolError(f"an item of {method.name} is not what its signature says: {e}") from e


async def _produce(flow: Flow, method: Method, requests: AsyncIterator[Any] | None) -> None:
    """The server wants items. Not mine afterwards, unless its reply has come."""
    if requests is None or method.stream_in is None:
        raise ProtocolError(f"{method.name} has no items to give, and was asked for some")
    async for item in requests:
        wanted = await give(flow, method.stream_in, item)
        if method.stream_out is not None:  # one a flip: the next answer may depend on it
            if wanted or flow.kind != REPLY:
                flow.hand(ITEMS)
            return
        if not wanted:
            break
    if flow.kind != REPLY:
        flow.hand(END)


async def give(flow: Flow, kind: Items, item: Any) -> bool:
    """Publish one item; whether more are wanted."""
    return await (flow.publish_bulk(item_octets(item)) if kind.bulk else flow.publish(encode(item)))


# ---- the handler's half ---------------------------------------------------------------------------------------


async def received(flow: Flow, name: str) -> AsyncGenerator[Any, None]:
    """What a handler iterates over: see flipcall.streams.received."""
    while True:
        if flow.items:
            for item in flow.drain():
                yield item
            continue
        if not asked_for_more(flow):
            return
        try:
            await flow.take()
        except UNREADABLE as e:
            raise unreadable(name, e) from None


@asynccontextmanager
async def opened(results: Any) -> AsyncIterator[AsyncIterator[Any]]:
    """The items of what a handler returned, or will return; its generator is closed in the end."""
    if inspect.isawaitable(results):
        results = await results
    items = as_items(results, "the result")
    try:
        yield items
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
        close = getattr(results, "close", None)
        if close is not None:
            close()


async def give_all(flow: Flow, results: Any, kind: Items) -> bool:
    """Publish what a handler yields; whether the client wanted all of it. The handler's generator is closed."""
    async with opened(results) as items:
        async for item in items:
            while not flow.mine:
                await flow.take()
            if flow.kind not in (0, MORE, ITEMS, END) or not await give(flow, kind, item):
                return False
        return True
