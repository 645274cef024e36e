"""The server's end of one channel: the loop of its thread, over a packet window (the socket: socketserving.py).

wait for a request ──► dispatch ──► reply and wait, in one step ──┐
        ▲──────────────────────────────────────────────────────────┘
ends at: shutdown of either side, the client's death, a protocol error, the end of the server
"""

import socket
from typing import Any, Protocol

from ._core import ffi, lib
from .buffers import address, fresh, release
from .channel import FDS_CAME, FDS_SENT, PLAIN_MAX
from .context import NO_METADATA, Context, clear_context, set_context
from .control import hand_over, take
from .dispatch import NOTHING, Answer, Dispatcher
from .endpoint import Endpoint
from .errors import CallError, MisuseError
from .failure import shortened
from .fast import BULK, LARGE, UNDECODABLE, server
from .fd import Fd
from .flow import WindowFlow, too_large
from .frame import TIMEOUT_NONE
from .liveness import Peer
from .metadata import unwrapped
from .method import encode
from .rights import NO_RIGHTS
from .status import Status

_TICK: int = lib.FC_TICK
_TOO_BIG: int = lib.FC_ERR_SIZE
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER


class Served(Protocol):
    """A channel as the server has it, whatever carries it, in a thread or a loop."""

    @property
    def busy(self) -> bool:
        """Whether a call is under way. Any thread."""
        ...

    def stop(self) -> None:
        """End it now. Any thread."""
        ...

    def close(self) -> None:
        """Give everything back. When it has ended."""
        ...


class Serving(Served, Protocol):
    """One that has a thread."""

    def serve(self) -> None:
        """Answer calls until the channel ends; raises why it ended."""
        ...

    def condemn(self) -> None:
        """The client is gone. Any thread."""
        ...

    def retire(self) -> bool:
        """End it if it is idle; whether it has ended. Any thread."""
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

    @property
    def busy(self) -> bool:
        """See Serving.busy."""
        return self._endpoint.serving

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
        return self._endpoint.retire()

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
