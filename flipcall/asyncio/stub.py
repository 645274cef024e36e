"""The stubs: the calls of a client's methods in an event loop, each by the quickest way that carries it.

flipcall.stub says how a call is made. One that is answered within the spin budget runs through without an await
that suspends: one C call, and the task goes on. Everything else is in the slower functions it then enters.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from .._core import lib
from ..channel import Attachment, Reply
from ..context import NO_METADATA, inherited, serving
from ..errors import ClosedError, DeadlineExceeded, FlipcallError, ForkedError, ProtocolError
from ..fd import Fd
from ..filled import Filling
from ..frame import timeout_us
from ..interceptor import ClientCall
from ..landing import Landing
from ..metadata import WITH_METADATA, wrapped
from ..method import Method, encode
from ..streams import outcome
from ..stub import UNDECODABLE, BulkRequest, decoded, garbled, positions, unpacked, written
from .interceptor import ClientProceed
from .pool import AnyChannel, Pool, left
from .streams import Stream, as_items, steps

Call = Callable[..., Any]  # of an awaitable, or a Stream


def stub(method: Method, number: int, pool: Pool, timeout: float | None) -> Call:
    """The call of one method, by the quickest way that carries it."""
    if method.streaming:
        return _stream_stub(method, number, pool, timeout)
    plain = not (method.bulk_params or method.bulk_result or method.fd_params or method.fd_result)
    return (_plain_stub if plain else BulkCall)(method, number, pool, timeout)


def maker(method: Method, number: int, pool: Pool) -> ClientProceed:
    """What makes a call that has passed the interceptors, with its own timeout and metadata."""

    kind = _stream_stub if method.streaming else BulkCall

    async def make(call: ClientCall) -> Any:
        result = method.call(kind(method, number, pool, call.timeout, dict(call.metadata)), call.args)
        return result if method.stream_out else await result

    return make


def _plain_stub(method: Method, number: int, pool: Pool, timeout: float | None) -> Call:
    """The hottest path there is: everything it needs is in its closure, and nothing is called that need not be."""
    count, bind, decode = positions(method), method.bind, method.decode_result
    what = number | timeout_us(timeout) << lib.FC_CALL_TIMEOUT_SHIFT
    hold, loop, now = pool.hold, pool.loop, time.monotonic
    pop, push, waiters, notify, mend = pool.free.pop, pool.free.append, pool.waiters, pool.notify, pool.mend

    async def slowly(body: bytes, unsent: str | None = None) -> Any:
        return decoded(method, (await ask(pool, timeout, number, body, b"", unsent=unsent)).body)

    async def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            args = bind(args, kwargs)
        body = encode(args)
        if serving or not pool.free or (now() > hold.until and hold.over(loop)):
            return await slowly(body)
        channel: Any = pop()
        try:
            reply = channel.call(what, body)
            if reply.__class__ is not bytes:
                reply = (await channel.settle(reply, what, body)).body
        except BaseException as e:
            mend(channel)
            if type(e) is ClosedError and channel.unsent:
                return await slowly(body, str(e))
            raise
        push(channel)
        if waiters:
            notify()
        try:
            return decode(reply)
        except UNDECODABLE as e:
            raise garbled(method, e) from e

    return call


class BulkCall(BulkRequest):
    """A call whose arguments or result may travel beside the body: a stub."""

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

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._result(await self.ask(args, kwargs, self._landing))

    async def ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], landing: Landing | None) -> Reply:
        """The reply, its attachment where `landing` says. Raises what the call raises."""
        return await ask(self.pool, self._timeout, self._number, *self._request(args, kwargs), landing)

    async def ask_and_hold(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], landing: Landing | None
    ) -> tuple[AnyChannel, Reply]:
        """The same, and the channel, which is the caller's to give back."""
        request = self._request(args, kwargs)
        channel, reply, _ = await _ask(self.pool, self._timeout, self._number, *request, landing, None)
        return channel, reply


