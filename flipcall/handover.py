"""How connections reach a worker process: descriptors over a socket pair, and a few words beside them.

      dispatcher (workers.py)                          worker (a Server in a process of its own)
        Take, with a connection    ─────────────────►  serves it; the n-th it was given is channel n
                                   ◄─────────────────  Left n: it has ended
        Stop, ms of grace          ─────────────────►  drains, and ends
                                   ◄─────────────────  Leaving: it was told to end by somebody else (SIGTERM)
        Go                         ─────────────────►  ... nothing more will come: drains, and ends
                                   ◄─────────────────  Ready: once, at the beginning
        Ask, Told, Done            ◄────────────────►  statistics of all workers: see survey.py

One end hanging up tells the other that its process is gone. The pair is SOCK_SEQPACKET, so a word is whole, and
words keep their order: after Go there is no Take.
"""

import fcntl
import itertools
import queue
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable
from enum import IntEnum

from .fds import close_fds, recv_fds, send_fds
from .liveness import Peer

_WORD = struct.Struct("=II")
_SIZE = struct.Struct("=i")
_DATA_MAX = 32768  # bytes with one word
PATIENCE_S = 0.1  # of the dispatcher, for a worker that does not listen
_SURVEY_S = 2.0


class Word(IntEnum):
    """What is said, each with a number, 0 where that means nothing."""

    READY = 1
    TAKE = 2
    LEFT = 3
    STOP = 4
    LEAVING = 5
    GO = 6
    ASK = 7
    TOLD = 8
    DONE = 9


def pair() -> tuple[socket.socket, socket.socket]:
    """The dispatcher's end, and the worker's. Neither waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


def say(
    sock: socket.socket, word: Word, number: int = 0, fds: tuple[int, ...] = (), data: bytes = b""
) -> None:
    """Say one word. Raises OSError: BlockingIOError when the other side does not listen, or it is gone."""
    send_fds(sock, _WORD.pack(word, number) + data, fds)


def unheard(sock: socket.socket) -> bool:
    """Whether the other side has not heard all yet that was said to it. Raises OSError."""
    (size,) = _SIZE.unpack(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(_SIZE.size)))
    return bool(size)


def say_at_length(sock: socket.socket, number: int, data: bytes, patience: float | None) -> None:
    """Tell an answer: in parts, and that it is over. patience: seconds to wait for the other side to listen.
    Raises OSError, TimeoutError.
    """
    for at in [*range(0, len(data), _DATA_MAX), len(data)]:
        part = data[at : at + _DATA_MAX]
        while True:
            try:
                say(sock, Word.TOLD, number, data=part)
                break
            except BlockingIOError:
                room = select.poll()
                room.register(sock, select.POLLOUT)
                if not room.poll(None if patience is None else patience * 1000):
                    raise TimeoutError("nobody listens") from None


def hear(sock: socket.socket, max_fds: int = 0) -> tuple[Word, int, list[int], bytes]:
    """The next word, its number, the descriptors and the data with it. Raises OSError (BlockingIOError: nothing
    said; ConnectionResetError: the other side has hung up), ProtocolError and ValueError for nonsense.
    """
    data, fds = recv_fds(sock, _WORD.size + _DATA_MAX, max_fds)
    try:
        if not data:
            raise ConnectionResetError("the other side is gone")
        if len(data) < _WORD.size:
            raise ValueError(f"a word of {len(data)} bytes")
        word, number = _WORD.unpack_from(data)
        return Word(word), number, fds, data[_WORD.size :]
    except BaseException:
        close_fds(fds)
        raise


def collect(answers: "queue.SimpleQueue[bytes | None]") -> list[bytes]:
    """The answers to a survey until None says that these are all. One stands still: after a time, without it."""
    found: list[bytes] = []
    latest = time.monotonic() + _SURVEY_S
    try:
        while (answer := answers.get(timeout=max(0.0, latest - time.monotonic()))) is not None:
            found.append(answer)
    except queue.Empty:
        pass
    return found


class Handover:
    """A worker's end: to its server what a Listener is to another one.

    told_to_stop(): called when the dispatcher says so or is gone; tell(): what others are to know, when they
    ask. Both by the thread in accept(). dispatcher: its process. grace: seconds to drain in, once told to stop.
    """

    def __init__(
        self, sock: socket.socket, told_to_stop: Callable[[], None], tell: Callable[[], bytes]
    ) -> None:
        self.socket = sock
        self.dispatcher = Peer.of(sock).pid
        self.grace = 5.0
        self._told_to_stop = told_to_stop
        self._tell = tell
        self._questions = itertools.count(1)
        self._answers: dict[int, queue.SimpleQueue[bytes | None]] = {}
        self._parts: dict[int, bytearray] = {}
        self._taken = 0
        self._numbers: dict[socket.socket, int] = {}
        self._no_more = threading.Event()

    def ready(self) -> None:
        """Connections may come."""
        self._say(Word.READY)

    def accept(self) -> socket.socket:
        """The next connection. Raises BlockingIOError when it was something else, OSError when it was lost."""
        try:
            word, number, fds, data = hear(self.socket, 1)
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
            close_fds(fds)
            self._heard(word, number, data)
            raise BlockingIOError
        self._taken += 1
        connection = socket.socket(fileno=fds[0])
        self._numbers[connection] = self._taken
        return connection

    def _heard(self, word: Word, number: int, data: bytes) -> None:
        if word is Word.ASK:
            try:
                say_at_length(self.socket, number, self._tell(), None)
            except OSError:
                pass  # the dispatcher is gone: the next accept() finds out
        elif word in (Word.TOLD, Word.DONE):
            self._told(number, None if word is Word.DONE else data)
        else:
            self._end(number / 1000 if word is Word.STOP else None)

    def _told(self, number: int, data: bytes | None) -> None:
        """A part of an answer, its end (no bytes), or the end of all (None)."""
        answers = self._answers.get(number)
        if answers is None:
            return  # nobody waits any more
        if data:
            self._parts.setdefault(number, bytearray()).extend(data)
        else:
            whole = self._parts.pop(number, bytearray())
            answers.put(None if data is None else bytes(whole))

    def ask(self) -> list[bytes]:
        """What all other workers tell, of those that answer in time. Any thread but that in accept()."""
        number = next(self._questions)
        answers = self._answers[number] = queue.SimpleQueue()
        self._say(Word.ASK, number)
        try:
            return collect(answers)
        finally:
            del self._answers[number]
            self._parts.pop(number, None)

    def _end(self, grace: float | None) -> None:
        if not self._no_more.is_set():
            self._no_more.set()
            self.grace = self.grace if grace is None else grace
            self._told_to_stop()

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
