"""Server: one Unix socket, a thread a channel, and one thread that watches over them.

start() ──► watcher: accepts; sees hang-ups and deaths (epoll) and condemns those channels
              │ a thread a channel: handshake ──► serve until the channel ends ──► leave
stop(grace): no more connections; idle channels retire at once, busy ones after their answer;
             what is left after `grace` seconds is shut down
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

from .admission import Admission, refuse
from .errors import CallError, FlipcallError, MisuseError, ProtocolError
from .listener import Listener
from .liveness import Liveness, Peer
from .policy import WaitPolicy
from .serving import Serving
from .session import Implementation, Sessions
from .status import Status

Path = str | os.PathLike[str]

_DRAIN_TICK_S = 0.002
_ACCEPT_PAUSE_S = 0.05  # out of descriptors: let some be closed before the next attempt
_HANG_UP = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


def same_user(peer: Peer) -> bool:
    """The default of Server(authorize=): the server's own user, and root."""
    return peer.uid in (0, os.geteuid())


class Server:
    """Serves an implementation at a Unix socket: start() and stop(), or serve_forever(), or `with`.

    implementation: a service all clients share (its methods run in many threads at once), or a callable that
    makes one for each client (Peer -> Service; its on_disconnect() is called when that client is gone).
    path: of the socket, made with mode 0600. policy, switch: how to wait, as for connect(). authorize: which
    peers may connect; by default the same user and root. window_max: bytes of window a client may ask for.
    max_channels: connections at the same time; more are refused. tracebacks: send those of handlers to clients.
    stop_with_parent: stop when the process that started this one ends.

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
        max_channels: int = 1024,
        transports: Sequence[str] = ("window", "socket"),
        authorize: Callable[[Peer], bool] = same_user,
        tracebacks: bool = False,
        stop_with_parent: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self._max_channels = max_channels
        self._admission = Admission(
            Sessions(implementation, tracebacks),
            policy=policy or WaitPolicy.balanced(),
            window_max=window_max,
            transports=tuple(transports),
            authorize=authorize,
            switch=switch,
        )
        self._stop_with_parent = stop_with_parent
        self._parent_pid = os.getppid()
        self._listener: Listener | None = None
        self._watcher: _Watcher | None = None
        self._lock = threading.Lock()  # _connections
        self._connections: set[_Connection] = set()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Listen, and serve in the background. Raises OSError (path in use, not permitted), MisuseError."""
        if self._listener is not None or self._stopping.is_set():
            raise MisuseError("a server starts once")
        self._listener = Listener(self.path)
        try:
            self._watcher = _Watcher(self, self._listener)
            if self._stop_with_parent:
                self._watcher.watch_parent(self._parent_pid)
            self._watcher.start()
        except BaseException:
            self._listener.close()
            raise

    def stop(self, grace: float = 5.0) -> None:
        """Drain and end: calls under way get `grace` seconds to be answered. Any thread, idempotent.

        Handlers that run on after that keep their (daemon) thread until they return; their answer is lost.
        """
        self._stopping.set()
        if self._listener is None or self._watcher is None:
            return
        self._listener.close()
        deadline = time.monotonic() + grace
        while (left := self._live()) and time.monotonic() < deadline:
            for connection in left:
                connection.retire()
            time.sleep(_DRAIN_TICK_S)
        for connection in left:
            connection.stop()
        for connection in left:
            connection.thread.join(0.5)
        self._watcher.stop()

    def serve_forever(self, grace: float = 5.0) -> None:
        """Start, wait for request_stop() or the parent's end, drain."""
        self.start()
        try:
            self._stopping.wait()
        finally:
            self.stop(grace)

    def request_stop(self) -> None:
        """Make serve_forever() return. Any thread; for signal handlers too: it only sets a flag."""
        self._stopping.set()

    @property
    def channels(self) -> int:
        """Connections there are now, those shaking hands included."""
        return len(self._live())

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
            if not full:
                self._connections.add(connection)
        if full:
            refuse(
                sock, CallError(Status.RESOURCE_EXHAUSTED, f"all {self._max_channels} channels are in use")
            )
            sock.close()
            return
        connection.thread.start()

    def _serve(self, connection: "_Connection") -> None:
        """The whole life of a connection, in its thread."""
        assert self._watcher is not None
        try:
            serving, session, life = self._admission.admit(connection.socket)
        except (FlipcallError, OSError) as e:
            _report(e)
            return
        try:
            connection.begin(serving)
            self._watcher.add(connection, life)
            serving.serve()
        except (FlipcallError, OSError) as e:
            _report(e)
        finally:
            self._watcher.remove(connection, life)
            serving.close()
            life.close()
            self._admission.sessions.leave(session)

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
        self._stopped = False

    def _run(self) -> None:
        try:
            self._server._serve(self)
        finally:
            self._server._ended(self)

    def begin(self, serving: Serving) -> None:
        with self._lock:
            self._serving = serving
            if self._stopped:
                serving.stop()

    def retire(self) -> None:
        """End it if no call is under way."""
        with self._lock:
            if self._serving is not None:
                self._serving.retire()

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


