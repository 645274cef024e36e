"""The server's end of one channel over the socket; the same doors as WindowServing (serving.py)."""

import socket
import threading
from typing import Any

from ._core import lib
from .context import NO_METADATA, Context, clear_context, set_context
from .dispatch import NOTHING, Answer, Dispatcher
from .errors import CallError, MisuseError
from .failure import describe, shortened
from .fd import Fd
from .frame import CANCEL, HEADER, REPLY, REQUEST, TIMEOUT_NONE
from .metadata import unwrapped
from .meter import Meters
from .socketflow import SocketFlow
from .stream import Frame, FrameSocket


class SocketCalls:
    """What the call under way is told, and what is counted of it."""

    def __init__(self, frames: FrameSocket, meters: Meters | None) -> None:
        self.peer = frames.peer
        self.metadata = NO_METADATA
        self._frames = frames
        self._meters = meters
        self._timeout_us = TIMEOUT_NONE
        self._arrived_ns = 0
        self._buffer = bytearray()

    def _begin(self, frame: Frame) -> bytes:
        """A request has come; its body without the metadata before it, which context() tells."""
        self._timeout_us, self._arrived_ns = frame.timeout_us, lib.fc_now()
        self.metadata, body = NO_METADATA, frame.body
        if frame.flags & lib.FC_FLAG_META:
            self.metadata, body = unwrapped(body)
        return body

    def _instead(self, error: Exception, status: int, out: bytes) -> tuple[int, bytes]:
        """What to answer, with nothing beside it, in place of an answer that is too big, or whose descriptors
        cannot go: of an error, some of it is better than another one.
        """
        return (status, shortened(out, self._frames.message_max)) if status else describe(error)

    def _count(self, frame: Frame, answer: Answer) -> None:
        if self._meters is None:
            return
        came, went = (HEADER.size + len(a) + len(b) for a, b in ((frame.body, frame.attachment), answer[1:3]))
        took = lib.fc_now() - self._arrived_ns
        self._meters.add(frame.code, answer[0] != 0, came, went, took)

    def deadline_ns(self) -> int | None:
        """See Context.deadline_ns."""
        return None if self._timeout_us == TIMEOUT_NONE else self._arrived_ns + self._timeout_us * 1000

    def reply_view(self, n: int) -> memoryview:
        """See Context.reply_view: here a buffer of this channel, used again call after call."""
        room = self._frames.message_max
        if not 0 <= n <= room:
            raise MisuseError(f"a reply has room for {room} bytes, not {n}")
        if n > len(self._buffer):
            self._buffer = bytearray(n)
        return memoryview(self._buffer)[:n]


class SocketServing(SocketCalls):
    """A channel over the Unix socket. Borrows the socket from the server."""

    def __init__(self, frames: FrameSocket, dispatcher: Dispatcher, meters: Meters | None = None) -> None:
        super().__init__(frames, meters)
        self._dispatcher = dispatcher
        self._idle = threading.Lock()  # held while a call is served
        self._draining = self._retired = False
        self._takes_items = False  # the call under way
        self.condemn = frames.shutdown
        self.stop = frames.shutdown

    def serve(self) -> None:
        """See Serving.serve."""
        set_context(Context(self))
        frames, last = self._frames, 0
        try:
            while True:
                frame = frames.receive(None)
                if frame.kind == CANCEL and frame.call_id == last:
                    continue  # it has crossed the reply
                if frame.kind != REQUEST or not frame.call_id:
                    raise frames.nonsense(
                        f"frame kind {frame.kind}, call {frame.call_id}, instead of a request"
                    )
                last = frame.call_id
                with self._idle:
                    if self._retired:
                        return  # it was read at the moment the channel ended: do not half do it
                    answer = self._answer(frame)
                    self._count(frame, answer)  # before the client can know
                    self._reply(frame.call_id, *answer)
                    if self._draining:
                        frames.shutdown()
                        return
        finally:
            clear_context()

    def _answer(self, frame: Frame) -> Answer:
        flow, self._takes_items = None, False
        try:
            body = self._begin(frame)
            if frame.flags & lib.FC_FLAG_STREAM:
                incoming = self._dispatcher.incoming(frame.code)
                self._takes_items = incoming is not None
                flow = SocketFlow(self._frames, incoming, frame.call_id, self.deadline_ns())
            return self._dispatcher.answer(frame.code, body, memoryview(frame.attachment), frame.rights, flow)
        finally:
            frame.rights.close()

    def _reply(self, call_id: int, status: int, out: bytes, data: Any, fds: list[Fd]) -> None:
        try:
            self._frames.send(REPLY, status, call_id, 0, out, data, fds=fds)
        except (CallError, MisuseError) as e:
            status, out = self._instead(e, status, out)
            self._frames.send(REPLY, status, call_id, 0, out, NOTHING)
        finally:
            fds.clear()  # now, and not when the next request has come

    @property
    def busy(self) -> bool:
        """Whether a call is under way. Any thread."""
        return self._idle.locked()

    def retire(self) -> bool:
        """See Serving.retire."""
        self._draining = True
        if not self._idle.acquire(blocking=False):
            return False
        self._retired = True
        self._frames.shutdown()
        self._idle.release()
        return True

    def close(self) -> None:
        """See Serving.close."""
        self._frames.shutdown()

    def cancelled(self) -> bool:
        """See Context.cancelled. Who has no items to send can but cancel or hang up; of others that is seen."""
        if not self._takes_items:
            return self._frames.waiting()
        try:
            return self._frames.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
