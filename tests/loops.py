"""Clients and servers of flipcall.asyncio behind the doors of the synchronous ones: one suite tests both.

A loop runs in a thread of its own. LoopClient's methods wait for the coroutine's result; LoopServer runs each
handler of a synchronous implementation as a coroutine that waits for a thread, so that handlers may block.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import threading
import types
import typing
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import flipcall
import flipcall.asyncio
from flipcall.asyncio.streams import Stream
from flipcall.client import Maker
from flipcall.items import item_type
from flipcall.service import contract_of

_HANDLERS = 64  # at the same time


class LoopThread:
    """An event loop in a thread. A context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(_HANDLERS, "test-handler"))
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="test-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Any) -> Any:
        """The result of a coroutine. In a forked child, where there is no loop, of its first step."""
        if self._pid != os.getpid():
            return _first_step(_awaited(coroutine))
        return asyncio.run_coroutine_threadsafe(_awaited(coroutine), self.loop).result()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a function called in the loop."""

        async def called() -> Any:
            return function(*args)

        return self.run(called())

    def close(self) -> None:
        """Stop it, close it."""
        if self._pid != os.getpid():
            return
        self.run(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def __enter__(self) -> LoopThread:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _first_step(coroutine: Any) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as e:
        return e.value
    raise AssertionError("it waits for something in a forked child")


async def _cancel_all() -> None:
    tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()


# ---- contracts -------------------------------------------------------------------------------------------------


def asynchronous(contract: type[flipcall.Service]) -> type[flipcall.Service]:
    """The same contract with `async def`, and AsyncIterator for Iterator in results."""
    owner = contract_of(contract).owner
    methods = {n: _asynchronous(f) for n, f in vars(owner).items() if _is_method(n, f)}
    name = {"name": contract_of(contract).name}
    return types.new_class(owner.__name__, (flipcall.Service,), name, lambda space: space.update(methods))


def _is_method(name: str, value: Any) -> bool:
    return not name.startswith("_") and inspect.isfunction(value) and name not in ("close", "on_disconnect")


def _asynchronous(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = typing.get_type_hints(function, include_extras=True)
    item = item_type(hints.get("return"))
    if item is not None:

        def made(self: Any, *args: Any, **kwargs: Any) -> Any: ...

        hints["return"] = AsyncIterator[item]  # type: ignore[valid-type]
    else:

        async def made(self: Any, *args: Any, **kwargs: Any) -> Any: ...

    functools.update_wrapper(made, function)
    made.__annotations__ = hints
    signature = inspect.signature(function)
    made.__signature__ = signature.replace(  # type: ignore[attr-defined]
        return_annotation=hints.get("return", signature.empty)
    )
    return made


# ---- interceptors ----------------------------------------------------------------------------------------------


def _interceptors(interceptors: Iterable[Any]) -> list[Any]:
    """Synchronous ones as coroutines; those for both kinds as they are."""
    return [i if hasattr(i, "asynchronous") else functools.partial(_intercepted, i) for i in interceptors]


async def _intercepted(interceptor: Any, call: Any, proceed: Any) -> Any:
    """In a thread, which waits for what comes next: an awaited result, or the iterator of a stream."""
    loop = asyncio.get_running_loop()
    return await _beside(
        lambda: interceptor(
            call, lambda c: asyncio.run_coroutine_threadsafe(_awaited(proceed(c)), loop).result()
        )
    )


# ---- the client ------------------------------------------------------------------------------------------------


class LoopClient:
    """What flipcall.asyncio.connect() made, for threads: its methods wait."""

    _client: Any

    def __init__(self, loop: LoopThread, client: Any) -> None:
        self._loop = loop
        self._client = client
        self._flipcall = _Again(loop, client)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            async def called() -> Any:
                result = method(*args, **kwargs)
                return result if isinstance(result, Stream) else await result

            result = self._loop.run(called())
            return LoopStream(self._loop, result) if isinstance(result, Stream) else result

        call.looped = self._loop, method  # type: ignore[attr-defined]
        return call

    def close(self) -> None:
        """Close the client."""
        self._loop.call(self._client.close)

    def __enter__(self) -> LoopClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Again(Maker):
    """For flipcall.with_options()."""

    def __init__(self, loop: LoopThread, client: Any) -> None:
        self._loop = loop
        self._client = client
        self.pool = client._flipcall.pool

    def again(self, client: Any, timeout: float | None) -> Any:
        return LoopClient(self._loop, flipcall.with_options(self._client, timeout=timeout))


class LoopStream(Iterator[Any]):
    """A Stream, for threads."""

    def __init__(self, loop: LoopThread, stream: Any) -> None:
        self._loop = loop
        self._stream = stream

    def __next__(self) -> Any:
        try:
            return self._loop.run(self._stream.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """See Stream.aclose."""
        self._loop.run(self._stream.aclose())

    def __enter__(self) -> LoopStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if self._loop.loop.is_running():
            asyncio.run_coroutine_threadsafe(self._stream.aclose(), self._loop.loop)


def view(call: Any, *args: Any, **kwargs: Any) -> Any:
    """See flipcall.view."""
    loop, method = getattr(call, "looped", (None, call))
    return LoopView(loop, flipcall.asyncio.view(method, *args, **kwargs))


def into(buffer: Any, call: Any, *args: Any, **kwargs: Any) -> int:
    """See flipcall.into."""
    loop, method = getattr(call, "looped", (None, call))
    if loop is None:
        return int(_first_step(flipcall.asyncio.into(buffer, method, *args, **kwargs)))
    return int(loop.run(flipcall.asyncio.into(buffer, method, *args, **kwargs)))


class LoopView:
    """A view, for threads."""

    def __init__(self, loop: Any, view: Any) -> None:
        self._loop = loop
        self._view = view

    def __enter__(self) -> Any:
        return self._loop.run(self._view.__aenter__())

    def __exit__(self, *exc: Any) -> None:
        self._loop.run(self._view.__aexit__(*exc))


def connect(loop: LoopThread, service: type[flipcall.Service], path: str, **options: Any) -> LoopClient:
    """See flipcall.connect."""
    options["interceptors"] = _interceptors(options.pop("interceptors", ()))

    async def connected() -> Any:
        return await flipcall.asyncio.connect(asynchronous(service), path, **options)

    return LoopClient(loop, loop.run(connected()))


# ---- the server ------------------------------------------------------------------------------------------------


class LoopServer:
    """flipcall.asyncio.Server with the doors of flipcall.Server."""

    def __init__(self, loop: LoopThread, implementation: Any, path: str, **options: Any) -> None:
        options["interceptors"] = _interceptors(options.pop("interceptors", ()))
        self._loop = loop
        self._server = loop.call(
            lambda: flipcall.asyncio.Server(_in_threads(implementation), path, **options)
        )

    def start(self) -> None:
        """See flipcall.Server.start."""
        self._loop.run(self._server.start())

    def stop(self, grace: float = 5.0) -> None:
        """See flipcall.Server.stop."""
        self._loop.run(self._server.stop(grace))

    def statistics(self) -> Any:
        """See flipcall.Server.statistics."""
        return self._server.statistics()

    @property
    def health(self) -> Any:
        """See flipcall.Server.health."""
        return self._server.health

    @property
    def workers(self) -> list[int]:
        """See flipcall.Server.workers."""
        return list(self._server.workers)

    @property
    def channels(self) -> int:
        """See flipcall.Server.channels."""
        return int(self._server.channels)

    def __enter__(self) -> LoopServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()


def _in_threads(implementation: Any) -> Any:
    if not isinstance(implementation, flipcall.Service):
        return (
            implementation if not callable(implementation) else lambda peer: _in_threads(implementation(peer))
        )
    contract = contract_of(type(implementation))
    methods: dict[str, Any] = {m.name: _in_thread(implementation, m) for m in contract.methods}
    methods["on_disconnect"] = lambda self: implementation.on_disconnect()
    return type(type(implementation).__name__, (contract.owner,), methods)()


def _in_thread(implementation: Any, method: Any) -> Callable[..., Any]:
    handler = getattr(implementation, method.name)

    async def answer(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await _beside(lambda: handler(*args, **kwargs))

    async def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        results = iter(await _beside(lambda: handler(*_plain(args), **kwargs)))
        try:
            while (item := await _beside(lambda: next(results, _END))) is not _END:
                yield item
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                await _beside(close)

    async def take(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await _beside(lambda: handler(*_plain(args), **kwargs))

    if method.stream_out is not None:
        return stream
    return take if method.stream_in is not None else answer


_END = object()


def _plain(args: tuple[Any, ...]) -> list[Any]:
    """Arguments for a handler in a thread: what the loop iterates over, it iterates over through the loop."""
    return [_Items(a, _running.get()) if hasattr(a, "__anext__") else a for a in args]


class _Items(Iterator[Any]):
    def __init__(self, items: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._items = items
        self._loop = loop

    def __next__(self) -> Any:
        try:
            return asyncio.run_coroutine_threadsafe(_awaited(self._items.__anext__()), self._loop).result()
        except StopAsyncIteration:
            raise StopIteration from None


_running: contextvars.ContextVar[asyncio.AbstractEventLoop] = contextvars.ContextVar("running")


async def _beside(work: Callable[[], Any]) -> Any:
    """What work() returns, in a thread; waited for even when this is cancelled: handlers may not listen."""
    loop = asyncio.get_running_loop()
    _running.set(loop)
    context = contextvars.copy_context()

    def run() -> Any:
        try:
            return context.run(work)
        except StopIteration as e:
            raise RuntimeError("a handler raised StopIteration") from e

    future = loop.run_in_executor(None, run)
    while True:
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if future.cancelled():
                raise
