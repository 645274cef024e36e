"""Server: one Unix socket, one event loop, which serves all channels.

start() ──► the loop watches the listener
              │ a connection: a thread of its own shakes hands, for that waits for the client
              ▼
            the loop watches the channel's bell (serving.py) ──► over: leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer; what is left after
             `grace` seconds is cut, and its tasks cancelled
"""

import asyncio
import os
import signal
import socket
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

from .._core import lib
from ..acceptor import Acceptor
from ..admission import HANDSHAKE_S, Admitted, refuse
from ..builtin import Builtins
from ..connection import cut, report
from ..errors import CallError, MisuseError
from ..health import HealthServer
from ..limits import Client, Places, client_of
from ..listener import Listener
from ..liveness import Peer
from ..meter import Counts
from ..policy import WaitPolicy
from ..server import Path, same_user
from ..service import Service
from ..stats import Observed, ServerStats
from ..status import Status
from ..switch import FUTEX
from .admission import LoopAdmission, LoopSessions
from .control import Control
from .gate import Gate
from .interceptor import ServerInterceptor
from .serving import LoopServing
from .thread import in_thread

Implementation = Service | Callable[[Peer], Service | Awaitable[Service]]

_LETTING_GO_S = 0.5  # for tasks that were cancelled, and handshakes that were cut

_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