class _Watcher:
    """One thread with one epoll set: the listener, every channel's socket and client, perhaps the parent.

    Channel descriptors are one-shot: a client that is gone is told of once, however long its handler runs on.
    """

    def __init__(self, server: Server, listener: Listener) -> None:
        self._server = server
        self._listener = listener
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._poll.register(listener.socket, select.EPOLLIN)
        self._parent: Liveness | None = None
        self._lock = threading.Lock()  # _by_fd, against descriptors being closed and used again
        self._by_fd: dict[int, tuple[_Connection, int]] = {}
        self._thread = threading.Thread(target=self._run, name="flipcall-watcher", daemon=True)
        self._running = True

    def watch_parent(self, pid: int) -> None:
        """Stop the server when process `pid`, its parent, ends. Raises MisuseError when it has ended already."""
        try:
            self._parent = Liveness(pid)
        except ProcessLookupError:
            pass
        if self._parent is None or os.getppid() != pid:
            raise MisuseError("the parent process has ended already")
        self._poll.register(self._parent.pidfd, select.EPOLLIN)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close everything. Any thread, idempotent."""
        with self._lock:
            if not self._running:
                return
            self._running = False
        os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._poll.close()
        os.close(self._wake)
        if self._parent is not None:
            self._parent.close()

    def add(self, connection: _Connection, life: Liveness) -> None:
        """Condemn `connection` when its socket hangs up or its client's process ends."""
        with self._lock:
            if not self._running:
                return
            for fd, events in self._descriptors(connection, life):
                self._by_fd[fd] = (connection, events)
                self._poll.register(fd, events | select.EPOLLONESHOT)

    def remove(self, connection: _Connection, life: Liveness) -> None:
        """Before its descriptors are closed."""
        with self._lock:
            for fd, _ in self._descriptors(connection, life):
                if self._by_fd.pop(fd, None) is not None and self._running:
                    self._poll.unregister(fd)

    @staticmethod
    def _descriptors(connection: _Connection, life: Liveness) -> list[tuple[int, int]]:
        fds = [(connection.socket.fileno(), _HANG_UP)]
        return [*fds, (life.pidfd, select.EPOLLIN)] if life.pidfd >= 0 else fds

    def _run(self) -> None:
        listening = self._listener.socket.fileno()
        parent = self._parent.pidfd if self._parent else -1
        while self._running:
            for fd, _ in self._poll.poll():
                if fd == listening:
                    self._accept()
                elif fd == parent:
                    self._poll.unregister(parent)
                    threading.Thread(target=self._server.stop, name="flipcall-stop", daemon=True).start()
                elif fd != self._wake:
                    self._gone(fd)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.socket.accept()
        except BlockingIOError:
            return  # it has hung up again
        except OSError as e:
            if self._listener.socket.fileno() >= 0:
                print(f"flipcall: cannot take a connection: {e.strerror}", file=sys.stderr)
                time.sleep(_ACCEPT_PAUSE_S)
            return
        self._server._taken(sock)

    def _gone(self, fd: int) -> None:
        """The descriptor told of a death; by now it may be another one's, so it is asked once more."""
        with self._lock:
            connection, events = self._by_fd.get(fd, (None, 0))
            if connection is None:
                return
            again = select.poll()
            again.register(fd, events)
            if again.poll(0):
                connection.condemn()


def _hang_up(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has gone already


def _report(error: Exception) -> None:
    """A channel that ended because its client broke the rules is worth a line; other ends are ordinary."""
    if isinstance(error, ProtocolError):
        print(f"flipcall: a channel was closed: {error}", file=sys.stderr)


def serve(implementation: Implementation, path: Path, *, grace: float = 5.0, **options: object) -> None:
    """Serve until SIGTERM or SIGINT, then drain for up to `grace` seconds and return. Main thread only.

    options: as for Server. Signal handlers are those of before afterwards.
    """
    server = Server(implementation, path, **options)  # type: ignore[arg-type]

    def on_signal(number: int, frame: FrameType | None) -> None:
        server.request_stop()

    before = {n: signal.signal(n, on_signal) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.serve_forever(grace)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
