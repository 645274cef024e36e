"""Interceptors in an event loop: those of flipcall.interceptor, as coroutines.

    async def log(call, proceed):               async with connect(Geo, path, interceptors=[log]) as geo: ...
        print(call.method, call.args)           Server(GeoServer(), path, interceptors=[log])
        return await proceed(call)

Of a method with results to iterate over the result is the iterator. A client calls its interceptors when the first
item is asked for.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any, Protocol

from ..context import Context
from ..interceptor import ClientCall, ServerCall, chained
from ..method import Method
from .streams import Stream, opened

ClientProceed = Callable[[ClientCall], Awaitable[Any]]
ServerProceed = Callable[[ServerCall], Awaitable[Any]]


class ForBoth(Protocol):
    """An interceptor with a method for event loops, such as an Observer, or Retry."""

    async def asynchronous(self, call: Any, proceed: Callable[[Any], Awaitable[Any]]) -> Any:
        """What is called here."""
        ...


ClientInterceptor = Callable[[ClientCall, ClientProceed], Awaitable[Any]] | ForBoth
ServerInterceptor = Callable[[ServerCall, ServerProceed], Awaitable[Any]] | ForBoth


def client_chain(
    service: str,
    method: Method,
    interceptors: Sequence[ClientInterceptor],
    timeout: float | None,
    make: ClientProceed,
) -> Callable[..., Any]:
    """A method of a client whose calls pass the interceptors, and are then made by `make`."""
    proceed, name, bind = _chained(interceptors, make), method.name, method.bind

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await proceed(ClientCall(service, name, bind(args, kwargs), timeout))

    def stream(*args: Any, **kwargs: Any) -> Any:
        return Stream(_items(proceed, ClientCall(service, name, bind(args, kwargs), timeout, True)))

    return call if method.stream_out is None else stream


async def _items(proceed: ClientProceed, call: ClientCall) -> AsyncGenerator[Any, None]:
    async with opened(proceed(call)) as items:
        async for item in items:
            yield item


def server_chain(
    service: str,
    method: Method,
    interceptors: Sequence[ServerInterceptor],
    handler: Callable[..., Any],
    current: Callable[[], Context],
) -> Callable[..., Any]:
    """`handler`, a coroutine function or not, behind the interceptors: see flipcall.interceptor."""

    async def handle(call: ServerCall) -> Any:
        result = method.call(handler, call.args)
        return await result if isawaitable(result) else result

    proceed, name = _chained(interceptors, handle), method.name
    streaming = method.stream_out is not None

    async def answer(*args: Any, **named: Any) -> Any:
        return await proceed(ServerCall(service, name, (*args, *named.values()), current(), streaming))

    return answer


def _chained(interceptors: Sequence[Any], last: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Any]:
    return chained([getattr(i, "asynchronous", i) for i in interceptors], last)
