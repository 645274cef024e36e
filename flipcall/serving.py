"""The server's end of one channel: the loop of its thread, over a packet window or over the socket.

wait for a request ──► dispatch ──► reply and wait, in one step ──┐
        ▲──────────────────────────────────────────────────────────┘
ends at: shutdown of either side, the client's death, a protocol error, the end of the server
"""

import socket
import threading
from typing import Any, Protocol

from ._core import ffi, lib
from .buffers import address, fresh
from .channel import FDS_CAME, FDS_SENT, PLAIN_MAX
from .context import NO_METADATA, Context, clear_context, set_context
from .control import hand_over, take
from .dispatch import NOTHING, Answer, Dispatcher
from .endpoint import Endpoint
from .errors import CallError, MisuseError
from .failure import describe, shortened
from .fast import BULK, LARGE, UNDECODABLE, server
from .fd import Fd
from .flow import WindowFlow, too_large
from .frame import CANCEL, HEADER, REPLY, REQUEST, TIMEOUT_NONE
from .liveness import Peer
from .metadata import unwrapped
from .meter import Meters
from .method import encode
from .rights import NO_RIGHTS
from .socketflow import SocketFlow
from .status import Status
from .stream import Frame, FrameSocket

_TICK: int = lib.FC_TICK
_TOO_BIG: int = lib.FC_ERR_SIZE
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER


class Serving(Protocol):
    """What the server does with a channel, whatever carries it."""

    def serve(self) -> None:
        """Answer calls until the channel ends; raises why it ended."""
        ...

    def condemn(self) -> None:
        """The client is gone. Any thread."""
        ...

    def retire(self) -> bool:
        """End it if it is idle; whether it has ended. Any thread."""
        ...

    def stop(self) -> None:
        """End it now. Any thread."""
        ...

    def close(self) -> None:
        """Give everything back. After serve()."""
        ...


