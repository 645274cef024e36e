"""The Unix-socket transport: the same frames, written to the stream that did the handshake.

The way it was done before flipcall, kept so that the two can be compared, and for peers that cannot share
memory. u32 length, frame header, body, attachment (no padding: nothing here is read in place). Written to be a
fair peer: one write and one read a message where it is small, no poll() beside them (SO_RCVTIMEO instead).
"""

import socket
import struct
import time
from typing import NamedTuple

from .channel import Attachment, Reply
from .endpoint import State
from .errors import (
    BusyError,
    CallError,
    ClosedError,
    DeadlineExceeded,
    MisuseError,
    PeerDiedError,
    ProtocolError,
)
from .failure import rebuild
from .frame import HEADER, LENGTH, PREFIX, REPLY, REQUEST, TIMEOUT_NONE
from .liveness import Peer
from .status import Status

_BUFFER = 65536  # bytes read at once; up to here one copy into one buffer is cheaper than a second write
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

    def __init__(self, sock: socket.socket, frame_max: int) -> None:
        sock.settimeout(None)
        self.socket = sock
        self.frame_max = frame_max
        self.peer = Peer.of(sock)
        self._buffer = bytearray(_BUFFER)
        self._into = memoryview(self._buffer)
        self._got = 0  # bytes of the frame under way: a timeout in its middle loses nothing
        self._timeout = 0.0  # SO_RCVTIMEO as it is set, seconds; 0 for none

    def send(
        self, kind: int, code: int, call_id: int, timeout_us: int, body: bytes, attachment: Attachment
    ) -> None:
        """Write a frame. Raises CallError naming both sizes when it is too big: nothing was written then."""
        size = HEADER.size + len(body) + len(attachment)
        if size > self.frame_max:
            what = f"the frame needs {size} bytes, this connection allows {self.frame_max}"
            raise CallError(Status.RESOURCE_EXHAUSTED, what)
        head = LENGTH.pack(size) + HEADER.pack(kind, 0, code, call_id, len(body), timeout_us)
        try:
            if size <= _BUFFER:
                self.socket.sendall(head + body + attachment)
            else:
                self.socket.sendall(head + body)
                self.socket.sendall(attachment)
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None

    def receive(self, kind: int, deadline: float | None) -> Frame:
        """Read a frame. deadline: time.monotonic() seconds, None for none.

        Raises DeadlineExceeded (what came so far is kept: call again), PeerDiedError at the end of the stream,
        ProtocolError.
        """
        while self._got < PREFIX:
            self._read(deadline)
        (size,) = LENGTH.unpack_from(self._into)
        if not HEADER.size <= size <= self.frame_max:
            raise self._nonsense(f"a frame of {size} bytes is outside {HEADER.size}..{self.frame_max}")
        end = LENGTH.size + size
        if end > len(self._into):
            larger = memoryview(bytearray(end))
            larger[: self._got] = self._into[: self._got]
            self._into = larger
        while self._got < end:
            self._read(deadline)
        if self._got > end:
            raise self._nonsense(f"{self._got - end} bytes after a frame, out of turn")
        frame = self._parse(kind, end)
        self._got = 0
        self._into = memoryview(self._buffer)
        return frame

    def _parse(self, kind: int, end: int) -> Frame:
        got, flags, code, call_id, body_len, timeout_us = HEADER.unpack_from(self._into, LENGTH.size)
        body_end = PREFIX + body_len
        if got != kind or flags or body_end > end:
            raise self._nonsense(f"frame kind {got}, flags {flags:#x}, body_len {body_len}")
        attachment = bytes(self._into[body_end:end]) if body_end < end else b""
        return Frame(code, call_id, timeout_us, bytes(self._into[PREFIX:body_end]), attachment)

    def _read(self, deadline: float | None) -> None:
        timeout = 0.0 if deadline is None else max(deadline - time.monotonic(), 1e-6)
        if abs(timeout - self._timeout) > timeout / 64:
            whole = int(timeout)
            value = _TIMEVAL.pack(whole, int((timeout - whole) * 1e6) or (timeout > 0))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._timeout = timeout
        try:
            n = self.socket.recv_into(self._into[self._got :])
        except BlockingIOError:
            if deadline is not None and time.monotonic() < deadline:
                return  # rounding: a moment is left
            raise DeadlineExceeded(f"process {self.peer.pid} did not answer before the deadline") from None
        except ConnectionResetError:
            n = 0
        if n == 0:
            raise self._gone()
        self._got += n

    def _gone(self) -> PeerDiedError:
        return PeerDiedError(f"the peer (process {self.peer.pid}) closed the stream", self.peer.pid)

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
        self.state = State.ACTIVE

    def bulk(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> Reply:
        """See WindowChannel.bulk."""
        if self.state is not State.ACTIVE:
            raise BusyError("this channel waits for an answer")
        self._call_id = self._call_id % 0xFFFFFFFF + 1
        deadline = None if timeout_us == TIMEOUT_NONE else time.monotonic() + timeout_us / 1e6
        try:
            self._frames.send(REQUEST, number, self._call_id, timeout_us, body, attachment)
            self.state = State.WAITING
            frame = self._receive(deadline)
        except (PeerDiedError, ProtocolError, OSError) as e:
            if self.state is State.CLOSED:
                raise ClosedError("this channel is closed") from e
            if not isinstance(e, DeadlineExceeded):
                self.state = State.OVER
            raise
        if frame.code:
            raise rebuild(frame.code, frame.body)
        return Reply(frame.body, frame.attachment)

    def _receive(self, deadline: float | None) -> Frame:
        frame = self._frames.receive(REPLY, deadline)
        if frame.call_id != self._call_id:
            raise ProtocolError(
                f"answer to call {frame.call_id}, asked was {self._call_id}", self._frames.peer.pid
            )
        self.state = State.ACTIVE
        return frame

    def cancel(self) -> None:
        """A stream cannot tell the server: it finds out when it answers."""

    def reclaim(self) -> bool:
        """Whether the late answer has come, without waiting; it is dropped. Raises when the channel is over."""
        if self.state is State.ACTIVE:
            return True
        if self.state is not State.WAITING:
            raise MisuseError(f"not possible in state {self.state.name}")
        try:
            self._receive(time.monotonic())
        except DeadlineExceeded:
            return False
        return True

    def close(self) -> None:
        """End it. Any thread, idempotent."""
        self.state = State.CLOSED
        self._frames.shutdown()
        self._frames.socket.close()
