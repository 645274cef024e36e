"""The client's end of a channel over the Unix socket; the same doors as WindowChannel (channel.py)."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ._core import ffi
from .channel import Attachment, Reply
from .errors import (
    BusyError,
    CallError,
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ForkedError,
    MisuseError,
    ProtocolError,
)
from .failure import rebuild
from .fd import Fd
from .filled import Filling
from .flow import too_large
from .frame import CANCEL, FLAG_FDS, HEADER, REPLY, REQUEST, TIMEOUT_NONE
from .items import Items
from .landing import Landing
from .liveness import hang_up
from .outcome import State
from .socketflow import SocketFlow
from .stream import Frame, FrameSocket

_CANCEL = struct.Struct("=IBBHIII")  # a length, and a header
_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def reply_of(frame: Frame, landing: Landing | None) -> Reply:
    """What an answer says. Raises what it is, if it is an error."""
    if frame.code:
        raise rebuild(frame.code, frame.body)
    landed = frame.attachment
    if landing is not None:
        landed = landing.copied(ffi.from_buffer("char[]", landed), 0, len(landed))
    return Reply(frame.body, landed, frame.rights)


def filled(frames: FrameSocket, filling: Filling, body: bytes) -> Attachment:
    """See WindowChannel.filled."""
    if len(body) + len(filling) > frames.message_max:
        raise too_large("a message", len(body) + len(filling), frames.message_max)
    return filling.private()


class SocketChannel:
    """The client's end of a channel over the socket; the same doors as WindowChannel."""

    def __init__(self, frames: FrameSocket) -> None:
        self.frames = frames
        self.call_id = 0
        self._inside = threading.Lock()  # so that no descriptor is closed under a system call
        self._state = State.ACTIVE
        self._closed = self._forked = False

    @property
    def state(self) -> State:
        """What the channel can do next."""
        return State.CLOSED if self._closed else self._state

    @property
    def unsent(self) -> bool:
        """See WindowChannel.unsent: a stream does not tell."""
        return False

    def bulk(
        self,
        number: int,
        timeout_us: int,
        body: bytes,
        attachment: Attachment,
        fds: Sequence[Fd] = (),
        landing: Landing | None = None,
    ) -> Reply:
        """See WindowChannel.bulk."""
        if self._closed:
            raise self._shut()
        if self.state is not State.ACTIVE or not self._inside.acquire(blocking=False):
            raise BusyError("this channel waits for an answer")
        try:
            frame = self._exchange(number, timeout_us, body, attachment, fds)
        finally:
            self._leave()
        return reply_of(frame, landing)

    def filled(self, filling: Filling, body: bytes, streaming: bool = False) -> Attachment:
        """See WindowChannel.filled."""
        return filled(self.frames, filling, body)

    def _exchange(
        self, number: int, timeout_us: int, body: bytes, attachment: Attachment, fds: Sequence[Fd]
    ) -> Frame:
        frames = self.frames
        self.call_id = self.call_id % 0xFFFFFFFF + 1
        deadline = None if timeout_us == TIMEOUT_NONE else time.monotonic() + timeout_us / 1e6
        # Over, unless it ends well: an exception, also a signal's, may come with half a frame written or read.
        self._state = State.OVER
        try:
            frames.send(REQUEST, number, self.call_id, timeout_us, body, attachment, deadline, fds=fds)
        except (CallError, MisuseError):  # too big, or descriptors that cannot go: nothing was written
            self._state = State.ACTIVE
            raise
        except ClosedError as e:
            raise self._ended(e) from None
        return self._receive(deadline)

    def flow(self, incoming: Items | None) -> SocketFlow:
        """See WindowChannel.flow."""
        if self.state is not State.ACTIVE:
            raise BusyError("this channel waits for an answer")
        self.call_id = self.call_id % 0xFFFFFFFF + 1
        flow = SocketFlow(self.frames, incoming, self.call_id, None, client=True)
        flow.step = self._step
        return flow

    @contextmanager
    def _step(self, flow: SocketFlow) -> Iterator[None]:
        """One read or write of a stream, by one thread. OVER, unless it ends well, as in _exchange()."""
        if self._closed or not self._inside.acquire(blocking=False):
            raise self._shut() if self._closed else BusyError("this channel is in use")
        self._state = State.OVER
        try:
            yield
            self._state = State.ACTIVE if flow.over else State.WAITING
        except DeadlineExceeded:
            self._state = State.WAITING
            raise
        except (ClosedError, OSError) as e:
            raise self._ended(e) from None
        finally:
            self._leave()

    def _receive(self, deadline: float | None) -> Frame:
        """The answer; the channel is ACTIVE then, WAITING after DeadlineExceeded, else OVER."""
        self._state = State.OVER
        try:
            frame = self.frames.receive(deadline)
        except DeadlineExceeded:
            self._state = State.WAITING
            raise
        except (ClosedError, OSError) as e:
            raise self._ended(e) from None
        if frame.kind != REPLY or frame.flags & ~FLAG_FDS:
            raise self.frames.nonsense(f"frame kind {frame.kind}, flags {frame.flags:#x}, instead of a reply")
        if frame.call_id != self.call_id:
            what = f"the peer answered call {frame.call_id}, asked was {self.call_id}"
            raise ProtocolError(what, self.frames.peer.pid)
        self._state = State.ACTIVE
        return frame

    def _ended(self, error: Exception) -> Exception:
        """The error for a stream that has ended, or whose descriptor close() has taken away."""
        if self._closed:
            return self._shut()
        return hang_up(self.frames.peer, str(error)) if isinstance(error, ClosedError) else error

    def _shut(self) -> FlipcallError:
        """Why nothing goes over a closed channel."""
        if self._forked:
            return ForkedError("this channel belongs to the parent process: connect again after fork()")
        return ClosedError("this channel is closed")

    def _leave(self) -> None:
        self._inside.release()
        if self._closed:
            self.close()

    def cancel(self) -> None:
        """Tell the server that nobody waits for the call under way, if there is room for it."""
        try:
            self.frames.socket.send(_CANCEL.pack(HEADER.size, CANCEL, 0, 0, self.call_id, 0, 0), _AT_ONCE)
        except OSError:
            pass  # it finds out when it answers

    def reclaim(self) -> bool:
        """Whether the late answer has come, without waiting; it is dropped. Raises when the channel is over."""
        if self.state is State.ACTIVE:
            return True
        if self.state is not State.WAITING or not self._inside.acquire(blocking=False):
            raise MisuseError(f"not possible in state {self.state.name}")
        try:
            while True:  # what a stream has sent meanwhile is dropped, too
                if self._last(self.frames.receive(time.monotonic())):
                    self._state = State.ACTIVE
                    return True
        except DeadlineExceeded:
            return False
        except FlipcallError:
            self._state = State.OVER
            raise
        finally:
            self._leave()

    def _last(self, frame: Frame) -> bool:
        """Is it the end of the call that was given up?"""
        if frame.call_id != self.call_id:
            what = f"the peer answered call {frame.call_id}, asked was {self.call_id}"
            raise ProtocolError(what, self.frames.peer.pid)
        return frame.kind == REPLY

    def abandon(self) -> None:
        """In a forked child: the stream is the parent's, and stays open for it."""
        self._closed = self._forked = True
        self.frames.socket.close()

    def close(self) -> None:
        """End it. Any thread, idempotent; a call under way ends with ClosedError."""
        self._closed = True
        self.frames.shutdown()
        # Whoever is inside closes it on the way out: closed under a system call, a number may name another file.
        if self._inside.acquire(blocking=False):
            self.frames.socket.close()
            self._inside.release()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()
