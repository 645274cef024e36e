"""Connection: how a client's channels are made, one handshake each (proto/handshake.md), and what they share."""

import os
import socket
import time
import weakref
from collections.abc import Sequence

from ._core import lib
from .agreement import shapes_of
from .channel import WindowChannel
from .endpoint import Endpoint
from .errors import (
    CallError,
    ClosedError,
    DeadlineExceeded,
    ProtocolError,
)
from .fds import close_fds
from .handshake import (
    VERSION,
    Compare,
    Hello,
    Refused,
    Transport,
    Wanted,
    Welcome,
    answer_decoder,
    recv_message,
    send_message,
)
from .interceptor import ClientInterceptor
from .liveness import Liveness, Peer, hang_up
from .notify import NotifyLink
from .outcome import Side
from .policy import WaitPolicy
from .pool import Channel, Pool
from .service import Contract
from .socketchannel import SocketChannel
from .status import Status
from .stream import FrameSocket
from .switch import NOTIFY, offered
from .window import PacketWindow

Path = str | os.PathLike[str]

_BACKLOG_PAUSE_S = 0.005


_clients: "weakref.WeakSet[Connection]" = weakref.WeakSet()


class Connection:
    """What all channels of one client share: where the server is, what was agreed, and the pool."""

    def __init__(
        self,
        contract: Contract | None,
        path: Path,
        *,
        connect_timeout: float,
        transport: Transport,
        window_size: int,
        max_channels: int,
        message_max: int = lib.FC_MESSAGE_DEFAULT,
        policy: WaitPolicy,
        switch: str | None = None,
        service: str = "",
        interceptors: Sequence[ClientInterceptor] = (),
    ) -> None:
        self.path = os.fspath(path)
        self.transport: Transport = transport
        self.policy = policy
        self.switch = switch
        self.interceptors = tuple(interceptors)
        self._switches = offered(switch)
        self._connect_timeout = connect_timeout
        self._window_size = window_size
        self._message_max = message_max
        self._wanted = {m.name: Wanted(m.fingerprint, str(m)) for m in contract.methods} if contract else {}
        self._contract = contract
        self._service = contract.name if contract else service
        self._takes_fds = any(m.fd_result for m in contract.methods) if contract else False
        self.welcome: Welcome | None = None
        self.peer_pid = 0  # of the first channel
        self.pool = Pool(self.channel, max_channels)
        _clients.add(self)

    def open(self) -> Welcome:
        """Make the first channel, so that whatever is wrong is told at once."""
        self.pool.give(self.pool.take(self._connect_timeout))
        assert self.welcome is not None
        return self.welcome

    def channel(self, deadline: float | None = None) -> Channel:
        """A new channel, by the deadline (time.monotonic() seconds) and the connect timeout.

        One that was hung up on without a word is tried once more: a worker that was just ending had it.
        """
        latest = time.monotonic() + self._connect_timeout
        deadline = latest if deadline is None else min(deadline, latest)
        try:
            return self._connected(deadline)
        except ClosedError as e:
            try:
                return self._connected(deadline)
            except (ConnectionRefusedError, FileNotFoundError):
                raise e from None  # it was the server that ended

    def _connected(self, deadline: float) -> Channel:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link: NotifyLink | None = None
        try:
            _reach(sock, self.path, deadline)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # a worker may answer for who listens
            session = self.welcome.session if self.welcome else b""
            if self.switch == NOTIFY and self.transport == "window":
                link = NotifyLink.make(Peer.of(sock).pid)
            hello = Hello(
                VERSION,
                self._service,
                self._wanted,
                self.transport,
                self._window_size,
                self._switches,
                link.identity if link else b"",
                session,
            )
            try:
                send_message(sock, hello, link.descriptors() if link else ())
            except ClosedError:
                pass  # a server that is full says so and hangs up without listening: hear it
            senders: list[int] = []
            answer, fds = recv_message(sock, answer_decoder, deadline, max_fds=1, senders=senders)
            while isinstance(answer, Compare) and not fds:
                send_message(sock, shapes_of(self._contract, answer))
                senders.clear()
                answer, fds = recv_message(sock, answer_decoder, deadline, max_fds=1, senders=senders)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
            if not isinstance(answer, Welcome):
                close_fds(fds)
                raise _refusal(answer)
            return self._welcomed(sock, answer, fds, deadline, link, senders[0])
        except ClosedError as e:
            with sock:
                raise hang_up(Peer.of(sock), str(e)) from None
        except TimeoutError as e:
            sock.close()
            if isinstance(e, DeadlineExceeded):
                raise
            raise DeadlineExceeded(f"{self.path}: nobody took the connection in time") from None
        except BaseException:
            sock.close()
            raise
        finally:
            if link is not None and not link.used:
                link.close()

    def _welcomed(
        self,
        sock: socket.socket,
        welcome: Welcome,
        fds: list[int],
        deadline: float,
        link: NotifyLink | None,
        server: int,
    ) -> Channel:
        pid = Liveness.of(sock, server)
        try:
            if welcome.version != VERSION:
                raise ProtocolError(
                    f"the server speaks version {welcome.version}, this side {VERSION}", pid.pid
                )
            if len(fds) != (self.transport == "window"):
                raise ProtocolError(f"{len(fds)} descriptors came with the welcome", pid.pid)
            if self.welcome and welcome.methods != self.welcome.methods:
                what = f"{self.path}: another server answers there now, with other methods: connect again"
                raise CallError(Status.FAILED_PRECONDITION, what)
            if self.transport == "socket":
                pid.close()
                frames = FrameSocket(sock, self._most(welcome), pid.pid, takes_fds=self._takes_fds)
                channel: Channel = SocketChannel(frames)
            else:
                window = PacketWindow.attach(fds.pop(), welcome.window)
                window.drop_fd()
                if link is not None:
                    link.sent()
                endpoint = Endpoint(
                    window,
                    Side.CLIENT,
                    peer=pid,
                    policy=self.policy,
                    switch=self.switch,
                    notify=link,
                    doorbell=sock,
                )
                channel = WindowChannel(endpoint, sock, self._most(welcome))
                try:
                    endpoint.connect(deadline_ns=int(deadline * 1e9))
                except BaseException:
                    endpoint.close()
                    raise
        except BaseException:
            close_fds(fds)
            pid.close()
            raise
        if self.welcome is None:
            self.welcome, self.peer_pid = welcome, pid.pid
        return channel

    def _most(self, welcome: Welcome) -> int:
        """The largest message, bytes: the smaller limit of both sides."""
        return min(welcome.message_max, self._message_max)


def _reach(sock: socket.socket, path: str, deadline: float) -> None:
    """Connect. A full backlog is waited for, which the kernel does not do for a socket with a timeout (EAGAIN)."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"{path}: nobody took the connection in time")
        sock.settimeout(left)
        try:
            return sock.connect(path)
        except BlockingIOError:
            time.sleep(min(left, _BACKLOG_PAUSE_S))
        except (ConnectionRefusedError, FileNotFoundError) as e:
            e.filename = path
            raise


def _refusal(answer: Refused | Compare) -> Exception:
    if isinstance(answer, Compare):
        return ProtocolError("a descriptor came with a question about methods")
    try:
        status = Status(answer.status)
    except ValueError:
        status = Status.UNKNOWN
    return CallError(status, answer.message)


def _after_fork() -> None:
    for connection in list(_clients):
        connection.pool.forget()


os.register_at_fork(after_in_child=_after_fork)
