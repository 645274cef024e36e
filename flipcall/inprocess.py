"""A client of a service object in this process: no socket, no window, but the same codec, dispatch and pool.

For tests of a service: what it answers, raises and streams is what a client elsewhere would see, types checked
both ways, and nothing is shared with it but bytes. A plain call runs in the caller's thread, so that a debugger
steps into the handler; its deadline is told to the handler, and to the caller when that returns. A streaming
call's handler has a thread of its own, as in a server.
"""

import os
import threading
from collections.abc import Sequence
from typing import Any

from ._core import ffi
from .channel import Attachment, Reply
from .client import client_of
from .context import Context, within
from .dialer import Connection
from .dispatch import Dispatcher
from .errors import ClosedError, DeadlineExceeded
from .failure import rebuild
from .fd import Fd
from .fds import close_fds
from .filled import Filling
from .handshake import VERSION, Offered, Welcome
from .interceptor import ClientInterceptor, ServerInterceptor
from .items import Items
from .landing import Landing
from .liveness import Peer
from .localflow import LocalFlow, opened
from .outcome import State
from .policy import WaitPolicy
from .rights import Rights
from .session import Implementation, Sessions

_MESSAGE_MAX = 1 << 40  # bytes: memory is the limit


class LocalChannel:
    """The client's end; the same doors as WindowChannel."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._closed = False
        self._flow: LocalFlow | None = None  # of the streaming call under way

    def bulk(
        self,
        number: int,
        timeout_us: int,
        body: bytes,
        attachment: Attachment,
        fds: Sequence[Fd] = (),
        landing: Landing | None = None,
    ) -> Reply:
        """See WindowChannel.bulk."""
        if self._closed:
            raise ClosedError("this client is closed")
        number, call, body = opened(number, timeout_us, body)
        rights = _duplicates(fds)
        with within(Context(call)):
            try:
                status, out, data, given = self._dispatcher.answer(
                    number, body, memoryview(bytes(attachment)), rights
                )
            finally:
                rights.close()
        if call.late:
            raise DeadlineExceeded("the handler took longer than the call's timeout")
        if status:
            raise rebuild(status, out)
        landed = data = bytes(data)
        if landing is not None:
            landed = landing.copied(ffi.from_buffer("char[]", data), 0, len(data))
        return Reply(out, landed, _duplicates(given))

    def filled(self, filling: Filling, body: bytes, streaming: bool = False) -> Attachment:
        """See WindowChannel.filled."""
        return filling.private()

    def flow(self, incoming: Items | None) -> LocalFlow:
        """A streaming call, not opened yet."""
        if self._closed:
            raise ClosedError("this client is closed")
        self._flow = LocalFlow(incoming, self._dispatcher)
        return self._flow

    def cancel(self) -> None:
        """Tell the handler that nobody wants the rest."""
        if self._flow is not None:
            self._flow.give_up()

    @property
    def state(self) -> State:
        """What the channel can do next."""
        if self._closed:
            return State.CLOSED
        return State.ACTIVE if self._flow is None or self._flow.over else State.WAITING

    def reclaim(self) -> bool:
        """Whether the handler has let go."""
        return self.state is State.ACTIVE

    def abandon(self) -> None:
        """In a forked child: the handler's thread is the parent's."""
        self._closed = True

    def close(self) -> None:
        """End it. Any thread, idempotent."""
        self._closed = True
        if self._flow is not None:
            self._flow.end()


def _duplicates(fds: Sequence[Fd]) -> Rights:
    """Descriptors as the other side of a message gets them. Raises OSError (EMFILE)."""
    made: list[int] = []
    try:
        for fd in fds:
            made.append(os.dup(fd.fileno()))
            fd.mark_sent()
    except BaseException:
        close_fds(made)
        raise
    return Rights(made)


class LocalConnection(Connection):
    """A Connection to a dispatcher of this process."""

    def __init__(
        self, dispatcher: Dispatcher, max_channels: int, interceptors: Sequence[ClientInterceptor]
    ) -> None:
        super().__init__(
            dispatcher.contract,
            "(this process)",
            connect_timeout=0.0,
            transport="socket",  # the stubs for any transport
            window_size=0,
            max_channels=max_channels,
            policy=WaitPolicy.balanced(),
            interceptors=interceptors,
        )
        offered = [Offered.of(m) for m in dispatcher.methods]
        self.welcome = Welcome(VERSION, dispatcher.name, offered, b"", 0, _MESSAGE_MAX)
        self.peer_pid = os.getpid()
        self._dispatcher = dispatcher

    def channel(self, deadline: float | None = None) -> Any:
        return LocalChannel(self._dispatcher)


def local(
    implementation: Implementation,
    *,
    timeout: float | None = 30.0,
    max_channels: int = 8,
    tracebacks: bool = False,
    interceptors: Sequence[ClientInterceptor] = (),
    server_interceptors: Sequence[ServerInterceptor] = (),
) -> Any:
    """See flipcall.testing.local."""
    sessions = Sessions(implementation, tracebacks, None, tuple(server_interceptors))
    session = sessions.join(b"", Peer(os.getpid(), os.geteuid(), os.getegid()))
    connection = LocalConnection(session.dispatcher, max_channels, interceptors)
    client = client_of(session.dispatcher.contract, connection, timeout)
    left = threading.Lock()

    def close() -> None:
        connection.pool.close()
        if left.acquire(blocking=False):
            sessions.leave(session)

    vars(client)["close"] = close
    return client