class WindowServing:
    """A channel over a packet window. Owns the endpoint, borrows the control socket from the server."""

    def __init__(
        self, endpoint: Endpoint, dispatcher: Dispatcher, peer: Peer, message_max: int, control: socket.socket
    ) -> None:
        self.peer = peer
        self._control = control
        control.setblocking(False)
        self._message_max = message_max
        self._buffer = bytearray()  # for a reply_view larger than the window
        self._endpoint = endpoint
        self._dispatcher = dispatcher
        self._ep, self._window = endpoint.core()
        self.metadata = NO_METADATA
        self.condemn = endpoint.condemn
        self.stop = endpoint.shutdown

    def serve(self) -> None:
        """See Serving.serve."""
        self._endpoint.accept()
        set_context(Context(self))
        try:
            self._loop()
        finally:
            clear_context()

    def retire(self) -> bool:
        """See Serving.retire. An answer just given stays given: the state says so (proto/window.md)."""
        self._endpoint.drain()
        return not self._ep.call and self._endpoint.retire()

    def close(self) -> None:
        """See Serving.close. Unmaps now: an exception of a handler that is kept has this object in its frames."""
        self._endpoint.close()
        ffi.release(self._window)

    def _loop(self) -> None:
        """Answer request after request: those that are nothing but a body, and want nothing but a body or bytes,
        in a builtin (hotpath/), others by _answer().
        """
        serve = server(self._ep, self._window, self._dispatcher.plain, encode)
        request: int = lib.fc_request(self._ep)
        while True:
            came: Any = serve(request)
            if came.__class__ is tuple:
                request = self._unanswered(*came)
            elif came < 0:
                request = self._settle(came)
            else:
                request = self._answer(came)

    def _unanswered(self, why: int, number: int, value: Any) -> int:
        """Answer a plain request that serve() has not answered; the next."""
        if why == LARGE:
            return self._reply(0, value, NOTHING, [])
        if why == BULK:
            return self._reply(*self._dispatcher.packed(number, value))
        if why == UNDECODABLE:
            return self._reply(*self._dispatcher.undecodable(number, value))
        return self._reply(*self._dispatcher.failed(value))

    def _answer(self, request: int) -> int:
        """Answer a request that is large, has an attachment or opens a stream, or of a method with bulk; the next.

        An attachment that fits stays in the window, as a view released when the reply has gone.
        """
        frame = self._ep.received
        number = (request >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        flags = request >> lib.FC_FRAME_FLAGS_SHIFT
        rights = take(self._control, frame.call_id) if request & FDS_CAME else NO_RIGHTS
        view, flow = memoryview(b""), None
        try:
            if flags & lib.FC_FLAG_SPLIT:
                body, attachment = self._gathered()
                view = memoryview(attachment)
            else:
                body, view = self._whole(request)
            if flags & lib.FC_FLAG_META:
                self.metadata, body = unwrapped(body)
            if flags & lib.FC_FLAG_STREAM:
                incoming = self._dispatcher.incoming(number)
                flow = WindowFlow(self._endpoint, self._ep, self._window, incoming, self._message_max)
            return self._reply(*self._dispatcher.answer(number, body, view, rights, flow), flow)
        except CallError as e:  # what came in parts was too large, or was given up
            return self._reply(*self._dispatcher.failed(e))
        finally:
            self.metadata = NO_METADATA
            release(view)
            rights.close()

    def _whole(self, request: int) -> tuple[bytes, memoryview]:
        """Body and attachment of a request that fits the window; the view is of the window."""
        frame = self._ep.received
        start = frame.attach_off - lib.FC_PACKET_HEADER
        body = ffi.unpack(self._window + frame.body_off, request & PLAIN_MAX)
        return body, self._endpoint.data[start : start + frame.attach_len]

    def _gathered(self) -> tuple[bytes, bytes]:
        """A request that comes in parts."""
        body, attachment = self._room()
        with address(body) as to, address(attachment) as behind:
            result: int = _TICK
            while result == _TICK:
                result = lib.fc_gather(self._ep, to, len(body), behind, len(attachment))
        self._complete(result)
        return body, attachment

    def _room(self) -> tuple[bytes, bytes]:
        """Memory for body and attachment of a request in parts. Raises CallError when it is too large."""
        body_len, attach_len = self._ep.received.whole_body, self._ep.received.whole_attach
        if body_len + attach_len > self._message_max:
            raise too_large("a request", body_len + attach_len, self._message_max)
        return fresh(body_len), fresh(attach_len)

    def _complete(self, result: int) -> None:
        """Raise CallError when the client has given up before all parts came."""
        if result < 0:
            self._endpoint.fail(result)
        if result:
            raise CallError(Status.CANCELLED, "the caller gave up")

    def _reply(
        self, status: int, out: bytes, data: Any, fds: list[Fd], flow: WindowFlow | None = None
    ) -> int:
        """Answer, in parts if need be; the next request."""
        if fds:
            return self._reply(*self._handed_over(status, out, fds))
        result: int = self._fit(status, out, data)
        if result == _TOO_BIG and flow is not None:
            flow.flip()  # let the items in front of it be taken
            result = self._fit(status, out, data)
        if result != _TOO_BIG:
            return result
        with memoryview(data) as view, ffi.from_buffer("char[]", view) as pointer:
            if len(out) + len(pointer) <= self._message_max:
                with ffi.from_buffer("char[]", out) as start:
                    result = lib.fc_reply_split(self._ep, status, start, len(start), pointer, len(pointer))
                    while result == _TICK and self._ep.call:  # until it has gone
                        result = lib.fc_request(self._ep)
                return result
        return self._reply(*self._too_large(status, out, data))

    def _fit(self, status: int, out: bytes, data: Any) -> int:
        """Answer, if that fits the window: the next request; else _TOO_BIG, with nothing done."""
        if type(data) is bytes and len(data) <= self._endpoint.data_cap:  # most often, and quicker
            return int(lib.fc_reply_request_attached(self._ep, status, out, len(out), data, len(data)))
        with memoryview(data) as view, ffi.from_buffer("char[]", view) as pointer:
            if len(pointer) > self._endpoint.data_cap:  # and perhaps more than a u32 can say
                return _TOO_BIG
            return int(lib.fc_reply_request_attached(self._ep, status, out, len(out), pointer, len(pointer)))

    def _too_large(self, status: int, out: bytes, data: Any) -> Answer:
        """What to answer in place of an answer larger than a message may be."""
        if status:  # an error: some of it is better than another one
            return status, shortened(out, self._message_max), NOTHING, []
        size = len(out) + memoryview(data).nbytes
        return self._dispatcher.failed(too_large("a reply", size, self._message_max))

    def _handed_over(self, status: int, out: bytes, fds: list[Fd]) -> Answer:
        """The answer without its descriptors, which have gone; or what to answer instead."""
        if len(out) > self._message_max:
            return self._dispatcher.failed(too_large("a reply", len(out), self._message_max))
        try:
            hand_over(self._control, self._ep.received.call_id, fds)
        except (CallError, MisuseError) as e:
            return self._dispatcher.failed(e)
        finally:
            fds.clear()  # now, and not when the next request has come
        return status | FDS_SENT, out, NOTHING, []

    def _settle(self, result: int) -> int:
        while result == _TICK:
            result = lib.fc_request(self._ep)
        if result < 0:
            self._endpoint.fail(result)
        return result

    # ---- what context() tells ---------------------------------------------------------------------------

    def deadline_ns(self) -> int | None:
        """See Context.deadline_ns."""
        frame = self._ep.received
        return None if frame.timeout_us == TIMEOUT_NONE else frame.arrived_ns + frame.timeout_us * 1000

    def cancelled(self) -> bool:
        """See Context.cancelled."""
        return self._endpoint.cancelled()

    def reply_view(self, n: int) -> memoryview:
        """See Context.reply_view."""
        start = lib.fc_attach_offset(0) - lib.FC_PACKET_HEADER
        if not 0 <= n <= self._message_max:
            raise MisuseError(f"a reply has room for {self._message_max} bytes, not {n}")
        if n <= self._endpoint.data_cap - start:
            return self._endpoint.data[start : start + n]
        if n > len(self._buffer):
            self._buffer = bytearray(n)
        return memoryview(self._buffer)[:n]


class SocketServing:
    """A channel over the Unix socket. Borrows the socket from the server."""

    def __init__(self, frames: FrameSocket, dispatcher: Dispatcher, meters: Meters | None = None) -> None:
        self.peer = frames.peer
        self._meters = meters
        self.metadata = NO_METADATA
        self._frames = frames
        self._dispatcher = dispatcher
        self._idle = threading.Lock()  # held while a call is served
        self._draining = self._retired = False
        self._takes_items = False  # the call under way
        self._timeout_us = TIMEOUT_NONE
        self._arrived_ns = 0
        self._buffer = bytearray()
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
                    self._timeout_us, self._arrived_ns = frame.timeout_us, lib.fc_now()
                    answer = self._answer(frame)
                    self._reply(frame.call_id, *answer)
                    if self._meters is not None:
                        self._count(frame, answer)
                    if self._draining:
                        frames.shutdown()
                        return
        finally:
            clear_context()

    def _count(self, frame: Frame, answer: Answer) -> None:
        assert self._meters is not None
        came, went = (HEADER.size + len(a) + len(b) for a, b in ((frame.body, frame.attachment), answer[1:3]))
        took = lib.fc_now() - self._arrived_ns
        self._meters.add(frame.code, answer[0] != 0, came, went, took)

    def _answer(self, frame: Frame) -> Answer:
        flow, body, self.metadata = None, frame.body, NO_METADATA
        self._takes_items = False
        try:
            if frame.flags & lib.FC_FLAG_META:
                self.metadata, body = unwrapped(body)
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
            # Too big, or its descriptors cannot go; of an error, some is better than another one.
            most = self._frames.message_max
            status, out = (status, shortened(out, most)) if status else describe(e)
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

    def deadline_ns(self) -> int | None:
        """See Context.deadline_ns."""
        return None if self._timeout_us == TIMEOUT_NONE else self._arrived_ns + self._timeout_us * 1000

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

    def reply_view(self, n: int) -> memoryview:
        """See Context.reply_view: here a buffer of this channel, used again call after call."""
        room = self._frames.message_max
        if not 0 <= n <= room:
            raise MisuseError(f"a reply has room for {room} bytes, not {n}")
        if n > len(self._buffer):
            self._buffer = bytearray(n)
        return memoryview(self._buffer)[:n]


def release(view: memoryview) -> None:
    try:
        view.release()
    except BufferError:
        pass  # the handler built something upon it, which keeps the memory, though not its content
