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
    call: Callable[..., ClientCall], proceed: ClientProceed, streams: bool
) -> Callable[..., Any]:
    """See flipcall.interceptor. streams: of a method with results to iterate over."""

    async def made(*args: Any, **kwargs: Any) -> Any:
        return await proceed(call(args, kwargs))

    def stream(*args: Any, **kwargs: Any) -> Any:
        return Stream(_items(proceed, call(args, kwargs)))

    return stream if streams else made


async def _items(proceed: ClientProceed, call: ClientCall) -> AsyncGenerator[Any, None]:
    async with opened(proceed(call)) as items:
        async for item in items:
            yield item


def server_chain(
    interceptors: Sequence[ServerInterceptor],
    method: Method,
    handler: Callable[..., Any],
    call: Callable[..., ServerCall],
) -> Callable[..., Any]:
    """See flipcall.interceptor. `handler` may be a coroutine function or not."""

    async def handle(call: ServerCall) -> Any:
        result = method.call(handler, call.args)
        return await result if isawaitable(result) else result

    proceed = looped(interceptors, handle)

    async def answer(*args: Any, **named: Any) -> Any:
        return await proceed(call(args, named))

    return answer


def looped(interceptors: Sequence[Any], last: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Any]:
    """See flipcall.interceptor.chained."""
    return chained([getattr(i, "asynchronous", i) for i in interceptors], last)