class Server:
    """Serves an implementation at a Unix socket: start() and stop(), serve_forever(), or `async with`.

    implementation: as for flipcall.Server; its methods may be `async def`, which run as tasks, or plain, which are
    called in the loop and hold it meanwhile. A factory and on_disconnect() are called in the loop, too, and may be
    coroutines; authorize is called in a thread. A handler whose caller gave up, is gone, or whose deadline has
    passed is cancelled. interceptors: wrapped around each handler, the first outermost, with `async def`
    (flipcall.asyncio.interceptor); with some every handler has a task. Other options as for
    flipcall.Server. Clients connect over a window, of either kind.

    Raises MisuseError for what cannot be served.
    """

    def __init__(
        self,
        implementation: Implementation,
        path: Path,
        *,
        policy: WaitPolicy | None = None,
        window_max: int = 64 * 1024 * 1024,
        message_max: int = lib.FC_MESSAGE_DEFAULT,
        max_channels: int = 1024,
        max_channels_per_client: int | None = None,
        max_calls: int | None = None,
        authorize: Callable[[Peer], bool] = same_user,
        tracebacks: bool = False,
        statistics: bool = True,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        self.path = os.fspath(path)
        self._places = Places(max_channels, max_channels_per_client)
        gate = None if max_calls is None else Gate(max_calls)
        self._sessions = LoopSessions(implementation, tracebacks, gate, interceptors)  # type: ignore[arg-type]
        self._builtins = Builtins(self._sessions, self._observe, statistics)
        self._admission = LoopAdmission(
            self._sessions,
            self._builtins.sessions,
            policy=policy or WaitPolicy.balanced(),
            window_max=window_max,
            message_max=message_max,
            transports=("window",),
            authorize=authorize,
            switch=FUTEX,
            metered=statistics,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: Listener | None = None
        self._acceptor: Acceptor | None = None
        self._connections: set[_Connection] = set()
        self._stopping = False
        self._stop_asked = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        _servers.add(self)

    async def start(self) -> None:
        """Listen, and serve in the running loop. Raises OSError (path in use, not permitted), MisuseError."""
        if self._listener is not None or self._stopping:
            raise MisuseError("a server starts once")
        self._loop = self._sessions.loop = asyncio.get_running_loop()
        self._listener = Listener(self.path)
        self._acceptor = Acceptor(self._listener, self._taken)
        self._listen()

    async def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Idempotent.

        Called by a handler it returns at once: the server ends when that call has been answered.
        """
        self._stopping = True
        self._builtins.health.drain()
        self._stop_asked.set()
        if self._listener is None or self._loop is None:
            return
        if any(c.runs(asyncio.current_task()) for c in self._connections):
            self._stop_soon(grace)
            return
        self._close_listener()
        for connection in list(self._connections):
            connection.retire()
        await self._until_empty(grace)
        for connection in list(self._connections):
            connection.cut()
        await self._until_empty(_LETTING_GO_S)

    async def serve_forever(self, grace: float = 5.0) -> None:
        """Start, wait for request_stop() or to be cancelled, drain."""
        await self.start()
        try:
            await self._stop_asked.wait()
        finally:
            await self.stop(grace)

    def request_stop(self) -> None:
        """Make serve_forever() return, also one that has not begun. In the loop's thread."""
        self._stop_asked.set()

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._connections)

    @property
    def health(self) -> HealthServer:
        """What flipcall.health.Health tells is set here. Any thread."""
        return self._builtins.health

    def statistics(self) -> ServerStats:
        """What flipcall.stats.Statistics tells a client. Any thread."""
        return self._builtins.statistics.read()

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    # ---- connections ------------------------------------------------------------------------------------

    def _stop_soon(self, grace: float) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self.stop(grace))
        self._stopper = task  # the loop itself holds tasks weakly

    async def _until_empty(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def _parts(self) -> tuple[asyncio.AbstractEventLoop, Listener, Acceptor]:
        assert self._loop is not None
        assert self._listener is not None
        assert self._acceptor is not None
        return self._loop, self._listener, self._acceptor

    def _listen(self) -> None:
        loop, listener, _ = self._parts()
        if listener.socket.fileno() >= 0:
            loop.add_reader(listener.socket.fileno(), self._accept)

    def _accept(self) -> None:
        loop, listener, acceptor = self._parts()
        pause = acceptor.accept()
        if pause:
            loop.remove_reader(listener.socket.fileno())
            loop.call_later(pause, self._listen)

    def _close_listener(self) -> None:
        loop, listener, acceptor = self._parts()
        if listener.socket.fileno() >= 0:
            loop.remove_reader(listener.socket.fileno())
        listener.close()
        acceptor.close()

    def _taken(self, sock: socket.socket) -> None:
        """A client has connected."""
        assert self._loop is not None
        client = client_of(Peer.of(sock))
        try:
            self._places.take(client)
        except CallError as e:
            refuse(sock, e)
            sock.close()
            return
        connection = _Connection(self, Control(sock), client)
        self._connections.add(connection)
        self._empty.clear()
        try:
            in_thread(
                self._loop, "flipcall-handshake", connection.shake_hands, connection.begin, connection.refused
            )
        except BaseException as e:
            what = f"the server cannot serve one more: {e}"
            refuse(connection.socket, CallError(Status.RESOURCE_EXHAUSTED, what))
            connection.close()
            raise

    def _forked(self) -> None:
        """In a forked child: this server is the parent's. Close what was inherited, tell nobody, do no more."""
        connections, self._connections = self._connections, set()
        for connection in connections:
            connection.socket.close()
        if self._listener is not None and self._acceptor is not None:
            self._listener.disown()
            self._acceptor.close()
        self._listener = None
        self._stopping = True

    def _observe(self) -> list[Observed]:
        seen = (connection.observed() for connection in list(self._connections))
        return [one for one in seen if one is not None]

    def ended(self, connection: "_Connection") -> None:
        """A connection is over, and has given everything back."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._places.give(connection.client)
        if not self._connections:
            self._empty.set()


class _Connection:
    """A channel of the server, from the moment it is taken."""

    def __init__(self, server: Server, sock: Control, client: Client) -> None:
        self.socket = sock
        self.client = client
        self._server = server
        self._serving: LoopServing | None = None
        self._admitted: Admitted | None = None
        self._begun = False
        self._stopped = False

    def shake_hands(self) -> "_Connection":
        """In a thread of its own: everything that waits for the client, who may never come."""
        admission = self._server._admission
        self._admitted = admission.admit(self.socket)
        serving = self._admitted.serving
        assert isinstance(serving, LoopServing)
        self._serving = serving  # then look, as cut() stops, and then looks: one sees the other
        if self._stopped:
            serving.stop()
        serving.accept(time.monotonic_ns() + int(HANDSHAKE_S * 1e9))
        return self

    def begin(self, _: "_Connection") -> None:
        """Hands were shaken."""
        assert self._serving is not None
        assert self._admitted is not None
        self._begun = True
        try:
            self._serving.begin(self._admitted.life, self._over)
        except OSError as e:
            self.refused(e)
            return
        if self._server._stopping:
            self.retire()

    def refused(self, error: BaseException) -> None:
        """They were not."""
        if isinstance(error, Exception):
            report(error)
        self.close()

    def _over(self, error: Exception) -> None:
        report(error)
        self.close()

    def close(self) -> None:
        """Give everything back. Idempotent. Also called from the thread, when there is no loop any more."""
        admitted = self._admitted
        self._server._builtins.ledger.keep(self._end)
        if self._serving is not None:
            self._serving.close()
        if admitted is not None:
            admitted.life.close()
            admitted.session.home.leave(admitted.session)
        self.socket.close()
        self._server.ended(self)

    def _end(self) -> dict[str, Counts]:
        """Nobody observes it any more; what it has counted."""
        admitted, self._admitted = self._admitted, None
        return {} if admitted is None else admitted.counts(last=True)

    def observed(self) -> Observed | None:
        """What statistics tell of it: of the server's own services, not of the built-in ones."""
        admitted = self._admitted
        own = admitted is not None and admitted.session.home is self._server._sessions
        return admitted.observed() if own and admitted is not None else None

    def runs(self, task: "asyncio.Task[object] | None") -> bool:
        """Whether `task` is this channel's handler, or this channel runs the current code."""
        return self._serving is not None and self._serving.runs(task)

    def retire(self) -> None:
        """End it if no call is under way, else after that; none is while hands are shaken."""
        if self._begun and self._serving is not None:
            self._serving.retire()
        else:
            self.cut()

    def cut(self) -> None:
        """End it now."""
        self._stopped = True
        if self._begun and self._serving is not None:
            self._serving.cut()
            return
        cut(self.socket)
        if self._serving is not None:
            self._serving.stop()


def _after_fork() -> None:
    for server in list(_servers):
        server._forked()


os.register_at_fork(after_in_child=_after_fork)


async def serve(implementation: Implementation, path: Path, *, grace: float = 5.0, **options: object) -> None:
    """Serve until SIGTERM or SIGINT, then drain for up to `grace` seconds and return. In the main thread's loop.

    options: as for Server. Signal handlers are those of before afterwards.
    """
    server = Server(implementation, path, **options)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.getsignal(n) for n in numbers}
    for n in numbers:
        loop.add_signal_handler(n, server.request_stop)
    try:
        await server.serve_forever(grace)
    finally:
        for n in numbers:
            loop.remove_signal_handler(n)
            signal.signal(n, before[n])
