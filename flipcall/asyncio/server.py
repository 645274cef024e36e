"""Server: one Unix socket, one event loop, which serves all channels.

start() ──► the loop watches the listener
              │ a connection: a thread of its own shakes hands, for that waits for the client
              ▼
            the loop watches the channel's bell (serving.py) ──► over: leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer; what is left after
             `grace` seconds is cut, and its tasks cancelled
"""

import asyncio
import multiprocessing
import os
import signal
import socket
import weakref
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any

from .._core import lib
from ..builtin import Builtins
from ..errors import MisuseError
from ..front import Front
from ..health import HealthServer
from ..limits import Places, room_for
from ..listener import Listener, Source
from ..liveness import Peer
from ..method import encode
from ..options import check, checked
from ..policy import WaitPolicy
from ..server import Path, same_user
from ..service import Service
from ..stats import ServerStats, of_workers
from ..switch import FUTEX
from ..workers import Crew, StartMethod
from .acceptor import Acceptor
from .admission import LoopAdmission, LoopSessions
from .connection import Connections
from .gate import Gate
from .handover import Handover
from .health import HealthServer as LoopHealth
from .interceptor import ServerInterceptor

Implementation = Service | Callable[[Peer], Service | Awaitable[Service]]

_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


class Server:
    """Serves an implementation at a Unix socket: start() and stop(), serve_forever(), or `async with`.

    implementation: as for flipcall.Server; its methods may be `async def`, which run as tasks, or plain, which are
    called in the loop and hold it meanwhile. A factory and on_disconnect() are called in the loop, too, and may be
    coroutines; authorize is called in a thread. A handler whose caller gave up, is gone, or whose deadline has
    passed is cancelled. interceptors: wrapped around each handler, the first outermost, with `async def`
    (flipcall.asyncio.interceptor); with some every handler has a task. Other options as for
    flipcall.Server. Clients connect over a window, of either kind.

    workers: so many processes, each with a loop of its own (of asyncio.run(), by the policy that is set there).
    start() returns when they serve; this loop takes no part in it.

    Raises MisuseError for what cannot be served.
    """

    @checked(loop=True)
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
        workers: int = 0,
        start_method: StartMethod = "spawn",
        statistics: bool = True,
        interceptors: Sequence[ServerInterceptor] = (),
        _alone: bool = True,
    ) -> None:
        self.path = os.fspath(path)
        self._places = Places(max_channels, max_channels_per_client)
        gate = None if max_calls is None else Gate(max_calls)
        self._sessions = LoopSessions(implementation, tracebacks, gate, interceptors)  # type: ignore[arg-type]
        self._builtins = Builtins(self._sessions, lambda: self._connections.observe(), statistics, LoopHealth)
        admission = LoopAdmission(
            self._sessions,
            self._builtins.sessions,
            policy=policy or WaitPolicy.balanced(),
            window_max=window_max,
            message_max=message_max,
            transports=("window",),
            authorize=authorize,
            switch=FUTEX,
            metered=statistics,
            alone=_alone,
        )
        self._connections = Connections(admission, self._builtins.ledger, self._places)
        self._front: Front | None = None
        if workers:
            options = {
                "policy": policy, "window_max": window_max, "message_max": message_max,
                "max_channels": max_channels, "max_calls": max_calls, "authorize": authorize,
                "tracebacks": tracebacks, "statistics": statistics, "interceptors": interceptors,
                "_alone": False,
            }  # fmt: skip
            recipe, sticky = (implementation, self.path, options), not isinstance(implementation, Service)
            self._front = Front(Crew(workers, start_method, _work, recipe, self._places, sticky))
        self._max_channels = max_channels
        self._source: Source | None = None
        self._acceptor: Acceptor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._stop_asked = asyncio.Event()
        _servers.add(self)

    async def start(self) -> None:
        """Listen, and serve in the running loop, or with workers. Raises OSError (path in use, not permitted),
        MisuseError (a worker cannot be started, too).
        """
        if self._source is not None or self._stopping:
            raise MisuseError("a server starts once")
        self._loop = asyncio.get_running_loop()
        listener = Listener(self.path)
        if self._front is None:
            self._begin(listener)
            return
        self._source = listener
        started = self._loop.run_in_executor(None, self._front.start, listener, lambda: None, None)
        try:
            await asyncio.shield(started)
        except asyncio.CancelledError:
            await asyncio.wait([started])  # a start cannot be broken off in the middle
            await self.stop(0.0)
            raise

    def _begin(self, source: Source) -> None:
        self._source = source
        self._loop = self._sessions.loop = asyncio.get_running_loop()
        self._connections.attend(source, self._loop)
        self._acceptor = Acceptor(self._loop, source, self._connections.take)

    async def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Idempotent.

        Called by a handler it returns at once: the server ends when that call has been answered.
        """
        check(grace=grace)
        self._stopping = True
        self._stop_asked.set()
        if self._source is None or self._loop is None:
            return
        if self._front is not None:
            await self._loop.run_in_executor(None, self._front.stop, grace)
            return
        self._builtins.health.drain()
        if self._connections.serves_here():
            self._stopper = self._loop.create_task(self.stop(grace))  # the loop itself holds tasks weakly
            return
        if self._acceptor is not None:
            self._acceptor.close()
        self._source.close()
        await self._connections.drain(grace)

    async def serve_forever(self, grace: float = 5.0, ready: Callable[[], None] | None = None) -> None:
        """Start, call ready() once it serves, wait for request_stop() or to be cancelled, drain."""
        check(grace=grace, ready=ready)
        await self.start()
        try:
            if ready is not None:
                ready()
            await self._stop_asked.wait()
        finally:
            await self.stop(grace)

    def request_stop(self) -> None:
        """Make serve_forever() return, also one that has not begun. In the loop's thread."""
        self._stop_asked.set()

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._connections) if self._front is None else self._front.crew.channels

    @property
    def workers(self) -> list[int]:
        """See flipcall.Server.workers."""
        return [] if self._front is None else self._front.crew.pids

    @property
    def health(self) -> HealthServer:
        """What flipcall.health.Health tells is set here. Any thread. Raises MisuseError with workers."""
        if self._front is not None:
            raise MisuseError("health is each worker's own, out of reach of this process")
        return self._builtins.health

    def statistics(self) -> ServerStats:
        """What flipcall.stats.Statistics tells a client. Any thread; with workers it waits for them, up to two
        seconds, and raises CallError (UNAVAILABLE) when there is none to tell.
        """
        return (
            self._builtins.statistics.read()
            if self._front is None
            else of_workers(os.getpid(), self._front.crew.ask())
        )

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    def _forked(self) -> None:
        """In a forked child: this server is the parent's. Close what was inherited, tell nobody, do no more. One
        that has not begun is as much the child's as the parent's.
        """
        if self._source is None:
            return
        self._connections.disown()
        self._source.disown()
        if self._acceptor is not None:
            self._acceptor.disown()
        if self._front is not None:
            self._front.disown()
        self._source = None
        self._stopping = True

    async def _work(self, lane: socket.socket) -> None:
        """A worker's life: serve the connections that come over `lane`."""
        loop = asyncio.get_running_loop()
        grace = 5.0

        def told_to_stop(asked: float | None) -> None:
            nonlocal grace
            grace = grace if asked is None else asked
            self.request_stop()

        statistics = self._builtins.statistics
        handover = Handover(lane, told_to_stop, lambda: encode(statistics.own()), loop)

        dispatcher = multiprocessing.parent_process()
        assert dispatcher is not None
        pid = dispatcher.pid or 0

        async def whole(own: ServerStats) -> ServerStats:
            return of_workers(pid, await loop.run_in_executor(None, handover.ask), own)

        statistics.whole = whole  # type: ignore[assignment]  # a coroutine is awaited here, as any handler's
        for number, meant in (signal.SIGTERM, self.request_stop), (signal.SIGINT, lambda: None):
            loop.add_signal_handler(number, meant)
        room_for(self._max_channels)
        self._begin(handover)
        handover.ready()
        await self._stop_asked.wait()
        await loop.run_in_executor(None, handover.leave)
        self._builtins.health.drain()
        await self._connections.drain(grace)  # the others' questions are answered meanwhile


def _work(lane: socket.socket, implementation: Implementation, path: str, options: dict[str, Any]) -> None:
    """What a worker process runs. Ctrl-C reaches all processes of a terminal: the dispatcher says what follows."""

    async def work() -> None:
        await Server(implementation, path, **options)._work(lane)

    asyncio.run(work())


def _after_fork() -> None:
    for server in list(_servers):
        server._forked()


os.register_at_fork(after_in_child=_after_fork)


async def serve(
    implementation: Implementation,
    path: Path,
    *,
    grace: float = 5.0,
    ready: Callable[[], None] | None = None,
    **options: object,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain for up to `grace` seconds and return. In the main thread's loop.

    ready: called once when it serves. options: as for Server. Signal handlers are those of before afterwards. The
    limit of open descriptors is raised as by flipcall.serve().
    """
    check(grace=grace, ready=ready)
    server = Server(implementation, path, **options)  # type: ignore[arg-type]
    room_for(server._max_channels)
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.getsignal(n) for n in numbers}
    for n in numbers:
        loop.add_signal_handler(n, server.request_stop)
    try:
        await server.serve_forever(grace, ready)
    finally:
        for n in numbers:
            loop.remove_signal_handler(n)
            signal.signal(n, before[n])
