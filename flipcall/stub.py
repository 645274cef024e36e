"""The stubs: the calls of a client's methods, each by the quickest way that carries it.

A plain call is: encode, take a channel, one C call, decode, give the channel back.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from msgspec import DecodeError

from . import _fast
from ._core import lib
from .bulk import Bulk
from .channel import Attachment, Reply
from .context import NO_METADATA, inherited, serving
from .dialer import Connection
from .errors import (
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ForkedError,
    ProtocolError,
)
from .fd import Fd
from .filled import Filling
from .frame import TIMEOUT_NONE, seconds, timeout_us
from .landing import Landing
from .metadata import WITH_METADATA, wrapped
from .method import Method, encode
from .pool import Channel, Pool
from .rights import pack
from .streams import Stream, as_requests, outcome, steps

UNDECODABLE = (DecodeError, UnicodeDecodeError, RecursionError)  # what msgspec raises for a hostile body

_NO_FDS: Sequence[Fd] = ()


def stub(method: Method, number: int, connection: Connection, timeout: float | None) -> Callable[..., Any]:
    """The call of one method, by the quickest way that carries it."""
    if method.streaming:
        return stream_stub(method, number, connection.pool, timeout)
    plain = not (method.bulk_params or method.bulk_result or method.fd_params or method.fd_result)
    if connection.transport == "window" and plain:
        return _window_stub(method, number, connection.pool, timeout)
    return BulkCall(method, number, connection.pool, timeout)


def _window_stub(method: Method, number: int, pool: Pool, timeout: float | None) -> Callable[..., Any]:
    """The hottest path there is: a builtin (hotpath/), and here what it calls where a call is not plain."""
    what = number | timeout_us(timeout) << lib.FC_CALL_TIMEOUT_SHIFT

    def inherits() -> bool:
        return inherited(timeout) is not timeout

    def late(body: bytes, unsent: ClosedError | None = None) -> Any:
        return decoded(method, ask(pool, timeout, number, body, b"", unsent).body)

    def finish(channel: Any, result: int, body: bytes) -> Any:
        try:
            reply = channel.settle(result, what, body).body
        except BaseException as e:
            pool.mend(channel)
            if type(e) is ClosedError and channel.unsent:
                return late(body, e)
            raise
        pool.give(channel)
        return decoded(method, reply)

    def undecoded(error: BaseException) -> NoReturn:
        if isinstance(error, UNDECODABLE):
            raise garbled(method, error) from error
        raise error

    return _fast.stub(
        what,
        positions(method),
        (
            pool.free.pop, pool.free.append, pool.waiters, pool.notify, encode, method.decode_result, method.bind,
            late, finish, undecoded, serving, inherits, "call",
        ),
    )  # fmt: skip


def positions(method: Method) -> int:
    """How many positional arguments need no binding: all, or never as many when some go by keyword only."""
    return -1 if method.keyword_only else len(method.params)


class BulkRequest:
    """What of a BulkCall does not wait, for clients of either kind: the request, and what a reply comes to."""

    def __init__(
        self, method: Method, number: int, timeout: float | None, metadata: Mapping[str, str]
    ) -> None:
        self.method = method
        self._number = number | WITH_METADATA if metadata else number
        self._metadata = metadata
        self._timeout = timeout
        self._count = positions(method)
        self._landing = method.result_bulk.landing if method.result_bulk else None

    def _request(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[bytes, Attachment | Filling, Sequence[Fd]]:
        method = self.method
        if kwargs or len(args) != self._count:
            args = method.bind(args, kwargs)
        slots, attachment = method.split(args)
        body, fds = pack(slots) if method.fd_params else (encode(slots), _NO_FDS)
        return (wrapped(self._metadata, body) if self._metadata else body), attachment, fds

    def _result(self, reply: Reply) -> Any:
        method = self.method
        if method.fd_result:
            return decoded_with_fds(method, reply)
        if method.result_bulk is None:
            return decoded(method, reply.body)
        return unpacked(method, method.result_bulk, reply.body, reply.attachment)

    def __repr__(self) -> str:
        return f"<call of {self.method}>"


class BulkCall(BulkRequest):
    """A call whose arguments or result may travel beside the body, over any transport: a stub. Any thread."""

    def __init__(
        self,
        method: Method,
        number: int,
        pool: Pool,
        timeout: float | None,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> None:
        super().__init__(method, number, timeout, metadata)
        self.pool = pool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._result(self.ask(args, kwargs, self._landing))

    def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], landing: Landing | None) -> Reply:
        """The reply, its attachment where `landing` says. Raises what the call raises."""
        channel, reply = self.ask_and_hold(args, kwargs, landing)
        self.pool.give(channel)
        return reply

    def ask_and_hold(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], landing: Landing | None
    ) -> tuple[Channel, Reply]:
        """The same, and the channel, which is the caller's to give back."""
        return _ask(self.pool, self._timeout, self._number, *self._request(args, kwargs), landing)


