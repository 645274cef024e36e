"""Acceptor: takes a listener's connections, one at a time, also when there are no descriptors left."""

import logging
import os
import socket
from collections.abc import Callable

from .admission import refuse
from .errors import CallError
from .listener import Source
from .status import Status

_PAUSE_S = 0.05  # out of descriptors: let some be closed before the next attempt


_log = logging.getLogger("flipcall")


class Acceptor:
    """taken: called with each new connection, which it owns then. One thread."""

    def __init__(self, listener: Source, taken: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._taken = taken
        self._spare = _spare()

    def accept(self) -> float:
        """Take a connection, if there is one. Seconds to wait before the next attempt, nearly always 0.0."""
        try:
            sock = self._listener.accept()
        except BlockingIOError:
            return 0.0  # it has hung up again, or was no connection
        except OSError as e:
            if self._listener.socket.fileno() < 0:
                return 0.0
            _log.warning("cannot take a connection: %s", e.strerror)
            return self._turn_away(e)
        try:
            self._taken(sock)
        except Exception as e:  # no thread to be had: this client's bad luck, not the others'
            _log.exception("a connection could not be served")
            refuse(sock, CallError(Status.RESOURCE_EXHAUSTED, f"the server cannot serve one more: {e}"))
            sock.close()
        return 0.0

    def _turn_away(self, why: OSError) -> float:
        """Out of descriptors: take the connection with the spare one, say so, and hang up. Left in the backlog,
        it would wait for nothing, and keep this thread busy.
        """
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
            try:
                sock = self._listener.accept()
            except OSError:
                pass
            else:
                with sock:
                    refuse(sock, CallError(Status.RESOURCE_EXHAUSTED, f"the server: {why.strerror}"))
        self._spare = _spare()
        return _PAUSE_S if self._spare < 0 else 0.0

    def close(self) -> None:
        """Give the spare descriptor back. Idempotent."""
        if self._spare >= 0:
            os.close(self._spare)
        self._spare = -1


def _spare() -> int:
    """A descriptor to give up when there are no others; -1 when even that cannot be had."""
    try:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
