"""A connection as the server holds it: its socket, its thread, and once hands were shaken what serves it."""

import socket
import threading
from collections.abc import Callable

from .limits import client_of
from .liveness import Peer
from .serving import Serving


class ServedConnection:
    """A channel of the server: its socket, its thread, and once hands were shaken what serves it."""

    def __init__(self, sock: socket.socket, life: "Callable[[ServedConnection], None]") -> None:
        """life: what its thread runs."""
        self.socket = sock
        self.client = client_of(Peer.of(sock))
        self.thread = threading.Thread(target=life, args=(self,), name="flipcall-channel", daemon=True)
        self._lock = threading.Lock()
        self._serving: Serving | None = None
        self._stopped = False

    def begin(self, serving: Serving) -> None:
        with self._lock:
            self._serving = serving
            if self._stopped:
                serving.stop()

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
