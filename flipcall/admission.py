"""Who may open a channel, and on what terms: the server's half of the handshake (proto/handshake.md).

Everything a client says is checked here, once, before it costs more than a thread and a socket.
"""

import socket
import time
from collections.abc import Callable

from .allocator import MemfdAllocator
from .dispatch import Dispatcher
from .endpoint import Endpoint
from .errors import (
    CallError,
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ProtocolError,
    UnsupportedError,
    WindowError,
)
from .failure import readable
from .fds import close_fds
from .handshake import (
    VERSION,
    Hello,
    Offered,
    Refused,
    Welcome,
    hello_decoder,
    mismatches,
    recv_message,
    send_message,
)
from .liveness import Liveness, Peer
from .notify import NotifyLink
from .outcome import Side
from .policy import WaitPolicy
from .serving import Serving, SocketServing, WindowServing
from .session import Session, Sessions
from .status import Status
from .stream import FrameSocket
from .switch import NOTIFY, offered, taken

HANDSHAKE_S = 5.0
_SHOWN = 10  # mismatched methods in one refusal
_MESSAGE_MAX = 8192  # characters of a refusal


class Admission:
    """Turns connections into channels. Any thread."""

    def __init__(
        self,
        sessions: Sessions,
        *,
        policy: WaitPolicy,
        window_max: int,
        message_max: int,
        transports: tuple[str, ...],
        authorize: Callable[[Peer], bool],
        switch: str | None,
        alone: bool = True,
    ) -> None:
        """alone: no other process serves at this socket. Else the switch notify, by which a client has one process
        as its server, is not for its channels, which may be several processes'.
        """
        self.sessions = sessions
        self._policy = policy
        self._window_max = window_max
        self._message_max = message_max
        self._transports = transports
        self._authorize = authorize
        self._switch = switch
        self._switches = offered(switch)
        self._notify = alone and switch in (None, NOTIFY)
        self._allocator = MemfdAllocator()

    def admit(self, sock: socket.socket) -> tuple[Serving, Session, Liveness]:
        """The channel for a connection that has just been taken, and its session, joined.

        Raises CallError after telling the client why it is refused; ClosedError, DeadlineExceeded and
        ProtocolError for a client that does not shake hands.
        """
        deadline = time.monotonic() + HANDSHAKE_S
        hello, fds = recv_message(sock, hello_decoder, deadline, max_fds=2)
        try:
            return self._admitted(sock, hello, fds)
        except (ClosedError, DeadlineExceeded, ProtocolError):
            raise
        except CallError as e:
            refuse(sock, e)
            raise
        except (OSError, WindowError) as e:
            why = CallError(
                Status.RESOURCE_EXHAUSTED, f"no channel with a window of {hello.window} bytes: {e}"
            )
            refuse(sock, why)
            raise why from e
        except Exception as e:  # authorize, the factory: this side's code
            what = f"the server could not make a channel: {type(e).__name__}: {e}"
            refuse(sock, CallError(Status.INTERNAL, what))
            raise

    def _admitted(
        self, sock: socket.socket, hello: Hello, fds: list[int]
    ) -> tuple[Serving, Session, Liveness]:
        """fds: what came with the hello, and is this function's."""
        peer, link = Peer.of(sock), None
        try:
            if len(fds) != (2 if hello.notify else 0):
                raise ProtocolError(f"{len(fds)} descriptors came with the hello", peer.pid)
            session = self._checked(hello, peer)
        except BaseException:
            close_fds(fds)
            raise
        try:
            if fds and self._notify and hello.transport == "window":
                fds, descriptors = [], fds
                link = NotifyLink.adopt(descriptors, hello.notify, peer.pid)
            return self._channel(sock, hello, session, link)
        except BaseException:
            self.sessions.leave(session)
            if link is not None and not link.used:
                link.close()
            raise
        finally:
            close_fds(fds)

    def _able(self, hello: Hello) -> list[str]:
        """The switches that can be taken: notify is the client's to install, so one that has sent it can do it."""
        if hello.notify and self._notify and self._switch is None:
            return [*self._switches, NOTIFY]
        return self._switches

    def _checked(self, hello: Hello, peer: Peer) -> Session:
        if not self._authorize(peer):
            raise CallError(Status.PERMISSION_DENIED, f"user {peer.uid} (process {peer.pid}) may not connect")
        if hello.version != VERSION:
            raise CallError(
                Status.FAILED_PRECONDITION, f"version {hello.version} asked for, {VERSION} spoken here"
            )
        if hello.transport not in self._transports:
            offered = ", ".join(self._transports)
            raise CallError(
                Status.FAILED_PRECONDITION, f"transport {hello.transport!r} is not offered ({offered})"
            )
        if hello.transport == "window" and not 0 <= hello.window <= self._window_max:
            what = f"a window of {hello.window} bytes was asked for, at most {self._window_max} are allowed"
            raise CallError(Status.RESOURCE_EXHAUSTED, what)
        if hello.transport == "window":
            try:
                taken(self._able(hello), hello.switches)
            except UnsupportedError as e:
                raise CallError(Status.FAILED_PRECONDITION, str(e)) from None
        session = self.sessions.join(hello.session, peer)
        try:
            _agree(hello, session.dispatcher)
        except BaseException:
            self.sessions.leave(session)
            raise
        return session

    def _channel(
        self, sock: socket.socket, hello: Hello, session: Session, link: NotifyLink | None
    ) -> tuple[Serving, Session, Liveness]:
        life = Liveness.of(sock)
        try:
            if hello.transport == "socket":
                send_message(sock, self._welcome(session, 0))
                takes_fds = any(m.fd_params for m in session.dispatcher.methods)
                frames = FrameSocket(sock, self._message_max, takes_fds=takes_fds)
                return SocketServing(frames, session.dispatcher), session, life
            window = self._allocator.allocate(hello.window)
            endpoint = Endpoint(
                window,
                Side.SERVER,
                policy=self._policy,
                watched=True,
                peer=Liveness.named(life.pid),
                switch=self._switch,
                notify=link,
            )
            try:
                send_message(sock, self._welcome(session, window.length), (window.fd,))
                window.drop_fd()
            except BaseException:
                endpoint.close()
                raise
            serving = WindowServing(endpoint, session.dispatcher, session.peer, self._message_max, sock)
            return serving, session, life
        except BaseException:
            life.close()
            raise

    def _welcome(self, session: Session, window: int) -> Welcome:
        dispatcher = session.dispatcher
        offered = [Offered.of(m) for m in dispatcher.methods]
        return Welcome(VERSION, dispatcher.name, offered, session.token, window, self._message_max)


def _agree(hello: Hello, dispatcher: Dispatcher) -> None:
    """Raises CallError when the client would call something else than is served here."""
    if not hello.service:
        return
    if hello.service != dispatcher.name:
        what = f"the client asks for service {hello.service}, this is {dispatcher.name}"
        raise CallError(Status.FAILED_PRECONDITION, what)
    wrong = mismatches(hello, {m.name: Offered.of(m) for m in dispatcher.methods})
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise CallError(Status.FAILED_PRECONDITION, "; ".join(wrong[:_SHOWN]) + more)


def refuse(sock: socket.socket, error: CallError) -> None:
    """Tell the client why, if it still listens, and do not wait for it."""
    try:
        sock.setblocking(False)
        send_message(sock, Refused(error.status, readable(error.message, _MESSAGE_MAX)))
    except (OSError, FlipcallError):
        pass  # it has gone, or reads nothing: the hang-up tells it
