"""The Unix-socket transport (flipcall.stream) in an event loop, which never waits in a system call."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence

from ..channel import Attachment
from ..errors import ForkedError
from ..fd import Fd
from ..stream import Frame, FrameSocket
from .waiter import Waiter

Piece = tuple[memoryview, Sequence[Fd]]  # what is to be written, and what goes with its first byte


class LoopFrames(FrameSocket):
    """See FrameSocket. Frames are put whole, so that no task that is cancelled leaves half of one behind: what
    there is no room for yet is written by the loop. Only in its thread, but shutdown() is for any.
    """

    def __init__(
        self,
        sock: socket.socket,
        message_max: int,
        loop: asyncio.AbstractEventLoop,
        *,
        pid: int = 0,
        takes_fds: bool,
    ) -> None:
        super().__init__(sock, message_max, pid, takes_fds=takes_fds)
        sock.setblocking(False)
        self._loop = loop
        self._out: deque[Piece] = deque()
        self._watched = -1  # the descriptor, while the loop looks for room
        self._waiter = Waiter(loop)
        self._over = False  # nothing can follow what has gone
        self._pid = os.getpid()

    @classmethod
    def of(cls, frames: FrameSocket, loop: asyncio.AbstractEventLoop) -> "LoopFrames":
        """Takes the stream of `frames` over, before anything was sent or received, and leaves it without."""
        sock = socket.socket(fileno=frames.socket.detach())
        return cls(sock, frames.message_max, loop, pid=frames.peer.pid, takes_fds=frames.takes_fds)

    @property
    def held(self) -> bool:
        """Whether there are bytes that arrived() has read and not given: the loop does not tell of those."""
        return self._got > 0

    def arrived(self) -> Frame | None:
        """The next frame, if all of it has come. Reads once, so that a large one lets the loop run.

        Raises ClosedError at the end of the stream, ProtocolError.
        """
        frame = self._next()
        if frame is None:
            try:
                self._fill()
            except BlockingIOError:
                return None
            frame = self._next()
        return frame

    def put(
        self,
        kind: int,
        code: int,
        call_id: int,
        body: bytes = b"",
        attachment: Attachment = b"",
        flags: int = 0,
        timeout_us: int = 0,
        fds: Sequence[Fd] = (),
    ) -> None:
        """Send a frame, after those that were put before; see drained(). Raises as FrameSocket.send() does, and
        ForkedError.
        """
        if self._pid != os.getpid():
            raise ForkedError("this channel belongs to the parent process: connect again after fork()")
        if self._over:
            raise self._gone()
        pieces: deque[Piece] = deque()
        for part in self._parts(kind, flags, code, call_id, timeout_us, body, attachment, bool(fds)):
            if len(part):
                pieces.append((memoryview(part), fds))
                fds = ()
        if not self._out:
            self._write_some(pieces)
        # An exception of the above keeps no descriptors: its frames have the list that the caller clears.
        self._out.extend((data, tuple(fds)) for data, fds in pieces)
        if self._out and self._watched < 0:
            self._loop.add_writer(self.socket.fileno(), self._writable)
            self._watched = self.socket.fileno()

    async def drained(self, deadline: float | None = None) -> None:
        """Until all that was put has gone. One task at a time. deadline: time.monotonic() seconds, None for none.

        Raises ClosedError, DeadlineExceeded: what is left goes all the same.
        """
        while self._out:
            if not await self._waiter.wait(deadline):
                raise self.late()
        if self._over:
            raise self._gone()

    def _write_some(self, pieces: deque[Piece]) -> None:
        while pieces:
            data, fds = pieces[0]
            try:
                n = self._send(data, fds)
            except BlockingIOError:
                return
            if n < len(data):
                pieces[0] = data[n:], ()
            else:
                pieces.popleft()

    def _writable(self) -> None:
        try:
            self._write_some(self._out)
        except Exception:
            self.shutdown()  # who reads finds out
            self._over = True
            self._out.clear()
        if not self._out:
            self._rest()

    def _rest(self) -> None:
        fd, self._watched = self._watched, -1
        if fd >= 0 and self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.remove_writer(fd)
        self._waiter.wake()

    def shutdown(self) -> None:
        """See FrameSocket.shutdown. In a forked child nothing: the stream is the parent's."""
        if self._pid == os.getpid():
            super().shutdown()

    def close(self) -> None:
        """Send no more. Before the socket is closed; idempotent."""
        self.shutdown()
        self._over = True
        self._out.clear()
        self._rest()