def stream_stub(
    method: Method,
    number: int,
    pool: Pool,
    timeout: float | None,
    metadata: Mapping[str, str] = NO_METADATA,
) -> Callable[..., Any]:
    """A call with items to send or to receive. With results to iterate over it begins when one is asked for."""
    bind = method.bind
    if metadata:
        number |= WITH_METADATA

    def results(
        body: bytes, attachment: Attachment | Filling, requests: Iterator[Any] | None, last: list[Any]
    ) -> Iterator[Any]:
        limit = inherited(timeout) if serving else timeout
        started = time.monotonic()
        channel: Any = pool.take(limit)
        try:
            left = timeout_us(None if limit is None else max(0.0, limit - (time.monotonic() - started)))
            if type(attachment) is Filling:
                attachment, left = written(channel, attachment, body, left, streaming=True)
            flow = channel.flow(method.stream_out)
            flow.open(number, left, body, attachment)
            for batch in steps(flow, method, requests):
                yield from batch
        except BaseException:  # GeneratorExit: the caller wants no more
            pool.mend(channel)
            raise
        pool.give(channel)
        outcome(flow)
        last.append(flow)

    def call(*args: Any, **kwargs: Any) -> Any:
        given, source = method.part(bind(args, kwargs))
        requests = as_requests(source, method.stream_name) if method.stream_in else None
        slots, attachment = method.split(given)
        last: list[Any] = []
        body = wrapped(metadata, encode(slots)) if metadata else encode(slots)
        made = results(body, attachment, requests, last)
        if method.stream_out:
            return Stream(made)
        for _ in made:
            raise ProtocolError(f"{method.name} has one result, and items came")
        if method.result_bulk is not None:
            return unpacked(method, method.result_bulk, last[0].body, last[0].attachment)
        return decoded(method, last[0].body)

    return call


def ask(
    pool: Pool,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment,
    unsent: ClosedError | None = None,
) -> Reply:
    """One call over a channel of the pool; waiting for the channel is part of the timeout.

    unsent: what an earlier attempt came to, at which the call was not given.
    """
    channel, reply = _ask(pool, timeout, number, body, attachment, unsent=unsent)
    pool.give(channel)
    return reply


def _ask(
    pool: Pool,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment | Filling,
    fds: Sequence[Fd] = _NO_FDS,
    landing: Landing | None = None,
    unsent: ClosedError | None = None,
) -> tuple[Channel, Reply]:
    """See ask(). A channel that ended while it was idle (its worker was renewed, its server restarted) is no
    reason for a call to fail: it was not given, so it is tried over another one, until there is none. What was
    written for the first is not written again, but copied.
    """
    if serving:
        timeout = inherited(timeout)
    for _ in range(pool.limit + 1):
        channel, limit = _taken(pool, timeout, unsent)
        try:
            if type(attachment) is Filling:
                attachment, limit = written(channel, attachment, body, limit)
                timeout = seconds(limit)
            return channel, channel.bulk(number, limit, body, attachment, fds, landing)
        except BaseException as e:
            pool.mend(channel)
            if type(e) is not ClosedError or not channel.unsent or fds:
                raise
            unsent = e
    assert unsent is not None
    raise unsent


def _taken(pool: Pool, timeout: float | None, unsent: ClosedError | None) -> tuple[Channel, int]:
    """A channel, and how long the call may take then, microseconds."""
    try:
        return pool.free.pop(), timeout_us(timeout)
    except IndexError:
        started = time.monotonic()
    try:
        channel = pool.take(timeout)
    except (DeadlineExceeded, ForkedError):
        raise
    except (FlipcallError, OSError) as e:
        raise e if unsent is None else unsent from e
    left = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
    return channel, timeout_us(left)


def written(
    channel: Any, filling: Filling, body: bytes, limit: int, *, streaming: bool = False
) -> tuple[Attachment, int]:
    """The attachment of a request, written now, and what is left of its `limit` microseconds.

    Raises as channel.filled() does; DeadlineExceeded when nothing is left: nothing was sent then.
    """
    started = time.monotonic()
    made = channel.filled(filling, body, streaming)
    if limit != TIMEOUT_NONE:
        limit -= int((time.monotonic() - started) * 1e6)
        if limit <= 0:
            raise DeadlineExceeded("the deadline has passed while an argument was being filled")
    return made, limit


def decoded(method: Method, body: bytes) -> Any:
    """The result in the body of a reply; the hottest path does it itself."""
    try:
        return method.decode_result(body)
    except UNDECODABLE as e:
        raise garbled(method, e) from e


def unpacked(method: Method, bulk: Bulk, body: bytes, attachment: Any) -> Any:
    try:
        return method.unpack_result(bulk, body, attachment)
    except (*UNDECODABLE, ValueError) as e:
        raise garbled(method, e) from e


def decoded_with_fds(method: Method, reply: Reply) -> Any:
    try:
        value = reply.rights.decode(method.decode_result, reply.body)
    except UNDECODABLE as e:
        raise garbled(method, e) from e
    reply.rights.close()
    return value


def garbled(method: Method, error: Exception) -> ProtocolError:
    return ProtocolError(f"the result of {method.name} is not what its signature says: {error}")
