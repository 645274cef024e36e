"""Bell: what an event loop watches of one channel: rings (core/doorbell.c), the peer's hang-up, its process's end."""

import asyncio
import os
import socket
from collections.abc import Callable

_AT_ONCE = (
    4096  # bytes read in one pass of the loop: a peer that rings without end gets no more than its turn
)


class Bell:
    """Calls `rung` when the peer has rung, and `gone` once when it is gone. Borrows socket and pidfd."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        pidfd: int,
        rung: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        """pidfd: -1 for none. Raises OSError when the loop can watch no more."""
        self._loop = loop
        self._socket = sock
        self._pid = os.getpid()
        self._rung = rung
        self._gone = gone
        self._fds: list[int] = []
        sock.setblocking(False)
        try:
            self._watch(sock.fileno(), self._readable)
            if pidfd >= 0:
                self._watch(pidfd, self._ended)
        except BaseException:
            self.close()
            raise

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._loop.add_reader(fd, call)
        self._fds.append(fd)

    def close(self) -> None:
        """Watch no more; before the descriptors are closed. Idempotent.

        In a forked child it does nothing: the epoll set is the parent's, and would forget its channels.
        """
        fds, self._fds = self._fds, []
        if self._pid == os.getpid() and not self._loop.is_closed():
            for fd in fds:
                self._loop.remove_reader(fd)

    def _readable(self) -> None:
        try:
            rings = self._socket.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            rings = b""
        if rings:
            self._rung()
        else:
            self._ended()

    def _ended(self) -> None:
        self.close()
        self._gone()
