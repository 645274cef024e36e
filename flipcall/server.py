"""Server: one Unix socket, a thread a channel, and one thread that watches over them.

With workers=N the threads are in N processes, and this one hands connections out (workers.py).

start() ──► watcher: accepts; sees hang-ups and deaths and condemns those channels (watcher.py)
              │ a thread a channel: handshake ──► serve until the channel ends ──► leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer;
             what is left after `grace` seconds is shut down
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn

from ._core import lib
from .admission import Admission
from .builtin import Builtins
from .connection import Connections
from .errors import ForkedError, MisuseError
from .front import Front
from .handover import Handover
from .health import HealthServer
from .interceptor import ServerInterceptor
from .limits import Gate, Places, room_for
from .listener import Listener, Source
from .liveness import Peer
from .method import encode
from .options import check, checked
from .policy import WaitPolicy
from .service import Service
from .session import Implementation, Sessions
from .stats import ServerStats, of_workers
from .switch import NOTIFY
from .watcher import Watcher
from .workers import Crew, StartMethod

Path = str | os.PathLike[str]

_SIGNAL_S = 1.0

_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


def same_user(peer: Peer) -> bool:
    """The default of Server(authorize=): the server's own user, and root."""
    return peer.uid in (0, os.geteuid())


class Server:
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
        _alone: bool = True,
    ) -> None:
        self.path = os.fspath(path)
        self._places = Places(max_channels, max_channels_per_client)
        gate = None if max_calls is None else Gate(max_calls)
        sessions = Sessions(implementation, tracebacks, gate, tuple(interceptors))
        self._builtins = Builtins(sessions, lambda: self._connections.observe(), statistics)
        admission = Admission(
            sessions,
            self._builtins.sessions,
            policy=policy or WaitPolicy.balanced(),
            window_max=window_max,
            message_max=message_max,
            transports=tuple(transports),
            authorize=authorize,
            switch=switch,
            metered=statistics,
            alone=_alone,
        )
        self._connections = Connections(admission, self._builtins.ledger, self._places)
        self._front: Front | None = None
        if workers:
            if switch == NOTIFY:
                raise MisuseError("the switch notify wants one server process: it cannot have workers")
            options = {
                "policy": policy, "switch": switch, "window_max": window_max, "message_max": message_max,
                "max_channels": max_channels,
                "max_calls": max_calls, "transports": transports, "authorize": authorize,
                "tracebacks": tracebacks, "statistics": statistics, "interceptors": interceptors,
                "_alone": False,
            }  # fmt: skip
            recipe, sticky = (implementation, self.path, options), not isinstance(implementation, Service)
            self._front = Front(Crew(workers, start_method, _work, recipe, self._places, sticky))
        self._stop_with_parent = stop_with_parent
        self._parent_pid = os.getppid()
        self._max_channels = max_channels
        self._listener: Source | None = None
        self._watcher: Watcher | None = None
        self._begun = False
        self._stopping = False
        self._inherited = False
        # Not an Event: a signal handler that sets one deadlocks when it interrupts the thread that waits for it.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        _servers.add(self)

    def start(self) -> None:
        """Listen, and serve in the background; workers serve when it returns. Raises OSError (path in use, not
        permitted), MisuseError (a worker cannot be started, too).
        """
        self.listen()
        assert self._listener is not None
        self._begin(self._listener)

    def listen(self) -> None:
        """Make the socket; clients can connect, and wait for start(), which else does this itself. For a program
        that afterwards confines itself to what its handlers need. Idempotent. Raises OSError as start() does.
        """
        if self._inherited:
            raise ForkedError("this server is the parent process's: make one after fork()")
        if self._begun or self._stopping:
            raise MisuseError("a server starts once")
        if self._listener is None:
            self._listener = Listener(self.path)

    def _begin(self, source: Source) -> None:
        self._listener, self._begun = source, True
        parent = self._parent_pid if self._stop_with_parent else None
        if self._front is not None:
            self._front.start(source, self._stop_soon, parent)
            return
        try:
            self._watcher = Watcher(source, self._connections.take, self._stop_soon, contextlib.nullcontext())
            self._connections.attend(source, self._watcher)
            if parent is not None:
                self._watcher.watch_parent(parent)
            self._watcher.start()
        except BaseException:
            source.close()
            if self._watcher is not None:
                self._watcher.stop()
            raise

    def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Any thread, idempotent.

        Handlers that run on after that keep their (daemon) thread until they return; their answer is lost. Called
        by a handler it returns at once: the server ends when that call has been answered.
        """
        check(grace=grace)
        self._stopping = True
        self._requests.put(None)
        if not self._begun or self._listener is None:
            if self._listener is not None:
                self._listener.close()
            return
        if self._front is not None:
            self._front.stop(grace)
            return
        assert self._watcher is not None
        if self._connections.serves_here():
            self._stop_soon(grace)
            return
        self._listener.close()
        self._builtins.health.drain()
        self._connections.drain(grace)
        self._watcher.stop()  # from here on nobody comes any more
        self._connections.end()

    def _stop_soon(self, grace: float = 5.0) -> None:
        threading.Thread(target=self.stop, args=(grace,), name="flipcall-stop", daemon=True).start()

    def serve_forever(self, grace: float = 5.0, ready: Callable[[], None] | None = None) -> None:
        """Start, call ready() once it serves, wait for request_stop() or the parent's end, drain."""
        check(grace=grace, ready=ready)
        self.start()
        try:
            if ready is not None:
                ready()
            self._until_requested()
        finally:
            self.stop(grace)

    def _until_requested(self) -> None:
        """Wait for request_stop(). Not in one go: a signal that arrives when the interpreter has looked for
        signals and does not sleep yet (milliseconds, if other threads want to run) wakes nobody, and its handler,
        which calls request_stop(), would never run.
        """
        while True:
            try:
                self._requests.get(timeout=_SIGNAL_S)
            except queue.Empty:
                continue
            return

    def request_stop(self) -> None:
        """Make serve_forever() return, also one that has not begun. Any thread, and signal handlers."""
        self._requests.put(None)

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._connections.live()) if self._front is None else self._front.crew.channels

    @property
    def workers(self) -> list[int]:
        """The worker processes that serve or are about to, by pid; none where this process serves itself."""
        return [] if self._front is None else self._front.crew.pids

    def __reduce__(self) -> NoReturn:
        raise MisuseError("a server cannot be sent to another process: make one there, or ask for workers")

    @property
    def health(self) -> HealthServer:
        """What flipcall.health.Health tells is set here. Raises MisuseError with workers."""
        if self._front is not None:
            raise MisuseError("health is each worker's own, out of reach of this process")
        return self._builtins.health

    def statistics(self) -> ServerStats:
        """What flipcall.stats.Statistics tells a client. Any thread. Raises CallError (UNAVAILABLE) when there are
        to be workers, and none is there to tell.
        """
        if self._front is None:
            return self._builtins.statistics.read()
        return of_workers(os.getpid(), self._front.crew.ask())

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def _forked(self) -> None:
        """In a forked child: this server is the parent's. Close what was inherited, tell nobody, do no more. One
        that has not begun is as much the child's as the parent's.
        """
        if self._listener is None:
            return
        self._connections.disown()
        self._listener.disown()
        if self._watcher is not None:
            self._watcher.disown()
        if self._front is not None:
            self._front.disown()
        self._listener = self._watcher = None
        self._inherited = self._stopping = True

    def _work(self, lane: socket.socket) -> None:
        """A worker's life: serve the connections that come over `lane`."""
        grace = 5.0

        def told_to_stop(asked: float | None) -> None:
            nonlocal grace
            grace = grace if asked is None else asked
            self.request_stop()

        statistics = self._builtins.statistics
        dispatcher = multiprocessing.parent_process()
        assert dispatcher is not None
        pid = dispatcher.pid or 0
        handover = Handover(lane, told_to_stop, lambda: encode(statistics.own()))
        statistics.whole = lambda own: of_workers(pid, handover.ask(), own)
        room_for(self._max_channels)
        self._begin(handover)
        handover.ready()
        self._until_requested()
        handover.leave()
        self.stop(grace)


def _after_fork() -> None:
    for server in list(_servers):
        server._forked()


os.register_at_fork(after_in_child=_after_fork)


def _work(lane: socket.socket, implementation: Implementation, path: str, options: dict[str, Any]) -> None:
    """What a worker process runs. Ctrl-C reaches all processes of a terminal: the dispatcher says what follows."""
    server = Server(implementation, path, **options)

    def on_signal(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            server.request_stop()

    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)  # and not SIG_IGN, which programs that handlers start would inherit
    server._work(lane)


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

    def on_signal(number: int, frame: FrameType | None) -> None:
        server.request_stop()

    before = {n: signal.signal(n, on_signal) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.serve_forever(grace, ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
