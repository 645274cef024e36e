"""Acceptor: flipcall.acceptor, called by a loop."""

import asyncio
import socket
from collections.abc import Callable

from .. import acceptor
from ..listener import Source


class Acceptor:
    """Has the loop take connections from `source`, from now on. `taken` owns each then. Borrows the source."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, source: Source, taken: Callable[[socket.socket], None]
    ) -> None:
        self._loop = loop
        self._acceptor = acceptor.Acceptor(source, taken)
        self._source = source
        self._fd = -1  # that is watched
        self._watch()

    def _watch(self) -> None:
        fd = self._source.socket.fileno()
        if fd >= 0:
            self._loop.add_reader(fd, self._accept)
            self._fd = fd

    def _rest(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._loop.remove_reader(fd)

    def _accept(self) -> None:
        pause = self._acceptor.accept()
        if self._source.socket.fileno() < 0:
            self._rest()
        elif pause:
            self._rest()
            self._loop.call_later(pause, self._watch)

    def close(self) -> None:
        """Take no more, before the source is closed. Idempotent."""
        self._rest()
        self._acceptor.close()

    def disown(self) -> None:
        """In a forked child: the loop is the parent's."""
        self._acceptor.close()
