"""The Unix-socket transport: the same frames, written to the stream that did the handshake.

The way it was done before flipcall, kept so that the two can be compared, and for peers that cannot share
memory. u32 length, frame header, body, attachment (no padding: nothing here is read in place). Written to be a
fair peer: one write and one read a message where it is small, no poll() beside them (SO_RCVTIMEO instead).
"""

import socket
import struct
import time
from collections.abc import Sequence
from typing import NamedTuple

from .channel import Attachment
from .control import unsent
from .errors import (
    ClosedError,
    DeadlineExceeded,
    ProtocolError,
)
from .fd import Fd
from .fds import SCM_MAX_FD, close_fds, collect, rights_of
from .flow import too_large
from .frame import (
    CANCEL,
    END,
    FLAG_FDS,
    FLAGS_SHIFT,
    HEADER,
    ITEMS,
    LENGTH,
    META,
    MORE,
    PREFIX,
    REPLY,
    REQUEST,
    STREAM,
)
from .liveness import Peer
from .rights import NO_RIGHTS, Rights

_BUFFER = 65536  # bytes read at once; up to here one copy into one buffer is cheaper than a second write
_TRUSTED = 16 << 20  # bytes of memory that a mere announcement gets
_TIMEVAL = struct.Struct("@ll")
_FRAME_MAX = 0x7FFFFFFF  # bytes: a u32 has room for twice that
_KINDS = (REQUEST, REPLY, MORE, ITEMS, END, CANCEL)


class Frame(NamedTuple):
    """A frame that came: private copies."""

    kind: int
    flags: int
    code: int
    call_id: int
    timeout_us: int
    body: bytes
    attachment: bytes
    rights: Rights = NO_RIGHTS


