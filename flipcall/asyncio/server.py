"""Server: flipcall.server in an event loop, which serves all channels (floor.py); or, with workers=N, N processes
with a loop each, to which a front hands connections out (flipcall.front).
"""

import asyncio
import os
import signal
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType

from .._core import lib
from ..errors import MisuseError
from ..front import Front
from ..limits import room_for
from ..listener import Listener
from ..liveness import Peer
from ..options import check, checked
from ..overview import Overview
from ..policy import WaitPolicy
from ..server import Path
from ..switch import FUTEX
from ..terms import Terms, same_user
from ..workers import StartMethod
from .floor import Floor, Implementation, work
from .interceptor import ServerInterceptor

_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


class Server(Overview):
    """Serves an implementation at a Unix socket: start() and stop(), serve_forever(), or `async with`.

    implementation: as for flipcall.Server; its methods may be `async def`, which run as tasks, or plain, which are
    called in the loop and hold it meanwhile. A factory and on_disconnect() are called in the loop, too, and may be
    coroutines; authorize is called in a thread. A handler whose caller gave up, is gone, or whose deadline has
    passed is cancelled. interceptors: wrapped around each handler, the first outermost, with `async def`
    (flipcall.asyncio.interceptor); with some every handler has a task. Other options as for
    flipcall.Server. Clients may be of either kind.

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
        transports: Sequence[str] = ("window", "socket"),
        authorize: Callable[[Peer], bool] = same_user,
        tracebacks: bool = False,
        workers: int = 0,
        start_method: StartMethod = "spawn",
        statistics: bool = True,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        self.path = os.fspath(path)
        terms = Terms(
            policy=policy or WaitPolicy.balanced(),
            switch=FUTEX,
            window_max=window_max,
            message_max=message_max,
            max_channels=max_channels,
            max_channels_per_client=max_channels_per_client,
            max_calls=max_calls,
            transports=tuple(transports),
            authorize=authorize,
            tracebacks=tracebacks,
            statistics=statistics,
            interceptors=tuple(interceptors),
        )
        # With workers, too: what cannot be served is told here.
        self._inside: Floor | Front = Floor(implementation, terms)
        if workers:
            self._inside = Front(workers, start_method, work, implementation, terms)
        super().__init__(self._inside)
        self._max_channels = max_channels
        self._listener: Listener | None = None
        self._stopping = False
        self._stop_asked = asyncio.Event()
        _servers.add(self)

    async def start(self) -> None:
        """Listen, and serve in the running loop, or with workers. Raises OSError (path in use, not permitted),
        MisuseError (a worker cannot be started, too).
        """
        if self._listener is not None or self._stopping:
            raise MisuseError("a server starts once")
        self._listener = listener = Listener(self.path)
        if isinstance(self._inside, Floor):
            self._inside.start(listener)
            return
        loop = asyncio.get_running_loop()
        started = loop.run_in_executor(None, self._inside.start, listener, lambda: None, None)
        try:
            await asyncio.shield(started)
        except asyncio.CancelledError:
            await asyncio.wait([started])  # a start cannot be broken off in the middle
            await self.stop(0.0)
            raise

    async def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Idempotent.

        Called by a handler it returns at once: the server ends when that call has been answered.
        """
        check(grace=grace)
        self._stopping = True
        self._stop_asked.set()
        if self._listener is None:
            return
        if isinstance(self._inside, Floor):
            await self._inside.stop(grace)
        else:
            await asyncio.get_running_loop().run_in_executor(None, self._inside.stop, grace)

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
        if self._listener is None:
            return
        self._listener.disown()
        self._inside.disown()
        self._listener = None
        self._stopping = True


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
