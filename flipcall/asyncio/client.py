"""connect(): a client whose methods are coroutines. The synchronous one (flipcall.client) says how a call is made.

A call that is answered within the spin budget runs through without an await that suspends: one C call, and the
task goes on. Everything else is in the slower functions it then enters.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from .._core import lib
from ..channel import Attachment, Reply, WindowChannel
from ..client import Maker, Path, client_object
from ..context import NO_METADATA, inherited, serving
from ..dialer import Connection
from ..errors import ClosedError, DeadlineExceeded, FlipcallError, ForkedError, ProtocolError
from ..fd import Fd
from ..frame import timeout_us
from ..interceptor import ClientCall
from ..landing import Landing
from ..metadata import WITH_METADATA, wrapped
from ..method import Method, encode
from ..policy import WaitPolicy
from ..rights import pack
from ..service import Contract, Service, contract_of
from ..streams import outcome
from ..stub import UNDECODABLE, decoded, decoded_with_fds, garbled, positions, unpacked
from ..switch import FUTEX
from .channel import Channel
from .hold import hold_of
from .interceptor import ClientInterceptor, ClientProceed, client_chain
from .pool import Pool, left
from .streams import Stream, as_items, steps

S = TypeVar("S", bound=Service)
Call = Callable[..., Any]  # of an awaitable, or a Stream


class Connecting(Generic[S]):
    """What connect() returns: await it, or enter it with `async with`, which closes the client at the end."""

    def __init__(self, open: Callable[[], Awaitable[S]]) -> None:
        self._open = open
        self._client: S | None = None

    def __await__(self) -> Generator[Any, None, S]:
        return self._open().__await__()

    async def __aenter__(self) -> S:
        self._client = await self._open()
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def connect(
    service: type[S],
    path: Path,
    *,
    timeout: float | None = 30.0,
    connect_timeout: float = 5.0,
    window_size: int = lib.FC_WINDOW_DEFAULT,
    max_channels: int = 64,
    message_max: int = lib.FC_MESSAGE_DEFAULT,
    policy: WaitPolicy | None = None,
    interceptors: Sequence[ClientInterceptor] = (),
) -> Connecting[S]:
    """A client of the server at socket `path`; it has the methods of `service`, which are `async def`.

    `geo = await connect(Geo, path)` and later geo.close(), or `async with connect(Geo, path) as geo`. The
    server may be either kind. Options and errors as of flipcall.connect(); max_channels: calls that wait for
    their answer at the same time (more queue, first come, first served). A call spins for its answer for up
    to the policy's spin_ns, during which the loop stands still, and then suspends its task; calls that are
    all answered at once let the loop run every 50 us. Cancelling a task cancels its call. interceptors: as
    of flipcall.connect(), with `async def` (flipcall.asyncio.interceptor). Only for tasks of the loop it was
    made in.

    There are no `view()` and `into()` here yet. Raises MisuseError for a service with
    methods that are not `async def`.
    """
    contract = contract_of(service)
    contract.for_clients(asynchronous=True)
    connection = Connection(
        contract,
        path,
        connect_timeout=connect_timeout,
        transport="window",
        window_size=window_size,
        max_channels=max_channels,
        message_max=message_max,
        policy=policy or WaitPolicy.balanced(),
        switch=FUTEX,
    )

    async def open() -> S:
        client = _Client(contract, connection, asyncio.get_running_loop(), max_channels, tuple(interceptors))
        try:
            client.pool.give(await client.pool.take(None))
            made: S = client.object(timeout)
            return made
        except BaseException:
            client.pool.close()
            raise

    return Connecting(open)


class _Client(Maker):
    """What all calls of one client share."""

    def __init__(
        self,
        contract: Contract,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        interceptors: Sequence[ClientInterceptor],
    ) -> None:
        self.contract = contract
        self.interceptors = interceptors
        self.connection = connection
        self.loop = loop
        self.hold = hold_of(loop)
        self.pool = Pool(loop, self._window, limit)

    def _window(self) -> WindowChannel:
        channel = self.connection.channel()
        assert isinstance(channel, WindowChannel)
        return channel

    def again(self, client: Any, timeout: float | None) -> Any:
        """See Maker."""
        return self.object(timeout)

    def object(self, timeout: float | None) -> Any:
        """The user's client."""

        def stub(method: Method, number: int) -> Call:
            if self.interceptors:
                last = _maker(self, method, number)
                return client_chain(self.contract.name, method, self.interceptors, timeout, last)
            if method.streaming:
                return _stream_stub(self, method, number, timeout)
            plain = not (method.bulk_params or method.bulk_result or method.fd_params or method.fd_result)
            return (_plain_stub if plain else _bulk_stub)(self, method, number, timeout)

        own = {"close": self.pool.close, "_flipcall": self}
        return client_object(self.contract, self.connection, stub, own)