class FrameSocket:
    """A connected stream socket that carries frames. One thread at a time.

    message_max: bytes of body and attachment that are sent and taken. pid: of the process at the other end, where
    it is another than the one that connected or listened. takes_fds: frames with descriptors may come; else the
    kernel drops them.
    """

    def __init__(
        self, sock: socket.socket, message_max: int, pid: int = 0, *, takes_fds: bool = False
    ) -> None:
        sock.settimeout(None)
        self.socket = sock
        self.message_max = min(message_max, _FRAME_MAX - HEADER.size)
        self.peer = Peer.of(sock)
        self.peer.pid = pid or self.peer.pid
        self._buffer = bytearray(_BUFFER)
        self._into = memoryview(self._buffer)
        self.takes_fds = takes_fds
        self._fds: list[int] = []  # that came and belong to the frame under way, or the next
        self._fds_lost = False  # this process could not take all of them
        self._got = 0  # bytes of the frame under way: a timeout in its middle loses nothing
        self._timeout = 0.0  # SO_RCVTIMEO as it is set, seconds; 0 for none
        self._send_timeout = 0.0  # SO_SNDTIMEO

    def send(
        self,
        kind: int,
        code: int,
        call_id: int,
        timeout_us: int,
        body: bytes,
        attachment: Attachment,
        deadline: float | None = None,
        flags: int = 0,
        fds: Sequence[Fd] = (),
    ) -> None:
        """Write a frame, its descriptors with its first byte. deadline: time.monotonic() seconds, None for none.
        code: also with flags above its bits.

        Raises CallError naming both sizes when it is too big, and as control.hand_over does: nothing was written
        then. After DeadlineExceeded a part of it may have gone, and after ClosedError: nothing can follow.
        """
        for part in self._parts(kind, flags, code, call_id, timeout_us, body, attachment, bool(fds)):
            self._write(part, deadline, fds)
            fds = ()

    def _parts(
        self,
        kind: int,
        flags: int,
        code: int,
        call_id: int,
        timeout_us: int,
        body: bytes,
        attachment: Attachment,
        fds: bool,
    ) -> tuple[Attachment, ...]:
        """What to write for a frame: in one piece where a copy is cheaper than a second write."""
        size = HEADER.size + len(body) + len(attachment)
        if size - HEADER.size > self.message_max:
            raise too_large("a message", size - HEADER.size, self.message_max)
        flags |= code >> FLAGS_SHIFT | (FLAG_FDS if fds else 0)
        head = LENGTH.pack(size) + HEADER.pack(kind, flags, code & 0xFFFF, call_id, len(body), timeout_us)
        return (head + body + attachment,) if size <= _BUFFER else (head + body, attachment)

    def _write(self, data: Attachment, deadline: float | None, fds: Sequence[Fd] = ()) -> None:
        left = memoryview(data)
        while left:
            self._send_timeout = self._limit(socket.SO_SNDTIMEO, deadline, self._send_timeout)
            try:
                left = left[self._send(left, fds) :]
                fds = ()
            except BlockingIOError:
                if deadline is None or time.monotonic() >= deadline:
                    raise self.late() from None

    def _send(self, data: memoryview, fds: Sequence[Fd]) -> int:
        """Write what the peer has room for. Raises BlockingIOError when that is nothing, ClosedError."""
        try:
            if not fds:
                return self.socket.send(data, socket.MSG_NOSIGNAL)
            n = self.socket.sendmsg([data], rights_of([fd.fileno() for fd in fds]), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            raise
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None
        except OSError as e:
            if not fds:
                raise
            raise unsent(e, len(fds)) from None
        for fd in fds:
            fd.mark_sent()
        return n

    def _limit(self, option: int, deadline: float | None, now: float) -> float:
        """Let the next read or write end at the deadline; what is set then, seconds, 0 for none."""
        timeout = 0.0 if deadline is None else max(deadline - time.monotonic(), 1e-6)
        if abs(timeout - now) <= timeout / 64:
            return now  # near enough: a system call saved
        whole = int(timeout)
        value = _TIMEVAL.pack(whole, int((timeout - whole) * 1e6) or (timeout > 0))
        self.socket.setsockopt(socket.SOL_SOCKET, option, value)
        return timeout

    def receive(self, deadline: float | None) -> Frame:
        """Read a frame; whether it may come now is the caller's to judge. deadline: time.monotonic() seconds, None
        for none.

        Raises DeadlineExceeded (what came so far is kept: call again), ClosedError at the end of the stream,
        ProtocolError.
        """
        while (frame := self._next()) is None:
            self._read(deadline)
        return frame

    def _next(self) -> Frame | None:
        """The next frame, if all of it has come; else there is room for more of it."""
        if self._got < LENGTH.size:
            return None
        (size,) = LENGTH.unpack_from(self._into)
        most = HEADER.size + self.message_max
        if not HEADER.size <= size <= most:
            raise self.nonsense(f"a frame of {size} bytes is outside {HEADER.size}..{most}")
        end = LENGTH.size + size
        if self._got < end:
            if end > len(self._into):
                self._grow(end)
            return None
        frame = self._parse(end)
        left = self._into[end : self._got]  # of a stream, frames may follow one another
        self._got -= end
        self._into = memoryview(self._buffer)
        self._into[: self._got] = left
        return frame

    def waiting(self) -> bool:
        """Whether something has come that was not received yet; never waits."""
        if self._got:
            return True
        try:
            self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass  # receive() finds out
        return True

    def _grow(self, end: int) -> None:
        """Room for a frame that ends there; for a very large one only as fast as it comes."""
        if end > _TRUSTED:
            if self._got < len(self._into):
                return
            end = min(end, max(_TRUSTED, 2 * self._got))
        larger = memoryview(bytearray(end))
        larger[: self._got] = self._into[: self._got]
        self._into = larger

    def _parse(self, end: int) -> Frame:
        kind, flags, code, call_id, body_len, timeout_us = HEADER.unpack_from(self._into, LENGTH.size)
        body_end = PREFIX + body_len
        known = STREAM | FLAG_FDS | (META if kind == REQUEST else 0)
        if kind not in _KINDS or flags & ~known or body_end > end:
            raise self.nonsense(f"frame kind {kind}, flags {flags:#x}, body_len {body_len}")
        if kind != REQUEST and timeout_us:
            raise self.nonsense(f"frame kind {kind}, timeout {timeout_us}")
        rights = self._rights(bool(flags & FLAG_FDS), self._got > end) if self.takes_fds else NO_RIGHTS
        body = bytes(self._into[PREFIX:body_end])
        attachment = bytes(self._into[body_end:end]) if body_end < end else b""
        return Frame(kind, flags, code, call_id, timeout_us, body, attachment, rights)

    def _rights(self, announced: bool, more: bool) -> Rights:
        """The descriptors of a frame. more: bytes of another one came with it, whose they may be."""
        if not announced and (more or not self._fds):
            return NO_RIGHTS
        fds, self._fds = self._fds, []
        lost, self._fds_lost = self._fds_lost, False
        if lost:
            close_fds(fds)
            return Rights(lost=True)
        if announced and fds:
            return Rights(fds)
        close_fds(fds)
        raise self.nonsense(f"{len(fds)} descriptors, {'some' if announced else 'none'} announced")

    def _read(self, deadline: float | None) -> None:
        self._timeout = self._limit(socket.SO_RCVTIMEO, deadline, self._timeout)
        try:
            self._fill()
        except BlockingIOError:
            if deadline is None or time.monotonic() >= deadline:  # else rounding: a moment is left
                raise self.late() from None

    def _fill(self) -> None:
        """Read more of the frame under way. Raises BlockingIOError, ClosedError."""
        into = self._into[self._got :]
        try:
            n = self._collect(into) if self.takes_fds else self.socket.recv_into(into)
        except ConnectionResetError:
            n = 0
        if n == 0:
            raise self._gone()
        self._got += n

    def _collect(self, into: memoryview) -> int:
        room = SCM_MAX_FD - len(self._fds)
        n, fds, flags, _ = collect(self.socket, into, room)
        self._fds += fds
        if flags & socket.MSG_CTRUNC:
            if len(fds) == room:
                raise self.nonsense(f"more than {SCM_MAX_FD} descriptors with a frame")
            self._fds_lost = True
        return n

    def _gone(self) -> ClosedError:
        return ClosedError(f"the peer (process {self.peer.pid or '?'}) closed the stream")

    def late(self) -> DeadlineExceeded:
        """The error for a peer that did not answer in time."""
        return DeadlineExceeded(f"process {self.peer.pid or '?'} did not answer before the deadline")

    def nonsense(self, what: str) -> ProtocolError:
        """The error for what the peer may not send."""
        return ProtocolError(f"the peer (process {self.peer.pid}) broke the protocol: {what}", self.peer.pid)

    def __del__(self) -> None:
        close_fds(getattr(self, "_fds", ()))

    def shutdown(self) -> None:
        """End it, from any thread: a read under way returns."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed or reset already
