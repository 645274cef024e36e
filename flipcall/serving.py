"""The server's end of one channel: the loop of its thread, over a packet window or over the socket.

wait for a request ──► dispatch ──► reply and wait, in one step ──┐
        ▲──────────────────────────────────────────────────────────┘
ends at: shutdown of either side, the client's death, a protocol error, the end of the server
"""

import socket
import threading
from typing import Any, Protocol

from ._core import ffi, lib
from .channel import PLAIN_MAX, message_size
from .context import Context, clear_context, set_context
from .dispatch import NOTHING, Dispatcher
from .endpoint import Endpoint
from .errors import CallError, MisuseError
from .failure import describe, shortened
from .frame import HEADER, REPLY, REQUEST, TIMEOUT_NONE
from .liveness import Peer
from .meter import Meters
from .method import encode
from .status import Status
from .stream import FrameSocket

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
    """A channel over a packet window. Owns the endpoint."""

    def __init__(self, endpoint: Endpoint, dispatcher: Dispatcher, peer: Peer) -> None:
        self.peer = peer
        self._endpoint = endpoint
        self._dispatcher = dispatcher
        self._ep, self._window = endpoint.core()
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
        self._dispatcher.drain()
        return self._endpoint.retire()

    def close(self) -> None:
        """See Serving.close. Unmaps now: an exception of a handler that is kept has this object in its frames."""
        self._endpoint.close()
        ffi.release(self._window)

    def _loop(self) -> None:
        """Answer request after request. The plain ones (no attachment, no bulk) are served right here, for every
        Python call on the way costs; the others take answer_bulk.
        """
        ep, body, unpack = self._ep, self._window + _BODY, ffi.unpack
        plain, reply_request = self._dispatcher.plain, lib.fc_reply_request
        mask, shift, count = PLAIN_MAX, lib.FC_FRAME_CODE_SHIFT, len(plain)
        request = lib.fc_request(ep)
        while True:
            if request < 0:
                request = self._settle(request)
            number = request >> shift
            way = plain[number] if number < count else None
            if way is None:
                request = self._answer(request)
                continue
            decode, handler = way
            try:
                args = decode(unpack(body, request & mask))
            except BaseException as e:
                request = self._reply(*self._dispatcher.undecodable(number, e))
                continue
            try:
                out = encode(handler(*args))
            except BaseException as e:
                request = self._reply(*self._dispatcher.failed(e))
                continue
            request = reply_request(ep, 0, out, len(out))
            if request == _TOO_BIG:
                request = self._reply_too_big(len(out), 0)

    def _answer(self, request: int) -> int:
        """Answer a request with an attachment, or a method with bulk; the next request.

        The attachment stays in the window, as a view released when the reply has gone.
        """
        frame = self._ep.received
        start = frame.attach_off - lib.FC_PACKET_HEADER
        body = ffi.unpack(self._window + _BODY, request & PLAIN_MAX)
        number = (request >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        view = self._endpoint.data[start : start + frame.attach_len]
        try:
            return self._reply(*self._dispatcher.answer(number, body, view))
        finally:
            _release(view)

    def _reply(self, status: int, out: bytes, data: Any) -> int:
        if data is NOTHING:
            result: int = lib.fc_reply_request(self._ep, status, out, len(out))
        elif len(data) > self._endpoint.data_cap:  # and perhaps more than a u32 can say
            result = _TOO_BIG
        else:
            with memoryview(data) as view, ffi.from_buffer("char[]", view) as pointer:
                result = lib.fc_reply_request_attached(self._ep, status, out, len(out), pointer, len(pointer))
        if result != _TOO_BIG:
            return result
        if status:  # an error: some of it is better than another one
            out = shortened(out, self._endpoint.data_cap - int(lib.FC_FRAME_HEADER))
            return int(lib.fc_reply_request(self._ep, status, out, len(out)))
        return self._reply_too_big(len(out), len(data))

    def _settle(self, result: int) -> int:
        while result == _TICK:
            result = lib.fc_request(self._ep)
        if result < 0:
            self._endpoint.fail(result)
        return result

    def _reply_too_big(self, body_len: int, attach_len: int) -> int:
        need = message_size(body_len, attach_len)
        have = self._endpoint.data_cap
        what = f"the reply needs {need} bytes, the window has {have}: connect with a larger window_size"
        status, out = describe(CallError(Status.RESOURCE_EXHAUSTED, what))
        result: int = lib.fc_reply_request(self._ep, status, out, len(out))
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
        if not 0 <= n <= self._endpoint.data_cap - start:
            raise MisuseError(f"a reply has room for {self._endpoint.data_cap - start} bytes, not {n}")
        return self._endpoint.data[start : start + n]


class SocketServing:
    """A channel over the Unix socket. Borrows the socket from the server."""

    def __init__(self, frames: FrameSocket, dispatcher: Dispatcher, meters: Meters | None = None) -> None:
        self.peer = frames.peer
        self._meters = meters
        self._frames = frames
        self._dispatcher = dispatcher
        self._idle = threading.Lock()  # held while a call is served
        self._retired = False
        self._timeout_us = TIMEOUT_NONE
        self._arrived_ns = 0
        self._buffer = bytearray()
        self.condemn = frames.shutdown
        self.stop = frames.shutdown

    def serve(self) -> None:
        """See Serving.serve."""
        set_context(Context(self))
        frames, dispatcher = self._frames, self._dispatcher
        try:
            while True:
                frame = frames.receive(REQUEST, None)
                with self._idle:
                    if self._retired:
                        return  # it was read at the moment the channel ended: do not half do it
                    self._timeout_us, self._arrived_ns = frame.timeout_us, lib.fc_now()
                    answer = dispatcher.answer(frame.code, frame.body, memoryview(frame.attachment))
                    self._reply(frame.call_id, *answer)
                    if self._meters is not None:
                        came, went = (
                            HEADER.size + len(a) + len(b)
                            for a, b in ((frame.body, frame.attachment), answer[1:])
                        )
                        took = lib.fc_now() - self._arrived_ns
                        self._meters.add(frame.code, answer[0] != 0, came, went, took)
        finally:
            clear_context()

    def _reply(self, call_id: int, status: int, out: bytes, data: Any) -> None:
        try:
            self._frames.send(REPLY, status, call_id, 0, out, data)
        except CallError as e:  # too big; of an error, some is better than another one
            most = self._frames.frame_max - int(lib.FC_FRAME_HEADER)
            status, out = (status, shortened(out, most)) if status else describe(e)
            self._frames.send(REPLY, status, call_id, 0, out, NOTHING)

    @property
    def busy(self) -> bool:
        """Whether a call is under way. Any thread."""
        return self._idle.locked()

    def retire(self) -> bool:
        """See Serving.retire."""
        self._dispatcher.drain()
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
        """See Context.cancelled: a stream only tells that the client has hung up."""
        try:
            return self._frames.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def reply_view(self, n: int) -> memoryview:
        """See Context.reply_view: here a buffer of this channel, used again call after call."""
        room = self._frames.frame_max - lib.FC_FRAME_HEADER
        if not 0 <= n <= room:
            raise MisuseError(f"a reply has room for {room} bytes, not {n}")
        if n > len(self._buffer):
            self._buffer = bytearray(n)
        return memoryview(self._buffer)[:n]


def _release(view: memoryview) -> None:
    try:
        view.release()
    except BufferError:
        pass  # the handler built something upon it, which keeps the memory, though not its content
