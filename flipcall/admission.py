"""Who may open a channel, and on what terms: the server's half of the handshake (proto/handshake.md).

Everything a client says is checked here, once, before it costs more than a thread and a socket.
"""

import socket
import time
from collections.abc import Mapping
from typing import NamedTuple

from .agreement import agree
from .allocator import MemfdAllocator
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
    recv_message,
    send_message,
)
from .liveness import Liveness, Peer
from .meter import Counts, Meters
from .notify import NotifyLink
from .outcome import Side, Stats
from .serving import Served, WindowServing
from .session import Session, Sessions
from .socketserving import SocketServing
from .stats import ChannelStats, Doing, Observed
from .status import Status
from .stream import FrameSocket
from .switch import NOTIFY, offered, taken
from .terms import Terms

HANDSHAKE_S = 5.0
_MESSAGE_MAX = 8192  # characters of a refusal


class Admitted(NamedTuple):
    """A new channel: what serves it, whose it is, and what it counts. endpoint: None on the socket transport."""

    serving: Served
    session: Session
    life: Liveness
    endpoint: Endpoint | None
    meters: Meters | None

    def counts(self, last: bool = False) -> dict[str, Counts]:
        """What it has counted, by the method's name. last: and it counts no more."""
        if self.meters is None:
            return {}
        names = self.session.dispatcher.methods
        read = self.meters.close() if last else self.meters.read()
        return {names[number].name: counts for number, counts in read.items()}

    def observed(self) -> Observed:
        """The channel seen from outside. Any thread, before `last`."""
        counts, endpoint = self.counts(), self.endpoint
        busy = self.serving.busy
        doing: Doing = "serving" if busy else "spinning"
        if not busy and (endpoint is None or endpoint.parked):
            doing = "parked"
        channel = ChannelStats(
            self.session.peer.pid,
            self.session.peer.uid,
            "socket" if endpoint is None else "window",
            "" if endpoint is None else endpoint.switch,
            doing,
            sum(c.calls for c in counts.values()),
            sum(c.errors for c in counts.values()),
            sum(c.total_ns for c in counts.values()),
            Stats.none() if endpoint is None else endpoint.stats,
        )
        return Observed(channel, counts)


