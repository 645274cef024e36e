"""The connections of a server process: taken, served by a thread each, drained, ended."""

import logging
import socket
import threading
import time
from collections.abc import Callable

from .admission import Admission, Admitted, refuse
from .errors import CallError, FlipcallError, ProtocolError
from .limits import Places, client_of
from .listener import Source
from .liveness import Peer
from .meter import Counts
from .serving import Serving, WindowServing
from .socketserving import SocketServing
from .stats import Ledger, Observed
from .status import Status
from .watcher import Watcher

_DRAIN_TICK_S = 0.002
_LETTING_GO_S = 0.5  # for threads that were told to end

_log = logging.getLogger("flipcall")


class ServedConnection:
    """A channel of the server: its socket, its thread, and once hands were shaken what serves it."""

    def __init__(self, sock: socket.socket, life: "Callable[[ServedConnection], None]") -> None:
        """life: what its thread runs."""
        self.socket = sock
        self.client = client_of(Peer.of(sock))
        self.thread = threading.Thread(target=life, args=(self,), name="flipcall-channel", daemon=True)
        self._lock = threading.Lock()
        self._serving: Serving | None = None
        self._admitted: Admitted | None = None
        self._stopped = False
        self.builtin = False

    def begin(self, admitted: Admitted, serving: Serving, builtin: bool) -> None:
        """Hands were shaken. builtin: it is a channel of a built-in service."""
        with self._lock:
            self._admitted, self._serving = admitted, serving
            self.builtin = builtin
            if self._stopped:
                self._serving.stop()

    def observe(self) -> Observed | None:
        """The channel seen from outside; None before its beginning and after its end. Any thread."""
        with self._lock:
            return None if self._admitted is None else self._admitted.observed()

    def end(self) -> dict[str, Counts]:
        """Nobody observes it any more; what it has counted, by the method's name. Its thread, after serve()."""
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
                cut(self.socket)

    def stop(self) -> None:
        """End it now."""
        with self._lock:
            self._stopped = True
            if self._serving is not None:
                self._serving.stop()
            else:
                cut(self.socket)  # still shaking hands

    def condemn(self) -> None:
        """Its client is gone."""
        with self._lock:
            if self._serving is not None:
                self._serving.condemn()


class Connections:
    """All of them. Any thread, unless it says otherwise."""

    def __init__(self, admission: Admission, ledger: Ledger, places: Places) -> None:
        self._admission = admission
        self._ledger = ledger
        self._places = places
        self._source: Source | None = None
        self._watcher: Watcher | None = None
        self._lock = threading.Lock()  # _all, _draining
        self._all: set[ServedConnection] = set()
        self._draining = False

    def attend(self, source: Source, watcher: Watcher) -> None:
        """Once, before the first take(): where connections come from, and who watches their clients."""
        self._source = source
        self._watcher = watcher

    def live(self) -> list[ServedConnection]:
        """Those there are now, shaking hands included."""
        with self._lock:
            return list(self._all)

    def serves_here(self) -> bool:
        """Whether the calling thread is one of theirs: a handler's."""
        return threading.current_thread() in {c.thread for c in self.live()}

    def observe(self) -> list[Observed]:
        """The channels of the server's own service, as Statistics tells of them."""
        return [seen for c in self.live() if not c.builtin and (seen := c.observe()) is not None]

    def take(self, sock: socket.socket) -> None:
        """A client has connected. Only the watcher calls this."""
        connection = ServedConnection(sock, self._live_out)
        try:
            with self._lock:
                if self._draining:
                    raise CallError(Status.UNAVAILABLE, "the server is stopping")
                self._places.take(connection.client)
                self._all.add(connection)
        except CallError as e:
            refuse(sock, e)
            self._closed(connection)
            return
        try:
            connection.thread.start()
        except BaseException as e:
            self._forget(connection)
            refuse(sock, CallError(Status.RESOURCE_EXHAUSTED, f"the server cannot serve one more: {e}"))
            self._closed(connection)
            raise

    def drain(self, grace: float) -> None:
        """Take no more, end the idle ones, and wait up to `grace` seconds for the others to have answered."""
        with self._lock:
            self._draining = True
        deadline = time.monotonic() + grace
        while (left := self.live()) and time.monotonic() < deadline:
            # Built-in services go last: Health tells that the server drains.
            for connection in [c for c in left if not c.builtin] or left:
                connection.retire()
            time.sleep(_DRAIN_TICK_S)

    def end(self) -> None:
        """End what drain() has left."""
        left = self.live()
        for connection in left:
            connection.stop()
        deadline = time.monotonic() + _LETTING_GO_S
        for connection in left:
            connection.thread.join(max(0.0, deadline - time.monotonic()))

    def disown(self) -> None:
        """In a forked child: close what was inherited, tell nobody."""
        self._lock = threading.Lock()  # its holder may be a thread that this process does not have
        connections, self._all = self._all, set()
        for connection in connections:
            connection.socket.close()
        self._source = self._watcher = None

    # ---- one connection, in its thread ------------------------------------------------------------------

    def _live_out(self, connection: ServedConnection) -> None:
        try:
            self._serve(connection)
        finally:
            self._ended(connection)

    def _serve(self, connection: ServedConnection) -> None:
        assert self._watcher is not None
        try:
            admitted = self._admission.admit(connection.socket)
        except Exception as e:
            report(e)
            return
        serving, session, life = admitted.serving, admitted.session, admitted.life
        assert isinstance(serving, (WindowServing, SocketServing))
        try:
            connection.begin(admitted, serving, builtin=session.home is not self._admission.sessions)
            self._watcher.add(connection, life)
            serving.serve()
        except Exception as e:
            report(e)
        finally:
            if self._watcher is not None:  # else this is a handler's forked child, whose copy is nobody's
                self._watcher.remove(connection, life)
                self._ledger.keep(connection.end)
                serving.close()
                life.close()
                session.home.leave(session)

    def _ended(self, connection: ServedConnection) -> None:
        self._forget(connection)
        self._closed(connection)

    def _forget(self, connection: ServedConnection) -> None:
        with self._lock:
            counted = connection in self._all
            self._all.discard(connection)
        if counted:
            self._places.give(connection.client)

    def _closed(self, connection: ServedConnection) -> None:
        if self._source is not None:
            self._source.left(connection.socket)
        connection.socket.close()


def report(error: Exception) -> None:
    """A channel that ended because its client broke the rules is worth a line, and one that this side's code
    broke a traceback; other ends are ordinary.
    """
    if isinstance(error, ProtocolError):
        _log.warning("a channel was closed: %s", str(error))  # a kept record would keep the window, too
    elif not isinstance(error, (FlipcallError, OSError)):
        _log.error("a channel was closed by an error of this side", exc_info=error)


def cut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has gone already
