"""A client of a service object in this process: no socket, no window, but the same codec, dispatch and pool.

For tests of a service: what it answers, raises and streams is what a client elsewhere would see, types checked
both ways, and nothing is shared with it but bytes. A plain call runs in the caller's thread, so that a debugger
steps into the handler; its deadline is told to the handler, and to the caller when that returns. A streaming
call's handler has a thread of its own, as in a server.
"""

import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ._core import ffi
from .channel import Attachment, Reply
from .client import client_of
from .context import NO_METADATA, Context, within
from .dialer import Connection
from .dispatch import Dispatcher
from .errors import ClosedError, DeadlineExceeded
from .failure import rebuild
from .fd import Fd
from .fds import close_fds
from .filled import Filling
from .frame import CANCEL, END, ITEMS, MORE, REPLY, TIMEOUT_NONE
from .handshake import VERSION, Offered, Welcome
from .interceptor import ClientInterceptor, ServerInterceptor
from .items import Items
from .landing import Landing
from .liveness import Peer
from .metadata import WITH_METADATA, unwrapped
from .method import encode
from .outcome import State
from .policy import WaitPolicy
from .rights import Rights
from .session import Implementation, Sessions

_MESSAGE_MAX = 1 << 40  # bytes: memory is the limit
_AHEAD = 64  # items that a producer publishes before it waits to be asked for more
_EARLY = 1  # code of ITEMS: control stays where it is


class LocalCall:
    """What context() tells of a call. `given_up`: its caller wants no more."""

    def __init__(self, timeout_us: int, metadata: Mapping[str, str]) -> None:
        self.peer = Peer(os.getpid(), os.geteuid(), os.getegid())
        self.metadata = metadata
        self.given_up = False
        self._deadline = None if timeout_us == TIMEOUT_NONE else time.monotonic_ns() + timeout_us * 1000

    def deadline_ns(self) -> int | None:
        """See Context.deadline_ns."""
        return self._deadline

    def cancelled(self) -> bool:
        """See Context.cancelled."""
        return self.given_up

    def reply_view(self, n: int) -> memoryview:
        """See Context.reply_view."""
        return memoryview(bytearray(n))

    @property
    def late(self) -> bool:
        """Its deadline has passed."""
        return self._deadline is not None and time.monotonic_ns() >= self._deadline


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
        number, call, body = _opened(number, timeout_us, body)
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

    def flow(self, incoming: Items | None) -> "LocalFlow":
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


class _Word(NamedTuple):
    kind: int
    code: int = 0
    body: bytes = b""
    attachment: bytes = b""


class LocalFlow:
    """One side of a streaming call; the same doors as WindowFlow. The client's opens the other one, in a
    thread."""

    def __init__(self, incoming: Items | None, dispatcher: Dispatcher) -> None:
        self.items: list[Any] = []
        self.mine = True
        self.kind = 0
        self.code = 0
        self.body = self.attachment = b""
        self.call: LocalCall | None = None
        self._incoming = incoming
        self._dispatcher = dispatcher
        self._inbox: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._other: LocalFlow | None = None
        self._thread: threading.Thread | None = None
        self._ahead = 0
        self._stopped = False
        self._ended = False

    # ---- the client's beginning and end -------------------------------------------------------------------

    def open(self, number: int, timeout_us: int, body: bytes, attachment: Any) -> None:
        """See WindowFlow.open."""
        number, call, body = _opened(number, timeout_us, body)
        there = LocalFlow(self._dispatcher.incoming(number), self._dispatcher)
        there._other, self._other = self, there
        there.call = self.call = call
        self.mine = False
        self._thread = threading.Thread(
            target=there._serve, args=(number, body, bytes(attachment)), name="flipcall-local", daemon=True
        )
        self._thread.start()

    def _serve(self, number: int, body: bytes, attachment: bytes) -> None:
        assert self.call is not None
        with within(Context(self.call)):
            try:
                status, out, data, _ = self._dispatcher.answer(
                    number, body, memoryview(attachment), flow=self
                )
            except BaseException as e:  # what would end a channel
                status, out, data, _ = self._dispatcher.failed(e)
        self._say(_Word(REPLY, status, out, bytes(data)))

    @property
    def over(self) -> bool:
        """The handler has let go."""
        return self._thread is None or not self._thread.is_alive()

    def give_up(self) -> None:
        """Client: it wants no more."""
        if self.call is not None:
            self.call.given_up = True
            self._say(_Word(CANCEL))

    def end(self) -> None:
        """Client: it was closed. Any thread."""
        self._ended = True
        self.give_up()
        self._inbox.put(_Word(CANCEL))  # whoever waits looks up

    # ---- either side --------------------------------------------------------------------------------------

    def give(self, item: Any) -> bool:
        """See WindowFlow.give."""
        return self.publish(encode(item))

    def publish(self, item: bytes) -> bool:
        """See WindowFlow.publish."""
        self._say(_Word(ITEMS, _EARLY, item))
        self._ahead += 1
        while not self._inbox.empty():  # nothing but CANCEL is said out of turn
            self.take()
        if self._stopped:
            return False
        if self._ahead < _AHEAD:
            return True
        self.flip()
        return self.kind == MORE

    def publish_bulk(self, data: memoryview) -> bool:
        """See WindowFlow.publish_bulk."""
        return self.publish(encode(data))

    def flip(self) -> None:
        """See WindowFlow.flip."""
        self.hand(ITEMS)
        while not self.mine:
            self.take()

    def hand(self, kind: int, code: int = 0) -> None:
        """See WindowFlow.hand."""
        self._ahead = 0
        self.mine = False
        self._say(_Word(kind, code))

    def take(self) -> None:
        """See WindowFlow.take."""
        word = self._heard()
        if word.kind == CANCEL:
            self._stopped = True
            if self._thread is None and not self.mine:  # the handler's side: control comes with it
                self.mine, self.kind = True, CANCEL
            return
        if word.kind == ITEMS and word.body and self._incoming is not None:
            self.items.append(self._incoming.decode_one(word.body))
        if word.kind == ITEMS and word.code == _EARLY:
            return
        self.mine, self.kind, self.code = True, word.kind, word.code
        if word.kind == REPLY:
            self.body, self.attachment = word.body, word.attachment

    def _heard(self) -> _Word:
        assert self.call is not None
        deadline = self.call.deadline_ns()
        left = None if deadline is None else max(0.0, (deadline - time.monotonic_ns()) / 1e9)
        try:
            word = self._inbox.get(timeout=left)
        except queue.Empty:
            raise DeadlineExceeded("the other side did not answer before the deadline") from None
        if self._ended:
            raise ClosedError("this client is closed")
        return word

    def drain(self) -> list[Any]:
        """See WindowFlow.drain."""
        items, self.items = self.items, []
        return items

    def regain(self) -> None:
        """See WindowFlow.regain."""
        self._incoming = None
        if not self.mine:
            self._say(_Word(CANCEL))
        while not self.mine:
            word = self._inbox.get()
            if word.kind == CANCEL or word.kind in (MORE, END) or (word.kind == ITEMS and not word.code):
                self.mine, self.kind = True, word.kind

    def _say(self, word: _Word) -> None:
        assert self._other is not None
        self._other._inbox.put(word)


def _opened(number: int, timeout_us: int, body: bytes) -> tuple[int, LocalCall, bytes]:
    """A method's number, the call, and its body, from what a stub gives."""
    metadata: Mapping[str, str] = NO_METADATA
    if number & WITH_METADATA:
        metadata, body = unwrapped(body)
    return number & 0xFFFF, LocalCall(timeout_us, metadata), body


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