class Admission:
    """Turns connections into channels. Any thread. `builtins` are further services at the same socket, by name:
    whoever asks for another one gets `sessions`, and is told which that is.
    """

    def __init__(self, sessions: Sessions, builtins: Mapping[str, Sessions], terms: Terms) -> None:
        self.sessions = sessions
        self._builtins = builtins
        self._terms = terms
        self._message_max = terms.message_max
        self._switches = offered(terms.switch)
        self._notify = terms.alone and terms.switch in (None, NOTIFY)
        self._allocator = MemfdAllocator()

    def admit(self, sock: socket.socket) -> Admitted:
        """The channel for a connection that has just been taken; its session is joined.

        Raises CallError after telling the client why it is refused; ClosedError, DeadlineExceeded and
        ProtocolError for a client that does not shake hands.
        """
        deadline = time.monotonic() + HANDSHAKE_S
        hello, fds = recv_message(sock, hello_decoder, deadline, max_fds=2)
        try:
            return self._admitted(sock, hello, fds, deadline)
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

    def _admitted(self, sock: socket.socket, hello: Hello, fds: list[int], deadline: float) -> Admitted:
        """fds: what came with the hello, and is this function's."""
        peer, link = Peer.of(sock), None
        try:
            if len(fds) != (2 if hello.notify else 0):
                raise ProtocolError(f"{len(fds)} descriptors came with the hello", peer.pid)
            session = self._checked(sock, hello, peer, deadline)
        except BaseException:
            close_fds(fds)
            raise
        try:
            if fds and self._notify and hello.transport == "window":
                fds, descriptors = [], fds
                link = NotifyLink.adopt(descriptors, hello.notify, peer.pid)
            return self._channel(sock, hello, session, link)
        except BaseException:
            session.home.leave(session)
            if link is not None and not link.used:
                link.close()
            raise
        finally:
            close_fds(fds)

    def _able(self, hello: Hello) -> list[str]:
        """The switches that can be taken: notify is the client's to install, so one that has sent it can do it."""
        if hello.notify and self._notify and self._terms.switch is None:
            return [*self._switches, NOTIFY]
        return self._switches

    def _checked(self, sock: socket.socket, hello: Hello, peer: Peer, deadline: float) -> Session:
        if not self._terms.authorize(peer):
            raise CallError(Status.PERMISSION_DENIED, f"user {peer.uid} (process {peer.pid}) may not connect")
        if hello.version != VERSION:
            raise CallError(
                Status.FAILED_PRECONDITION, f"version {hello.version} asked for, {VERSION} spoken here"
            )
        if hello.transport not in self._terms.transports:
            offered = ", ".join(self._terms.transports)
            raise CallError(
                Status.FAILED_PRECONDITION, f"transport {hello.transport!r} is not offered ({offered})"
            )
        most = self._terms.window_max
        if hello.transport == "window" and not 0 <= hello.window <= most:
            what = f"a window of {hello.window} bytes was asked for, at most {most} are allowed"
            raise CallError(Status.RESOURCE_EXHAUSTED, what)
        if hello.transport == "window":
            try:
                taken(self._able(hello), hello.switches)
            except UnsupportedError as e:
                raise CallError(Status.FAILED_PRECONDITION, str(e)) from None
        session = self._builtins.get(hello.service, self.sessions).join(hello.session, peer)
        try:
            agree(sock, hello, session, deadline)
        except BaseException:
            session.home.leave(session)
            raise
        return session

    def _channel(
        self, sock: socket.socket, hello: Hello, session: Session, link: NotifyLink | None
    ) -> Admitted:
        life = Liveness.of(sock)
        metered = self._terms.statistics and session.home is self.sessions
        meters = Meters(len(session.dispatcher.methods)) if metered else None
        try:
            if hello.transport == "socket":
                send_message(sock, self._welcome(session, 0))
                return Admitted(self._over_socket(session, sock, meters), session, life, None, meters)
            window = self._allocator.allocate(hello.window)
            endpoint = Endpoint(
                window,
                Side.SERVER,
                policy=self._terms.policy,
                watched=True,
                peer=Liveness.named(life.pid),
                switch=self._terms.switch,
                notify=link,
                doorbell=sock,
            )
            try:
                send_message(sock, self._welcome(session, window.length), (window.fd,))
                window.drop_fd()
            except BaseException:
                endpoint.close()
                raise
            if meters is not None:
                meters.attach(endpoint.core()[0])
            return Admitted(self._over_window(endpoint, session, sock), session, life, endpoint, meters)
        except BaseException:
            life.close()
            raise

    def _over_window(self, endpoint: Endpoint, session: Session, sock: socket.socket) -> Served:
        return WindowServing(endpoint, session.dispatcher, session.peer, self._message_max, sock)

    def _over_socket(self, session: Session, sock: socket.socket, meters: Meters | None) -> Served:
        takes_fds = session.dispatcher.takes_fds
        frames = FrameSocket(sock, self._message_max, takes_fds=takes_fds)
        return SocketServing(frames, session.dispatcher, meters)

    def _welcome(self, session: Session, window: int) -> Welcome:
        dispatcher = session.dispatcher
        offered = [Offered.of(m) for m in dispatcher.methods]
        return Welcome(VERSION, dispatcher.name, offered, session.token, window, self._message_max)


def refuse(sock: socket.socket, error: CallError) -> None:
    """Tell the client why, if it still listens, and do not wait for it."""
    try:
        sock.setblocking(False)
        send_message(sock, Refused(error.status, readable(error.message, _MESSAGE_MAX)))
    except (OSError, FlipcallError):
        pass  # it has gone, or reads nothing: the hang-up tells it
