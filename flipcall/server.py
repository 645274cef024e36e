"""Server: one Unix socket, a thread a channel, and one thread that watches over them.

start() ──► watcher: accepts; sees hang-ups and deaths and condemns those channels (watcher.py)
              │ a thread a channel: handshake ──► serve until the channel ends ──► leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer;
             what is left after `grace` seconds is shut down
"""

import logging
import os
import queue
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from ._core import lib
from .admission import Admission, Admitted, refuse
from .builtin import Builtins
from .errors import CallError, FlipcallError, MisuseError, ProtocolError
from .interceptor import ServerInterceptor
from .listener import Listener
from .liveness import Peer
from .meter import Counts
from .policy import WaitPolicy
from .service import Service
from .serving import Serving
from .session import Implementation, Sessions
from .stats import Observed, ServerStats
from .status import Status
from .watcher import Watcher

Path = str | os.PathLike[str]

_DRAIN_TICK_S = 0.002
_LETTING_GO_S = 0.5  # for threads that were told to end

_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


def same_user(peer: Peer) -> bool:
    """The default of Server(authorize=): the server's own user, and root."""
    return peer.uid in (0, os.geteuid())


_log = logging.getLogger("flipcall")


class Server:
    """Serves an implementation at a Unix socket: start() and stop(), or serve_forever(), or `with`.

    implementation: a service all clients share (its methods run in many threads at once), or a callable that
    makes one for each client (Peer -> Service; its on_disconnect() is called when that client is gone).
    path: of the socket, made with mode 0600. policy, switch: how to wait, as for connect(). authorize: which
    peers may connect; by default the same user and root. window_max: bytes of window a client may ask for.
    message_max: bytes a request, a reply or an item of a stream may have. max_channels: connections at the same
    time; more are refused. tracebacks: send those of handlers to clients.
    stop_with_parent: stop when the process that started this one ends. statistics: count calls by method, some
    30 ns each (flipcall.stats). interceptors: wrapped around each handler, the first outermost
    (flipcall.interceptor).

    Beside the implementation's service it has built-in ones at the same socket: flipcall.health.Health (what it
    says is set through `health`), flipcall.reflection.Reflection, flipcall.stats.Statistics.

    Raises MisuseError for what cannot be served.
    """

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
        transports: Sequence[str] = ("window", "socket"),
        authorize: Callable[[Peer], bool] = same_user,
        tracebacks: bool = False,
        stop_with_parent: bool = False,
        statistics: bool = True,
        interceptors: Sequence[ServerInterceptor] = (),
    ) -> None:
        if message_max < lib.FC_WINDOW_MIN:
            raise MisuseError(f"message_max must be at least {lib.FC_WINDOW_MIN}, not {message_max}")
        if not isinstance(implementation, Service) and not callable(implementation):
            raise MisuseError(f"{implementation!r} is no service, nor makes one")
        self.path = os.fspath(path)
        self._max_channels = max_channels
        sessions = Sessions(implementation, tracebacks, tuple(interceptors))
        self._builtins = Builtins(sessions, self._observe, statistics)
        self.health = self._builtins.health
        self._admission = Admission(
            sessions,
            self._builtins.sessions,
            policy=policy or WaitPolicy.balanced(),
            window_max=window_max,
            message_max=message_max,
            transports=tuple(transports),
            authorize=authorize,
            switch=switch,
            metered=statistics,
        )
        self._stop_with_parent = stop_with_parent
        self._parent_pid = os.getppid()
        self._listener: Listener | None = None
        self._watcher: Watcher | None = None
        self._lock = threading.Lock()  # _connections
        self._connections: set[_Connection] = set()
        self._stopping = False
        # Not an Event: a signal handler that sets one deadlocks when it interrupts the thread that waits for it.
        self._requests: queue.SimpleQueue[None] = queue.SimpleQueue()
        _servers.add(self)

    def start(self) -> None:
        """Listen, and serve in the background. Raises OSError (path in use, not permitted), MisuseError."""
        if self._listener is not None or self._stopping:
            raise MisuseError("a server starts once")
        self._listener = Listener(self.path)
        try:
            self._watcher = Watcher(self._listener, self._taken, self._stop_soon)
            if self._stop_with_parent:
                self._watcher.watch_parent(self._parent_pid)
            self._watcher.start()
        except BaseException:
            self._listener.close()
            if self._watcher is not None:
                self._watcher.stop()
            raise

    def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Any thread, idempotent.

        Handlers that run on after that keep their (daemon) thread until they return; their answer is lost. Called
        by a handler it returns at once: the server ends when that call has been answered.
        """
        self._stopping = True
        self._requests.put(None)
        if self._listener is None or self._watcher is None:
            return
        if threading.current_thread() in {c.thread for c in self._live()}:
            self._stop_soon(grace)
            return
        self._listener.close()
        self.health.drain()
        deadline = time.monotonic() + grace
        while (left := self._live()) and time.monotonic() < deadline:
            # Built-in services go last: Health tells that the server drains.
            for connection in [c for c in left if not c.builtin] or left:
                connection.retire()
            time.sleep(_DRAIN_TICK_S)
        self._watcher.stop()  # from here on nobody comes any more
        left = self._live()
        for connection in left:
            connection.stop()
        deadline = time.monotonic() + _LETTING_GO_S
        for connection in left:
            connection.thread.join(max(0.0, deadline - time.monotonic()))

    def _stop_soon(self, grace: float = 5.0) -> None:
        threading.Thread(target=self.stop, args=(grace,), name="flipcall-stop", daemon=True).start()

    def serve_forever(self, grace: float = 5.0) -> None:
        """Start unless started, wait for request_stop() or the parent's end, drain."""
        if self._listener is None:
            self.start()
        try:
            self._requests.get()
        finally:
            self.stop(grace)

    def request_stop(self) -> None:
        """Make serve_forever() return, also one that has not begun. Any thread, and signal handlers."""
        self._requests.put(None)

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._live())

    def statistics(self) -> ServerStats:
        """What flipcall.stats.Statistics tells a client. Any thread."""
        return self._builtins.statistics.read()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    # ---- connections ------------------------------------------------------------------------------------

    def _live(self) -> list["_Connection"]:
        with self._lock:
            return list(self._connections)

    def _taken(self, sock: socket.socket) -> None:
        """A client has connected. Only the watcher calls this."""
        connection = _Connection(self, sock)
        with self._lock:
            full = len(self._connections) >= self._max_channels
            if not full and not self._stopping:
                self._connections.add(connection)
        if full or self._stopping:
            why = CallError(Status.RESOURCE_EXHAUSTED, f"all {self._max_channels} channels are in use")
            refuse(sock, CallError(Status.UNAVAILABLE, "the server is stopping") if self._stopping else why)
            self._ended(connection)
            return
        try:
            connection.thread.start()
        except BaseException:
            with self._lock:
                self._connections.discard(connection)
            raise

    def _serve(self, connection: "_Connection") -> None:
        """The whole life of a connection, in its thread."""
        assert self._watcher is not None
        try:
            admitted = self._admission.admit(connection.socket)
        except Exception as e:
            _report(e)
            return
        serving, session, life = admitted.serving, admitted.session, admitted.life
        try:
            connection.begin(admitted, builtin=session.home is not self._admission.sessions)
            self._watcher.add(connection, life)
            serving.serve()
        except Exception as e:
            _report(e)
        finally:
            if self._watcher is not None:  # else this is a handler's forked child, whose copy is nobody's
                self._watcher.remove(connection, life)
                self._builtins.ledger.keep(connection.end())
                serving.close()
                life.close()
                session.home.leave(session)

    def _observe(self) -> list[Observed]:
        """The channels of the server's own service, as Statistics tells of them."""
        return [seen for c in self._live() if not c.builtin and (seen := c.observe()) is not None]

    def _forked(self) -> None:
        """In a forked child: this server is the parent's. Close what was inherited, tell nobody, do no more."""
        self._lock = threading.Lock()  # its holder may be a thread that this process does not have
        connections, self._connections = self._connections, set()
        for connection in connections:
            connection.socket.close()
        if self._listener is not None and self._watcher is not None:
            self._listener.disown()
            self._watcher.disown()
        self._listener = self._watcher = None
        self._stopping = True

    def _ended(self, connection: "_Connection") -> None:
        connection.socket.close()
        with self._lock:
            self._connections.discard(connection)


