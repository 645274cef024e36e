"""The server's end of one channel: the loop of its thread, over a packet window or over the socket.

wait for a request ──► dispatch ──► reply and wait, in one step ──┐
        ▲──────────────────────────────────────────────────────────┘
ends at: shutdown of either side, the client's death, a protocol error, the end of the server
"""

import socket
import threading
from typing import Any, Protocol

from ._core import ffi, lib
from .context import Context, clear_context, set_context
from .dispatch import NOTHING, Dispatcher
from .endpoint import Endpoint
from .errors import CallError, FlipcallError, MisuseError
from .failure import describe
from .frame import REPLY, REQUEST, TIMEOUT_NONE
from .liveness import Peer
from .status import Status
from .stream import FrameSocket

_TICK: int = lib.FC_TICK
_PLAIN_MAX = (1 << lib.FC_FRAME_CODE_SHIFT) - 1
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
        self.retire = endpoint.retire
        self.stop = endpoint.shutdown
        self.close = endpoint.close

    def serve(self) -> None:
        """See Serving.serve."""
        self._endpoint.accept()
        set_context(Context(self))
        try:
            self._loop()
        finally:
            clear_context()

    def _loop(self) -> None:
        ep, body, unpack, null = self._ep, self._window + _BODY, ffi.unpack, ffi.NULL
        answer, reply_request = self._dispatcher.answer, lib.fc_reply_request
        mask, shift, attached = _PLAIN_MAX, lib.FC_FRAME_CODE_SHIFT, lib.FC_FRAME_ATTACHED
        request = lib.fc_request(ep)
        while True:
            if request < 0:
                request = self._settle(request)
            if request & attached:
                status, out, data = self._answer_bulk(request)
            else:
                status, out, data = answer(request >> shift, unpack(body, request & mask))
            if data is NOTHING:
                request = reply_request(ep, status, out, len(out), null, 0)
            else:
                request = self._reply_bulk(out, data)
            if request == lib.FC_ERR_SIZE:
                request = self._reply_too_big(len(out), len(data))

    def _settle(self, result: int) -> int:
        while result == _TICK:
            result = lib.fc_request(self._ep)
        if result < 0:
            self._endpoint.fail(result)
        return result

    def _answer_bulk(self, request: int) -> Any:
        """Answer a request whose attachment lies in the window, as a view released when the handler is done."""
        frame = self._ep.received
        start = frame.attach_off - lib.FC_PACKET_HEADER
        body = ffi.unpack(self._window + _BODY, request & _PLAIN_MAX)
        number = (request >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        view = self._endpoint.data[start : start + frame.attach_len]
        return self._dispatcher.answer_bulk(number, body, view)

    def _reply_bulk(self, out: bytes, data: Any) -> int:
        with memoryview(data) as view, ffi.from_buffer("char[]", view) as pointer:
            result: int = lib.fc_reply_request(self._ep, 0, out, len(out), pointer, len(pointer))
        return result

    def _reply_too_big(self, body_len: int, attach_len: int) -> int:
        need = lib.fc_attach_offset(body_len) - lib.FC_PACKET_HEADER + attach_len
        have = self._endpoint.data_cap
        what = f"the reply needs {need} bytes, the window has {have}: connect with a larger window_size"
        status, out = describe(CallError(Status.RESOURCE_EXHAUSTED, what))
        result: int = lib.fc_reply_request(self._ep, status, out, len(out), ffi.NULL, 0)
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

    def __init__(self, frames: FrameSocket, dispatcher: Dispatcher) -> None:
        self.peer = frames.peer
        self._frames = frames
        self._dispatcher = dispatcher
        self._idle = threading.Lock()  # held while a call is served
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
                    self._timeout_us, self._arrived_ns = frame.timeout_us, lib.fc_now()
                    if frame.attachment:
                        status, out, data = dispatcher.answer_bulk(
                            frame.code, frame.body, memoryview(frame.attachment)
                        )
                    else:
                        status, out, data = dispatcher.answer(frame.code, frame.body)
                    self._reply(frame.call_id, status, out, data)
        finally:
            clear_context()

    def _reply(self, call_id: int, status: int, out: bytes, data: Any) -> None:
        try:
            self._frames.send(REPLY, status, call_id, 0, out, data)
        except CallError as e:  # too big
            status, out = describe(e)
            self._frames.send(REPLY, status, call_id, 0, out, NOTHING)

    def retire(self) -> bool:
        """See Serving.retire."""
        if not self._idle.acquire(blocking=False):
            return False
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
        if not 0 <= n <= self._frames.frame_max:
            raise MisuseError(f"a reply has room for {self._frames.frame_max} bytes, not {n}")
        if n > len(self._buffer):
            self._buffer = bytearray(n)
        return memoryview(self._buffer)[:n]


Ended = FlipcallError | OSError  # what serve() raises in the ordinary course of things