def _plain_stub(client: _Client, method: Method, number: int, timeout: float | None) -> Call:
    """The hottest path there is: everything it needs is in its closure, and nothing is called that need not be."""
    count, bind, decode = positions(method), method.bind, method.decode_result
    what = number | timeout_us(timeout) << lib.FC_CALL_TIMEOUT_SHIFT
    pool, hold, loop, now = client.pool, client.hold, client.loop, time.monotonic
    pop, push, waiters, notify, mend = pool.free.pop, pool.free.append, pool.waiters, pool.notify, pool.mend

    async def slowly(body: bytes, unsent: ClosedError | None = None) -> Any:
        return decoded(method, (await ask(client, timeout, number, body, b"", unsent=unsent)).body)

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
            if type(e) is ClosedError and channel.window.unsent:
                return await slowly(body, e)
            raise
        push(channel)
        if waiters:
            notify()
        try:
            return decode(reply)
        except UNDECODABLE as e:
            raise garbled(method, e) from e

    return call


def _maker(client: _Client, method: Method, number: int) -> ClientProceed:
    """What makes a call that has passed the interceptors, with its own timeout and metadata."""

    kind = _stream_stub if method.streaming else _bulk_stub

    async def make(call: ClientCall) -> Any:
        result = method.call(kind(client, method, number, call.timeout, dict(call.metadata)), call.args)
        return result if method.stream_out else await result

    return make


def _bulk_stub(
    client: _Client,
    method: Method,
    number: int,
    timeout: float | None,
    metadata: Mapping[str, str] = NO_METADATA,
) -> Call:
    """A call whose arguments or result may travel beside the body."""
    count, bind, bulk = positions(method), method.bind, method.result_bulk
    landing = bulk.landing if bulk else None
    if metadata:
        number |= WITH_METADATA

    async def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) != count:
            args = bind(args, kwargs)
        slots, attachment = method.split(args)
        body, fds = pack(slots) if method.fd_params else (encode(slots), [])
        if metadata:
            body = wrapped(metadata, body)
        reply = await ask(client, timeout, number, body, attachment, fds, landing)
        if method.fd_result:
            return decoded_with_fds(method, reply)
        return (
            decoded(method, reply.body)
            if bulk is None
            else unpacked(method, bulk, reply.body, reply.attachment)
        )

    return call


def _stream_stub(
    client: _Client,
    method: Method,
    number: int,
    timeout: float | None,
    metadata: Mapping[str, str] = NO_METADATA,
) -> Call:
    """A call with items to send or to receive. With results to iterate over it begins when one is asked for."""
    bind, pool = method.bind, client.pool
    if metadata:
        number |= WITH_METADATA

    async def results(
        body: bytes, attachment: Attachment, requests: AsyncIterator[Any] | None, last: list[Any]
    ) -> AsyncGenerator[Any, None]:
        limit = inherited(timeout) if serving else timeout
        started = time.monotonic()
        channel = await pool.take(limit)
        try:
            flow = channel.flow(method.stream_out)
            flow.open(number, timeout_us(left(limit, started)), body, attachment)
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
    client: _Client,
    timeout: float | None,
    number: int,
    body: bytes,
    attachment: Attachment,
    fds: Sequence[Fd] = (),
    landing: Landing | None = None,
    unsent: ClosedError | None = None,
) -> Reply:
    """One call over a channel of the pool; waiting for the channel is part of the timeout.

    When the loop has been held for long enough it neither spins nor returns before the loop has run. A channel
    that ended while it was idle is no reason to fail: see flipcall.stub. unsent: what an earlier attempt came to,
    at which the call was not given.
    """
    if serving:
        timeout = inherited(timeout)
    started = time.monotonic()
    over = started > client.hold.until and client.hold.over(client.loop)
    pool = client.pool
    for _ in range(pool.limit + 1):
        at_once = bool(pool.free)
        channel = pool.free.pop() if at_once else await _taken(pool, left(timeout, started), unsent)
        limit = timeout_us(left(timeout, started))
        try:
            if over and at_once:
                channel.ep.brief = 1
            what, result = channel.ask(number | limit << lib.FC_CALL_TIMEOUT_SHIFT, body, attachment, fds)
            at_once = at_once and result >= 0
            reply = await channel.settle(result, what, body, attachment, landing)
        except BaseException as e:
            pool.mend(channel)
            if type(e) is not ClosedError or not channel.window.unsent or fds:
                raise
            unsent = e
            continue
        pool.give(channel)
        if over and at_once:
            await asyncio.sleep(0)
        return reply
    assert unsent is not None
    raise unsent


async def _taken(pool: Pool, timeout: float | None, unsent: ClosedError | None) -> Channel:
    try:
        return await pool.take(timeout)
    except (DeadlineExceeded, ForkedError):
        raise
    except (FlipcallError, OSError) as e:
        raise e if unsent is None else unsent from e