class _Connection:
    """A channel of the server: its socket, its thread, and once hands were shaken what serves it."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.socket = sock
        self.thread = threading.Thread(target=self._run, name="flipcall-channel", daemon=True)
        self._server = server
        self._lock = threading.Lock()
        self._serving: Serving | None = None
        self._admitted: Admitted | None = None
        self._stopped = False
        self.builtin = False

    def _run(self) -> None:
        try:
            self._server._serve(self)
        finally:
            self._server._ended(self)

    def begin(self, admitted: Admitted, builtin: bool) -> None:
        with self._lock:
            self._admitted, self._serving = admitted, admitted.serving
            self.builtin = builtin
            if self._stopped:
                self._serving.stop()

    def observe(self) -> Observed | None:
        """The channel seen from outside; None before its beginning and after its end. Any thread."""
        with self._lock:
            return None if self._admitted is None else self._admitted.observed()

    def end(self) -> dict[str, Counts]:
        """Nobody observes it any more; what it has counted. Its thread, after serve()."""
        with self._lock:
            admitted, self._admitted = self._admitted, None
            return {} if admitted is None else admitted.counts(last=True)

    def retire(self) -> None:
        """End it if no call is under way; none is while hands are shaken."""
        with self._lock:
            if self._serving is not None:
                self._serving.retire()
            else:
                self._stopped = True
                _hang_up(self.socket)

    def stop(self) -> None:
        """End it now."""
        with self._lock:
            self._stopped = True
            if self._serving is not None:
                self._serving.stop()
            else:
                _hang_up(self.socket)  # still shaking hands

    def condemn(self) -> None:
        """Its client is gone."""
        with self._lock:
            if self._serving is not None:
                self._serving.condemn()


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has gone already


def _report(error: Exception) -> None:
    """A channel that ended because its client broke the rules is worth a line, and one that this side's code
    broke a traceback; other ends are ordinary.
    """
    if isinstance(error, ProtocolError):
        _log.warning("a channel was closed: %s", str(error))  # a kept record would keep the window, too
    elif not isinstance(error, (FlipcallError, OSError)):
        _log.error("a channel was closed by an error of this side", exc_info=error)


def _after_fork() -> None:
    for server in list(_servers):
        server._forked()


os.register_at_fork(after_in_child=_after_fork)


def serve(
    implementation: Implementation,
    path: Path,
    *,
    grace: float = 5.0,
    ready: Callable[[], None] | None = None,
    **options: object,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain for up to `grace` seconds and return. Main thread only.

    ready: called once when it listens. options: as for Server. Signal handlers are those of before afterwards.
    """
    server = Server(implementation, path, **options)  # type: ignore[arg-type]

    def on_signal(number: int, frame: FrameType | None) -> None:
        server.request_stop()

    before = {n: signal.signal(n, on_signal) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.start()
        if ready is not None:
            ready()
        server.serve_forever(grace)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
