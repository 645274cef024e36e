"""connect(): a client whose methods are coroutines (stub.py)."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

from .._core import lib
from ..channel import WindowChannel
from ..client import Maker, Path, client_object
from ..dialer import Connection
from ..handshake import Transport
from ..interceptor import called
from ..method import Method
from ..options import checked
from ..policy import WaitPolicy
from ..service import Contract, Service, contract_of
from ..socketchannel import SocketChannel
from ..switch import FUTEX
from .interceptor import ClientInterceptor, client_chain, looped
from .pool import Made, Pool
from .stub import Call, maker, stub
from .waits import loop_waits

S = TypeVar("S", bound=Service)


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


@checked(loop=True)
def connect(
    service: type[S],
    path: Path,
    *,
    timeout: float | None = 30.0,
    connect_timeout: float = 5.0,
    transport: Transport = "window",
    window_size: int = lib.FC_WINDOW_DEFAULT,
    max_channels: int = 64,
    message_max: int = lib.FC_MESSAGE_DEFAULT,
    policy: WaitPolicy | None = None,
    switch: str | None = None,
    interceptors: Sequence[ClientInterceptor] = (),
) -> Connecting[S]:
    """A client of the server at socket `path`; it has the methods of `service`, which are `async def`.

    `geo = await connect(Geo, path)` and later geo.close(), or `async with connect(Geo, path) as geo`. The
    server may be either kind. Options and errors as of flipcall.connect(); max_channels: calls that wait for
    their answer at the same time (more queue, first come, first served). A call spins for its answer for up
    to the policy's spin_ns, during which the loop stands still, and then suspends its task; calls that are
    all answered at once let the loop run every 50 us. Cancelling a task cancels its call. interceptors: as
    of flipcall.connect(), with `async def` (flipcall.asyncio.interceptor). switch: None or "futex", and no
    placement, as in flipcall.asyncio.Server. Only for tasks of the loop it was made in.

    Raises MisuseError for a service with methods that are not `async def`.
    """
    contract = contract_of(service)
    contract.for_clients(asynchronous=True)
    connection = Connection(
        contract,
        path,
        connect_timeout=connect_timeout,
        transport=transport,
        window_size=window_size,
        max_channels=max_channels,
        message_max=message_max,
        policy=loop_waits(policy, switch),
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
    """What all objects of one client share."""

    def __init__(
        self,
        contract: Contract,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        interceptors: Sequence[ClientInterceptor],
    ) -> None:
        self._contract = contract
        self._interceptors = interceptors
        self._connection = connection
        self.pool = Pool(loop, self._made, limit)

    def _made(self) -> Made:
        channel = self._connection.channel()
        assert isinstance(channel, (WindowChannel, SocketChannel))
        return channel

    def again(self, client: Any, timeout: float | None) -> Any:
        """See Maker."""
        return self.object(timeout)

    def object(self, timeout: float | None) -> Any:
        """The user's client."""

        def make(method: Method, number: int) -> Call:
            if not self._interceptors:
                return stub(method, number, self.pool, timeout)
            call = called(self._contract.name, method, timeout)
            proceed = looped(self._interceptors, maker(method, number, self.pool))
            return client_chain(call, proceed, method.stream_out is not None)

        own = {"close": self.pool.close, "_flipcall": self}
        return client_object(self._contract, self._connection, make, own)
