"""From request bytes to reply bytes: what a call does at the server, whatever carried it.

One function owns exceptions: whatever a handler raises, the caller gets a reply. What only a broken or hostile
client can send (a method number that was never offered, a body that is no msgpack) is its fault, not an answer:
BrokenRequest, and the channel ends. Arguments of the wrong type are an answer (INVALID_ARGUMENT), because an
honest Python caller can pass them. A ProtocolError that a handler raises is an answer like any other: it tells
of another connection, on which the handler is the client.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from .context import context
from .errors import CallError, MisuseError, ProtocolError
from .failure import describe
from .fd import Fd
from .interceptor import ServerInterceptor, came, server_chain
from .items import Items
from .limits import Gate
from .method import Method, encode
from .rights import NO_RIGHTS, Rights, pack
from .service import Service, contract_of
from .status import Status
from .streams import BrokenRequest, Flow, give_all, received

Answer = tuple[int, bytes, Any, list[Fd]]  # status, body, attachment, descriptors
Decode = Callable[[bytes], tuple[Any, ...]]
NOTHING = b""


def wants_loop(handler: Callable[..., Any]) -> bool:
    """Whether it is `async def`."""
    return inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)


def _unimplemented(service: str, method: str) -> Callable[..., Any]:
    def unimplemented(*args: Any, **named: Any) -> NoReturn:
        raise CallError(Status.UNIMPLEMENTED, f"the server does not implement {service}.{method}")

    return unimplemented


class Opened(NamedTuple):
    """A request that has been read: what it calls, with what."""

    method: Method
    args: tuple[Any, ...]


class Way(NamedTuple):
    """What a request with neither attachment nor descriptors goes through (hotpath/serve.c knows the order)."""

    decode: Decode
    handler: Callable[..., Any]
    bulk: bool  # the bytes of the result are an attachment, and all there is


class Dispatcher:
    """The methods of one implementation, by number. Any thread, as far as the implementation allows."""

    _chain: Callable[..., Callable[..., Any]] = staticmethod(server_chain)

    def __init__(
        self,
        service: Service,
        tracebacks: bool,
        gate: Gate | None = None,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        self.service = service
        self.tracebacks = tracebacks
        self.contract = contract = contract_of(type(service))
        self.name = contract.name
        self.methods = contract.methods
        self.takes_fds = any(m.fd_params for m in self.methods)
        self._handlers = [self._handler(m) for m in self.methods]
        if gate is not None:
            self._handlers = [
                gate.guard(handler, m.stream_out is not None)
                for m, handler in zip(self.methods, self._handlers, strict=True)
            ]
        if interceptors:
            self._handlers = [
                self._chain(interceptors, m, handler, came(self.name, m, context))
                for m, handler in zip(self.methods, self._handlers, strict=True)
            ]
        self.plain = [self._plain(m) for m in self.methods]

    def _plain(self, method: Method) -> Way | None:
        """The way of a method, so that a channel's loop can go it itself. None for one that streams, has Fd, or
        bulk that is not simply bytes of its result.
        """
        if method.bulk_params or method.streaming or method.fd_params or method.fd_result:
            return None
        if method.bulk_result and not method.bare_result:
            return None
        handler = self._handlers[method.number]
        if method.keyword_only:
            return Way(method.decode_args, lambda *args: method.call(handler, args), method.bare_result)
        return Way(method.decode_args, handler, method.bare_result)

    def _handler(self, method: Method) -> Callable[..., Any]:
        """What implements a method, or raises that nothing does. Raises MisuseError for what cannot be called."""
        handler: Any = getattr(self.service, method.name)
        if not callable(handler):
            name = f"{type(self.service).__name__}.{method.name}"
            raise MisuseError(f"{name} is a method of {self.name}'s contract, not {handler!r}")
        self._check(handler)
        declared = self.contract.declared.get(method.name)
        if declared is not None and getattr(handler, "__func__", None) is declared:
            return _unimplemented(self.name, method.name)
        return handler  # type: ignore[no-any-return]

    def _check(self, handler: Callable[..., Any]) -> None:
        if wants_loop(handler):
            what = f"{self.name}.{handler.__name__} is `async def`: serve it with flipcall.asyncio"
            raise MisuseError(what)

    def answer(
        self,
        number: int,
        body: bytes,
        attachment: memoryview,
        rights: Rights = NO_RIGHTS,
        flow: Flow | None = None,
    ) -> Answer:
        """The answer to a request; `attachment` is a view borrowed until the reply is sent, `rights` are its
        descriptors, `flow` the stream it has opened; control is this side's afterwards.

        Raises as opened() does.
        """
        opened = self.opened(number, body, attachment, rights, flow is not None)
        if not isinstance(opened, Opened):
            return opened
        method, args = opened
        if flow is not None:
            return self._stream(method, args, flow)
        try:
            return self.result(method, self.call(method, args))
        except BaseException as e:
            return self.failed(e)

    def opened(
        self, number: int, body: bytes, attachment: memoryview, rights: Rights, streaming: bool
    ) -> Opened | Answer:
        """The method a request calls and its arguments, or the answer to a request that never gets so far.

        Raises BrokenRequest.
        """
        method = self._method(number)
        if method.streaming is not streaming:
            raise BrokenRequest(
                f"{method.name} was called as if it were {'no' if method.streaming else 'a'} stream"
            )
        if attachment and not method.bulk_params:
            raise BrokenRequest(f"{method.name} was sent {len(attachment)} bytes it has no parameter for")
        try:
            decode = method.decode_args
            slots = rights.decode(decode, body) if method.fd_params else decode(body)
        except BaseException as e:
            return self.undecodable(number, e)
        try:
            args = method.join(slots, attachment) if method.bulk_params else slots
        except ProtocolError:
            rights.revoke()
            raise
        except BaseException as e:
            rights.revoke()
            return self.failed(e)
        rights.close()
        return Opened(method, args)

    def call(self, method: Method, args: tuple[Any, ...]) -> Any:
        """What the handler of `method` returns. Raises what it raises."""
        return method.call(self._handlers[method.number], args)

    def _stream(self, method: Method, args: tuple[Any, ...], flow: Flow) -> Answer:
        """The same for a call with items; whatever the handler did not want is not waited for."""
        requests = received(flow, method.name)
        try:
            result = self.call(method, method.joined(args, requests))
            if method.stream_out is None:
                answer = self.result(method, result)
            elif give_all(flow, result, method.stream_out):
                answer = 0, NOTHING, NOTHING, []
            else:
                answer = self.failed(CallError(Status.CANCELLED, "the caller gave up"))
        except BrokenRequest:
            raise
        except BaseException as e:
            answer = self.failed(e)
        requests.close()
        flow.regain()
        return answer

    def result(self, method: Method, result: Any) -> Answer:
        """The answer for what a handler returned. Raises what encoding it does."""
        if method.fd_result:
            out, fds = pack(result)
            for fd in fds:
                fd.mark_sent()  # whatever becomes of the reply, the handler cannot close it any more
            return 0, out, NOTHING, fds
        if method.result_bulk is None:
            return 0, encode(result), NOTHING, []
        # A TypeError here is the handler's: it returned something else. Of any buffer, its bytes are sent.
        return 0, *method.pack_result(method.result_bulk, result), []

    def packed(self, number: int, result: Any) -> Answer:
        """The answer for what the handler of method `number` returned."""
        try:
            return self.result(self._method(number), result)
        except BaseException as e:
            return self.failed(e)

    def incoming(self, number: int) -> Items | None:
        """What decodes the items that method `number` is sent, None where it is sent none."""
        return self._method(number).stream_in

    def undecodable(self, number: int, error: BaseException) -> Answer:
        """The answer to arguments that did not decode: wrong types are told, and what decoding them ran into
        (too deep, a type's own __post_init__). Nonsense is a BrokenRequest.
        """
        name = self._method(number).name
        if isinstance(error, msgspec.ValidationError):
            return self.failed(CallError(Status.INVALID_ARGUMENT, f"{name}: {error}"))
        if isinstance(error, (msgspec.DecodeError, UnicodeDecodeError)):
            raise BrokenRequest(f"the arguments of {name} cannot be read: {error}") from error
        return self.failed(error)

    def failed(self, error: BaseException) -> Answer:
        """The answer for what a handler raised."""
        return (*describe(error, self.tracebacks), NOTHING, [])

    def _method(self, number: int) -> Method:
        if number >= len(self.methods):
            raise BrokenRequest(f"request for method {number} of {len(self.methods)}")
        return self.methods[number]