def _stream_stub(
    method: Method,
    number: int,
    pool: Pool,
    timeout: float | None,
    metadata: Mapping[str, str] = NO_METADATA,
) -> Call:
    """A call with items to send or to receive. With results to iterate over it begins when one is asked for."""
    bind = method.bind
    if metadata:
        number |= WITH_METADATA

    async def results(
        body: bytes, attachment: Attachment | Filling, requests: AsyncIterator[Any] | None, last: list[Any]
    ) -> AsyncGenerator[Any, None]:
        limit = inherited(timeout) if serving else timeout
        started = time.monotonic()
        channel = await pool.take(limit)
        try:
            us = timeout_us(left(limit, started))
            if type(attachment) is Filling:
                attachment, us = written(channel, attachment, body, us, streaming=True)
            flow = channel.flow(method.stream_out)
            flow.open(number, us, body, attachment)
            async for batch in steps(flow, method, requests):
                for item in batch:
                    yield item
        except BaseException:  # GeneratorExit: the caller wants no more
            pool.mend(channel)
            raise
        pool.give(channel)
        outcome(flow)
        last.append(flow)

    def call(*args: Any, **kwargs: Any) -> Any:
        given, source = method.part(bind(args, kwargs))
        requests = as_items(source, method.stream_name) if method.stream_in else None
        slots, attachment = method.split(given)
        last: list[Any] = []
        body = wrapped(metadata, encode(slots)) if metadata else encode(slots)
        made = results(body, attachment, requests, last)
        return Stream(made) if method.stream_out else one(made, last)

    async def one(made: AsyncGenerator[Any, None], last: list[Any]) -> Any:
        async for _ in made:
            raise ProtocolError(f"{method.name} has one result, and items came")
        if method.result_bulk is not None:
            return unpacked(method, method.result_bulk, last[0].body, last[0].attachment)
        return decoded(method, last[0].body)

    return call


async def ask(
    pool: Pool,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment | Filling,
    fds: Sequence[Fd] = (),
    landing: Landing | None = None,
    unsent: str | None = None,
) -> Reply:
    """One call over a channel of the pool; waiting for the channel is part of the timeout."""
    channel, reply, over = await _ask(pool, timeout, number, body, attachment, fds, landing, unsent)
    pool.give(channel)
    if over:
        await asyncio.sleep(0)
    return reply


async def _ask(
    pool: Pool,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment | Filling,
    fds: Sequence[Fd],
    landing: Landing | None,
    unsent: str | None,
) -> tuple[AnyChannel, Reply, bool]:
    """The reply, the channel, which is the caller's to give back, and whether the loop should run now.

    When it has been held for long enough the call does not spin. A channel that ended while it was idle is no
    reason to fail: see flipcall.stub. unsent: what an earlier attempt came to, at which the call was not given;
    not the exception, whose traceback would hold what it has failed with.
    """
    if serving:
        timeout = inherited(timeout)
    started = time.monotonic()
    over = started > pool.hold.until and pool.hold.over(pool.loop)
    for _ in range(pool.limit + 1):
        at_once = bool(pool.free)
        channel = pool.free.pop() if at_once else await _taken(pool, left(timeout, started), unsent)
        limit = timeout_us(timeout if at_once and unsent is None else left(timeout, started))
        try:
            if type(attachment) is Filling:
                attachment, limit = written(channel, attachment, body, limit)
            if over and at_once:
                channel.hurry()
            what, result = channel.ask(number | limit << lib.FC_CALL_TIMEOUT_SHIFT, body, attachment, fds)
            at_once = at_once and result >= 0
            reply = await channel.settle(result, what, body, attachment, landing)
        except BaseException as e:
            pool.mend(channel)
            if type(e) is not ClosedError or not channel.unsent or fds:
                raise
            unsent = str(e)
            continue
        return channel, reply, over and at_once
    raise ClosedError(unsent)


async def _taken(pool: Pool, timeout: float | None, unsent: str | None) -> AnyChannel:
    try:
        return await pool.take(timeout)
    except (DeadlineExceeded, ForkedError):
        raise
    except (FlipcallError, OSError) as e:
        raise e if unsent is None else ClosedError(unsent) from e
