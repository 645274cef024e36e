"""Server: flipcall.server in an event loop, which serves all channels (floor.py); or, with workers=N, N processes
with a loop each, to which a front hands connections out (flipcall.front).
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from types import TracebackType

from .._core import lib
from ..front import Front
from ..host import Host, Path
from ..limits import room_for
from ..liveness import Peer
from ..options import check, checked
from ..policy import WaitPolicy
from ..switch import FUTEX
from ..terms import Terms, same_user
from ..workers import StartMethod
from .floor import Floor, Implementation, work
from .interceptor import ServerInterceptor
from .waits import loop_waits


class Server(Host):
    """Serves an implementation at a Unix socket: start() and stop(), serve_forever(), or `async with`.

    implementation: as for flipcall.Server; its methods may be `async def`, which run as tasks, or plain, which are
    called in the loop and hold it meanwhile. A factory and on_disconnect() are called in the loop, too, and may be
    coroutines; authorize is called in a thread. A handler whose caller gave up, is gone, or whose deadline has
    passed is cancelled. interceptors: wrapped around each handler, the first outermost, with `async def`
    (flipcall.asyncio.interceptor); with some every handler has a task. Other options as for
    flipcall.Server, but that neither `switch` (None, or "futex") nor the policy's placement can be chosen: a loop
    sleeps for all its clients at once. Clients may be of either kind.

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
        switch: str | None = None,
        window_max: int = 64 * 1024 * 1024,
        message_max: int = lib.FC_MESSAGE_DEFAULT,
        max_channels: int = 1024,
        max_channels_per_client: int | None = None,
        max_calls: int | None = None,
        workers: int = 0,
        start_method: StartMethod = "spawn",
        transports: Sequence[str] = ("window", "socket"),
        authorize: Callable[[Peer], bool] = same_user,
        tracebacks: bool = False,
        stop_with_parent: bool = False,
        statistics: bool = True,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        terms = Terms(
            policy=loop_waits(policy, switch),
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
        super().__init__(path, self._inside, max_channels, stop_with_parent)
        self._stop_asked = asyncio.Event()

    async def start(self) -> None:
        """Listen, and serve in the running loop, or with workers. Raises OSError (path in use, not permitted),
        MisuseError (a worker cannot be started, too).
        """
        self.listen()
        assert self._listener is not None
        self._begun = True
        loop, listener, parent = asyncio.get_running_loop(), self._listener, self._parent
        if isinstance(self._inside, Floor):
            self._inside.start(listener, self._stop_soon, parent)
            return

        def orphaned() -> None:
            try:
                loop.call_soon_threadsafe(self._stop_soon)
            except RuntimeError:
                pass  # the loop is closed

        started = loop.run_in_executor(None, self._inside.start, listener, orphaned, parent)
        try:
            await asyncio.shield(started)
        except asyncio.CancelledError:
            await asyncio.wait([started])  # a start cannot be broken off in the middle
            await self.stop(0.0)
            raise

    def _stop_soon(self) -> None:
        self._stopper = asyncio.get_running_loop().create_task(
            self.stop()
        )  # the loop itself holds tasks weakly

    async def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Idempotent.

        Called by a handler it returns at once: the server ends when that call has been answered.
        """
        check(grace=grace)
        self._stopping = True
        self._stop_asked.set()
        if not self._begun:
            if self._listener is not None:
                self._listener.close()
        elif isinstance(self._inside, Floor):
            await self._inside.stop(grace)
        else:
            await asyncio.get_running_loop().run_in_executor(None, self._inside.stop, grace)

    async def serve_forever(self, grace: float = 5.0, ready: Callable[[], None] | None = None) -> None:
        """Start, call ready() once it serves, wait for request_stop(), the parent's end or cancellation, drain."""
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
