"""How connections reach a worker process: descriptors over a socket pair, and a few words beside them.

      dispatcher (workers.py)                          worker (a Server in a process of its own)
        Take, with a connection    ─────────────────►  serves it; the n-th it was given is channel n
                                   ◄─────────────────  Left n: it has ended
        Stop, ms of grace          ─────────────────►  drains, and ends
                                   ◄─────────────────  Leaving: it was told to end by somebody else (SIGTERM)
        Go                         ─────────────────►  ... nothing more will come: drains, and ends
                                   ◄─────────────────  Ready: once, at the beginning

One end hanging up tells the other that its process is gone. The pair is SOCK_SEQPACKET, so a word is whole, and
words keep their order: after Go there is no Take.
"""

import select
import socket
import struct
import threading
from collections.abc import Callable
from enum import IntEnum

from .fds import close_fds, recv_fds, send_fds

_WORD = struct.Struct("=II")


class Word(IntEnum):
    """What is said, each with a number, 0 where that means nothing."""

    READY = 1
    TAKE = 2
    LEFT = 3
    STOP = 4
    LEAVING = 5
    GO = 6


def pair() -> tuple[socket.socket, socket.socket]:
    """The dispatcher's end, and the worker's. Neither waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def say(sock: socket.socket, word: Word, number: int = 0, fds: tuple[int, ...] = ()) -> None:
    """Say one word. Raises OSError: BlockingIOError when the other side does not listen, or it is gone."""
    send_fds(sock, _WORD.pack(word, number), fds)


def hear(sock: socket.socket, max_fds: int = 0) -> tuple[Word, int, list[int]]:
    """The next word, its number, and the descriptors with it. Raises OSError (BlockingIOError: nothing said;
    ConnectionResetError: the other side has hung up), ProtocolError and ValueError for what nobody here says.
    """
    data, fds = recv_fds(sock, _WORD.size, max_fds)
    try:
        if not data:
            raise ConnectionResetError("the other side is gone")
        word, number = _WORD.unpack(data)
        return Word(word), number, fds
    except BaseException:
        close_fds(fds)
        raise


class Handover:
    """A worker's end: to its server what a Listener is to another one.

    told_to_stop(grace): called when the dispatcher says so or is gone; by the thread in accept().
    """

    def __init__(self, sock: socket.socket, told_to_stop: Callable[[float | None], None]) -> None:
        self.socket = sock
        self._told_to_stop = told_to_stop
        self._taken = 0
        self._numbers: dict[socket.socket, int] = {}
        self._no_more = threading.Event()

    def ready(self) -> None:
        """Connections may come."""
        self._say(Word.READY)

    def accept(self) -> socket.socket:
        """The next connection. Raises BlockingIOError when it was something else, OSError when it was lost."""
        try:
            word, number, fds = hear(self.socket, 1)
        except BlockingIOError:
            raise
        except ConnectionError:  # killed: what is left is to answer what is under way
            self.socket.close()
            self._end(None)
            raise BlockingIOError from None
        except OSError as e:  # no descriptor left: only connections bring one
            self._taken += 1
            self._say(Word.LEFT, self._taken)
            raise OSError(e.errno, e.strerror) from None
        if word is not Word.TAKE:
            self._end(number / 1000 if word is Word.STOP else None)
            raise BlockingIOError
        self._taken += 1
        connection = socket.socket(fileno=fds[0])
        self._numbers[connection] = self._taken
        return connection

    def _end(self, grace: float | None) -> None:
        if not self._no_more.is_set():
            self._no_more.set()
            self._told_to_stop(grace)

    def left(self, connection: socket.socket) -> None:
        """A channel has ended. Any thread."""
        number = self._numbers.pop(connection, None)
        if number is not None:
            self._say(Word.LEFT, number)

    def leave(self) -> None:
        """Return when no connection will come any more. While another thread is in accept()."""
        if not self._no_more.is_set():
            self._say(Word.LEAVING)
            self._no_more.wait()

    def _say(self, word: Word, number: int = 0) -> None:
        """To a dispatcher that is gone, nothing: accept() finds out, and a worker that ends takes all with it."""
        while self.socket.fileno() >= 0:
            try:
                say(self.socket, word, number)
            except BlockingIOError:
                room = select.poll()
                room.register(self.socket, select.POLLOUT)
                room.poll()
            except OSError:
                return
            else:
                return

    def close(self) -> None:
        """Nothing: the socket's end is the process's end, and draining comes before that."""

    def disown(self) -> None:
        """In a forked child."""
        self.socket.close()
