"""The Unix-socket transport: the same frames, written to the stream that did the handshake.

The way it was done before flipcall, kept so that the two can be compared, and for peers that cannot share
memory. u32 length, frame header, body, attachment (no padding: nothing here is read in place). Written to be a
fair peer: one write and one read a message where it is small, no poll() beside them (SO_RCVTIMEO instead).
"""

import socket
import struct
import threading
import time
from typing import NamedTuple

from .channel import Attachment, Reply
from .errors import (
    BusyError,
    CallError,
    ClosedError,
    DeadlineExceeded,
    MisuseError,
    ProtocolError,
)
from .failure import rebuild
from .frame import HEADER, LENGTH, PREFIX, REPLY, REQUEST, TIMEOUT_NONE
from .liveness import Peer, hang_up
from .outcome import State
from .status import Status

_BUFFER = 65536  # bytes read at once; up to here one copy into one buffer is cheaper than a second write
_TRUSTED = 16 << 20  # bytes of memory that a mere announcement gets
_TIMEVAL = struct.Struct("@ll")


class Frame(NamedTuple):
    """A frame that came: private copies."""

    code: int
    call_id: int
    timeout_us: int
    body: bytes
    attachment: bytes


class FrameSocket:
    """A connected stream socket that carries frames, strictly one way at a time. One thread at a time."""

    def __init__(self, sock: socket.socket, frame_max: int, pid: int = 0) -> None:
        """pid: of the process at the other end, where it is another than the one that connected or listened."""
        sock.settimeout(None)
        self.socket = sock
        self.frame_max = frame_max
        self.peer = Peer.of(sock)
        self.peer.pid = pid or self.peer.pid
        self._buffer = bytearray(_BUFFER)
        self._into = memoryview(self._buffer)
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
    ) -> None:
        """Write a frame. deadline: time.monotonic() seconds, None for none.

        Raises CallError naming both sizes when it is too big: nothing was written then. After DeadlineExceeded a
        part of it may have gone, and after ClosedError: nothing can follow.
        """
        size = HEADER.size + len(body) + len(attachment)
        if size > self.frame_max:
            what = f"the frame needs {size} bytes, this connection allows {self.frame_max}"
            raise CallError(Status.RESOURCE_EXHAUSTED, what)
        head = LENGTH.pack(size) + HEADER.pack(kind, 0, code, call_id, len(body), timeout_us)
        if size <= _BUFFER:
            self._write(head + body + attachment, deadline)
        else:
            self._write(head + body, deadline)
            self._write(attachment, deadline)

    def _write(self, data: Attachment, deadline: float | None) -> None:
        left = memoryview(data)
        while left:
            self._send_timeout = self._limit(socket.SO_SNDTIMEO, deadline, self._send_timeout)
            try:
                left = left[self.socket.send(left, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                if deadline is None or time.monotonic() >= deadline:
                    raise self._late() from None
            except (BrokenPipeError, ConnectionResetError):
                raise self._gone() from None

    def _limit(self, option: int, deadline: float | None, now: float) -> float:
        """Let the next read or write end at the deadline; what is set then, seconds, 0 for none."""
        timeout = 0.0 if deadline is None else max(deadline - time.monotonic(), 1e-6)
        if abs(timeout - now) <= timeout / 64:
            return now  # near enough: a system call saved
        whole = int(timeout)
        value = _TIMEVAL.pack(whole, int((timeout - whole) * 1e6) or (timeout > 0))
        self.socket.setsockopt(socket.SOL_SOCKET, option, value)
        return timeout

    def receive(self, kind: int, deadline: float | None) -> Frame:
        """Read a frame. deadline: time.monotonic() seconds, None for none.

        Raises DeadlineExceeded (what came so far is kept: call again), ClosedError at the end of the stream,
        ProtocolError.
        """
        while self._got < LENGTH.size:
            self._read(deadline)
        (size,) = LENGTH.unpack_from(self._into)
        if not HEADER.size <= size <= self.frame_max:
            raise self._nonsense(f"a frame of {size} bytes is outside {HEADER.size}..{self.frame_max}")
        end = LENGTH.size + size
        while self._got < end:
            if end > len(self._into):
                self._grow(end)
            self._read(deadline)
        if self._got > end:
            raise self._nonsense(f"{self._got - end} bytes after a frame, out of turn")
        frame = self._parse(kind, end)
        self._got = 0
        self._into = memoryview(self._buffer)
        return frame

    def _grow(self, end: int) -> None:
        """Room for a frame that ends there; for a very large one only as fast as it comes."""
        if end > _TRUSTED:
            if self._got < len(self._into):
                return
            end = min(end, max(_TRUSTED, 2 * self._got))
        larger = memoryview(bytearray(end))
        larger[: self._got] = self._into[: self._got]
        self._into = larger

    def _parse(self, kind: int, end: int) -> Frame:
        got, flags, code, call_id, body_len, timeout_us = HEADER.unpack_from(self._into, LENGTH.size)
        body_end = PREFIX + body_len
        if got != kind or flags or body_end > end:
            raise self._nonsense(f"frame kind {got}, flags {flags:#x}, body_len {body_len}")
        if timeout_us if kind == REPLY else not call_id:
            raise self._nonsense(f"call {call_id}, timeout {timeout_us}")
        attachment = bytes(self._into[body_end:end]) if body_end < end else b""
        return Frame(code, call_id, timeout_us, bytes(self._into[PREFIX:body_end]), attachment)

    def _read(self, deadline: float | None) -> None:
        self._timeout = self._limit(socket.SO_RCVTIMEO, deadline, self._timeout)
        try:
            n = self.socket.recv_into(self._into[self._got :])
        except BlockingIOError:
            if deadline is not None and time.monotonic() < deadline:
                return  # rounding: a moment is left
            raise self._late() from None
        except ConnectionResetError:
            n = 0
        if n == 0:
            raise self._gone()
        self._got += n

    def _gone(self) -> ClosedError:
        return ClosedError(f"the peer (process {self.peer.pid or '?'}) closed the stream")

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"process {self.peer.pid or '?'} did not answer before the deadline")

    def _nonsense(self, what: str) -> ProtocolError:
        return ProtocolError(f"the peer (process {self.peer.pid}) broke the protocol: {what}", self.peer.pid)

    def shutdown(self) -> None:
        """End it, from any thread: a read under way returns."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # closed or reset already


class SocketChannel:
    """The client's end of a channel over the socket; the same doors as WindowChannel."""

    def __init__(self, frames: FrameSocket) -> None:
        self._frames = frames
        self._call_id = 0
        self._inside = threading.Lock()  # so that no descriptor is closed under a system call
        self._state = State.ACTIVE
        self._closed = False

    @property
    def state(self) -> State:
        """What the channel can do next."""
        return State.CLOSED if self._closed else self._state

    def bulk(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> Reply:
        """See WindowChannel.bulk."""
        if self._closed:
            raise ClosedError("this channel is closed")
        if self.state is not State.ACTIVE or not self._inside.acquire(blocking=False):
            raise BusyError("this channel waits for an answer")
        try:
            frame = self._exchange(number, timeout_us, body, attachment)
        finally:
            self._leave()
        if frame.code:
            raise rebuild(frame.code, frame.body)
        return Reply(frame.body, frame.attachment)

    def _exchange(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> Frame:
        frames = self._frames
        self._call_id = self._call_id % 0xFFFFFFFF + 1
        deadline = None if timeout_us == TIMEOUT_NONE else time.monotonic() + timeout_us / 1e6
        # Over, unless it ends well: an exception, also a signal's, may come with half a frame written or read.
        self._state = State.OVER
        try:
            frames.send(REQUEST, number, self._call_id, timeout_us, body, attachment, deadline)
        except CallError:  # too big: nothing was written
            self._state = State.ACTIVE
            raise
        except ClosedError as e:
            raise self._ended(e) from None
        return self._receive(deadline)

    def _receive(self, deadline: float | None) -> Frame:
        """The answer; the channel is ACTIVE then, WAITING after DeadlineExceeded, else OVER."""
        self._state = State.OVER
        try:
            frame = self._frames.receive(REPLY, deadline)
        except DeadlineExceeded:
            self._state = State.WAITING
            raise
        except (ClosedError, OSError) as e:
            raise self._ended(e) from None
        if frame.call_id != self._call_id:
            what = f"the peer answered call {frame.call_id}, asked was {self._call_id}"
            raise ProtocolError(what, self._frames.peer.pid)
        self._state = State.ACTIVE
        return frame

    def _ended(self, error: Exception) -> Exception:
        """The error for a stream that has ended, or whose descriptor close() has taken away."""
        if self._closed:
            return ClosedError("this channel is closed")
        return hang_up(self._frames.peer, str(error)) if isinstance(error, ClosedError) else error

    def _leave(self) -> None:
        self._inside.release()
        if self._closed:
            self.close()

    def cancel(self) -> None:
        """A stream cannot tell the server: it finds out when it answers."""

    def reclaim(self) -> bool:
        """Whether the late answer has come, without waiting; it is dropped. Raises when the channel is over."""
        if self.state is State.ACTIVE:
            return True
        if self.state is not State.WAITING or not self._inside.acquire(blocking=False):
            raise MisuseError(f"not possible in state {self.state.name}")
        try:
            self._receive(time.monotonic())
        except DeadlineExceeded:
            return False
        finally:
            self._leave()
        return True

    def abandon(self) -> None:
        """In a forked child: the stream is the parent's, and stays open for it."""
        self._closed = True
        self._frames.socket.close()

    def close(self) -> None:
        """End it. Any thread, idempotent; a call under way ends with ClosedError."""
        self._closed = True
        self._frames.shutdown()
        # Whoever is inside closes it on the way out: closed under a system call, a number may name another file.
        if self._inside.acquire(blocking=False):
            self._frames.socket.close()
            self._inside.release()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()
