"""Server: one Unix socket, and behind it the floor where calls are served (floor.py); or, with workers=N, a front
that hands connections out to N processes, each with a floor of its own (front.py, workers.py).
"""

import signal
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from ._core import lib
from .errors import MisuseError
from .floor import Floor, work
from .front import Front
from .host import Host, Path
from .interceptor import ServerInterceptor
from .limits import room_for
from .liveness import Peer
from .options import check, checked
from .policy import WaitPolicy
from .session import Implementation
from .stopping import StopRequest, called_on
from .switch import NOTIFY
from .terms import Terms, same_user
from .workers import StartMethod


class Server(Host):
    """Serves an implementation at a Unix socket: start() and stop(), or serve_forever(), or `with`.

    implementation: a service all clients share (its methods run in many threads at once), or a callable that
    makes one for each client (Peer -> Service; its on_disconnect() is called when that client is gone).
    path: of the socket, made with mode 0600. policy, switch: how to wait, as for connect(). authorize: which
    peers may connect; by default the same user and root. window_max: bytes of window a client may ask for.
    message_max: bytes a request, a reply or an item of a stream may have. max_channels, max_channels_per_client:
    connections at the same time, in all and of one process (None: as many as in all). max_calls: calls served at
    the same time by one process (None: as many as channels). What is beyond gets RESOURCE_EXHAUSTED. tracebacks:
    send those of handlers to clients. stop_with_parent: stop when the process that started this one ends.
    statistics: count calls by method, some 30 ns each (flipcall.stats). interceptors: wrapped around each handler,
    the first outermost (flipcall.interceptor).

    workers: 0 serves in this process. More serve in so many processes of their own, which are replaced when they
    end, drained by stop(), and end with this process. start_method: of multiprocessing, which must bring the
    implementation (with "spawn" and "forkserver": by pickle, so a factory is a function or class of a module) and
    the options into them, and asks the program for its `if __name__ == "__main__"`. "fork" needs neither, but
    copies a process in whatever state its other threads are. A client whose worker has ended gets PeerDiedError or
    ClosedError, and its next call a channel to another one; where each client has its own implementation, it
    connects anew.

    Beside the implementation's service there are built-in ones at the same socket: flipcall.health.Health (what it
    says is set through `health`), flipcall.reflection.Reflection, flipcall.stats.Statistics (of all
    workers; health is each worker's own).

    Raises MisuseError for what cannot be served.
    """

    @checked()
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
            policy=policy or WaitPolicy.balanced(),
            switch=switch,
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
        if workers and switch == NOTIFY:
            raise MisuseError("the switch notify wants one server process: it cannot have workers")
        # With workers, too: what cannot be served is told here.
        self._inside: Floor | Front = Floor(implementation, terms)
        if workers:
            self._inside = Front(workers, start_method, work, implementation, terms)
        super().__init__(path, self._inside, max_channels, stop_with_parent)
        self._asked = StopRequest()

    def start(self) -> None:
        """Listen, and serve in the background; workers serve when it returns. Raises OSError (path in use, not
        permitted), MisuseError (a worker cannot be started, too).
        """
        self.listen()
        assert self._listener is not None
        self._begun = True
        self._inside.start(self._listener, self._stop_soon, self._parent)

    def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Any thread, idempotent.

        Handlers that run on after that keep their (daemon) thread until they return; their answer is lost. Called
        by a handler it returns at once: the server ends when that call has been answered.
        """
        check(grace=grace)
        self._stopping = True
        self._asked.make()
        if self._begun:
            self._inside.stop(grace)
        elif self._listener is not None:
            self._listener.close()

    def _stop_soon(self) -> None:
        threading.Thread(target=self.stop, name="flipcall-stop", daemon=True).start()

    def serve_forever(self, grace: float = 5.0, ready: Callable[[], None] | None = None) -> None:
        """Start, call ready() once it serves, wait for request_stop() or the parent's end, drain."""
        check(grace=grace, ready=ready)
        self.start()
        try:
            if ready is not None:
                ready()
            self._asked.wait()
        finally:
            self.stop(grace)

    def request_stop(self) -> None:
        """Make serve_forever() return, also one that has not begun. Any thread, and signal handlers."""
        self._asked.make()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()


def serve(
    implementation: Implementation,
    path: Path,
    *,
    grace: float = 5.0,
    ready: Callable[[], None] | None = None,
    **options: object,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain for up to `grace` seconds and return. Main thread only.

    ready: called once when it serves. options: as for Server. Signal handlers are those of before afterwards. The
    limit of open descriptors is raised to what max_channels needs (three each), as far as the hard limit allows.
    """
    check(grace=grace, ready=ready)
    server = Server(implementation, path, **options)  # type: ignore[arg-type]
    room_for(server._max_channels)
    with called_on((signal.SIGTERM, signal.SIGINT), server.request_stop):
        server.serve_forever(grace, ready)
