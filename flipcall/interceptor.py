"""Interceptors: what a program wraps around its calls, on the client's side or the server's.

    def log(call, proceed):                     with connect(Geo, path, interceptors=[log]) as geo: ...
        print(call.method, call.args)           Server(GeoServer(), path, interceptors=[log])
        return proceed(call)

An interceptor gets the call and what comes next: the interceptor after it, in the end the call itself. It may
change the call, answer by itself, call proceed() again, or raise. The first of the list is the outermost.
Without any, no call is slower for them: the chain is built when the client or the server is.

Of a streaming method the result is the iterator, and the call goes on while somebody takes items from it.

Those of flipcall.asyncio are the same with `async def` and `await proceed(call)`. One that only looks at calls is
best written as a context manager, and made an interceptor for both by Observer.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from .context import Context
from .method import Method
from .observed import Inside, Observation, ObservedAsyncItems, ObservedItems


class ClientCall:
    """A call that is about to be made. What is changed here is what is sent.

    service, method: their names. args: in the order of the parameters; trailing ones with defaults may be missing.
    metadata: to go along, str by str; the handler sees it as context().metadata. timeout: seconds, None for ever.
    streaming: its result is an iterator.
    """

    __slots__ = ("args", "metadata", "method", "service", "streaming", "timeout")

    def __init__(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        timeout: float | None,
        streaming: bool = False,
    ) -> None:
        self.service = service
        self.method = method
        self.args = args
        self.metadata: dict[str, str] = {}
        self.timeout = timeout
        self.streaming = streaming


class ServerCall:
    """A call that has come. What is changed of its args is what the handler gets.

    service, method: their names. args: in the order of the parameters. metadata: what came along. context: the
    call's, with the peer and the deadline. streaming: its result is an iterator.
    """

    __slots__ = ("args", "context", "metadata", "method", "service", "streaming")

    def __init__(
        self, service: str, method: str, args: tuple[Any, ...], context: Context, streaming: bool = False
    ) -> None:
        self.service = service
        self.method = method
        self.args = args
        self.metadata = context.metadata
        self.context = context
        self.streaming = streaming


ClientProceed = Callable[[ClientCall], Any]
ClientInterceptor = Callable[[ClientCall, ClientProceed], Any]
ServerProceed = Callable[[ServerCall], Any]
ServerInterceptor = Callable[[ServerCall, ServerProceed], Any]


class Observer:
    """An interceptor of clients and servers of either kind, around whose calls `around(call)` is entered.

    It sees what they raise. Of a streaming method it is left when the iterator ends (observed.py).
    """

    def __init__(self, around: Callable[[Any], AbstractContextManager[object]]) -> None:
        self._around = around

    def __call__(self, call: Any, proceed: Callable[[Any], Any]) -> Any:
        if call.streaming:
            observation = Observation(self._around(call))
            try:
                return ObservedItems(observation, observation.context.run(proceed, call))
            except BaseException as e:
                observation.end(e)
                raise
        with self._around(call):
            return proceed(call)

    async def asynchronous(self, call: Any, proceed: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same in an event loop."""
        if call.streaming:
            observation = Observation(self._around(call))
            try:
                items = await Inside(observation.context, proceed, call)
                kind: Any = ObservedAsyncItems if hasattr(items, "__aiter__") else ObservedItems
                return kind(observation, items)
            except BaseException as e:
                observation.end(e)
                raise
        with self._around(call):
            return await proceed(call)


def called(
    service: str, method: Method, timeout: float | None
) -> Callable[[tuple[Any, ...], dict[str, Any]], ClientCall]:
    """What makes a ClientCall of the arguments that a method of a client is called with."""
    name, bind, streaming = method.name, method.bind, method.stream_out is not None
    return lambda args, kwargs: ClientCall(service, name, bind(args, kwargs), timeout, streaming)


def came(
    service: str, method: Method, current: Callable[[], Context]
) -> Callable[[tuple[Any, ...], dict[str, Any]], ServerCall]:
    """What makes a ServerCall of the arguments that a handler is called with, as method.call() would."""
    name, streaming = method.name, method.stream_out is not None
    return lambda args, named: ServerCall(service, name, (*args, *named.values()), current(), streaming)


def client_chain(call: Callable[..., ClientCall], proceed: ClientProceed) -> Callable[..., Any]:
    """A method of a client whose calls, made by `call`, pass the interceptors, of which `proceed` is the first."""
    return lambda *args, **kwargs: proceed(call(args, kwargs))


def server_chain(
    interceptors: Sequence[ServerInterceptor],
    method: Method,
    handler: Callable[..., Any],
    call: Callable[..., ServerCall],
) -> Callable[..., Any]:
    """`handler` behind the interceptors; `call` makes what they get."""
    proceed = chained(interceptors, lambda call: method.call(handler, call.args))
    return lambda *args, **named: proceed(call(args, named))


def chained(interceptors: Sequence[Any], last: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What calls the first interceptor, and in the end `last`."""
    proceed = last
    for interceptor in reversed(interceptors):
        proceed = _link(interceptor, proceed)
    return proceed


def _link(interceptor: Any, proceed: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda call: interceptor(call, proceed)
