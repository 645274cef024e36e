"""A connection as the server holds it: its socket, its thread, and once hands were shaken what serves it."""

import socket
import threading
from collections.abc import Callable

from .admission import Admitted
from .limits import client_of
from .liveness import Peer
from .meter import Counts
from .serving import Serving
from .stats import Observed


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

    def begin(self, admitted: Admitted, builtin: bool) -> None:
        """Hands were shaken. builtin: it is a channel of a built-in service."""
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
