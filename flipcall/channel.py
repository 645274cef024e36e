"""The client's end of one channel over a packet window: a call is one C call and one copy.

States are the endpoint's: a channel that is ACTIVE can be called; WAITING, its last caller gave up and the
answer has not come back yet (reclaim() says when); OVER and CLOSED, it is done for.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socket import socket as UnixSocket
from typing import Any, NamedTuple

from ._core import ffi, lib
from .buffers import address, fresh
from .control import drop, hand_over, take
from .endpoint import Endpoint
from .errors import CallError, ClosedError, MisuseError, ProtocolError
from .failure import rebuild
from .fast import caller
from .fd import Fd
from .filled import Filling
from .flow import WindowFlow, too_large
from .items import Items
from .landing import PRIVATE, Landing
from .outcome import State
from .rights import NO_RIGHTS, Rights

Attachment = bytes | bytearray | memoryview
_TICK: int = lib.FC_TICK
SPLIT: int = lib.FC_FLAG_SPLIT << lib.FC_FRAME_FLAGS_SHIFT
FDS_SENT: int = lib.FC_FLAG_FDS << lib.FC_WHAT_FLAGS_SHIFT
FDS_CAME: int = lib.FC_FLAG_FDS << lib.FC_FRAME_FLAGS_SHIFT
_FRAME_END: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
PLAIN_MAX = (1 << lib.FC_FRAME_CODE_SHIFT) - 1  # a result up to here: code OK, no attachment


class Reply(NamedTuple):
    """An OK reply: the msgpack body, the bulk bytes behind it (private bytes, or what a Landing made of them), and
    its descriptors.
    """

    body: bytes
    attachment: Any
    rights: Rights = NO_RIGHTS


class WindowChannel:
    """One channel. One thread at a time, but close() is for any. Owns endpoint and socket.

    message_max: bytes of body and attachment that the server takes, and that are taken from it.
    """

    __slots__ = (
        "__weakref__",
        "_inside",
        "answer",
        "call",
        "endpoint",
        "ep",
        "message_max",
        "socket",
        "window",
    )

    def __init__(self, endpoint: Endpoint, sock: UnixSocket, message_max: int) -> None:
        self.endpoint = endpoint
        self.socket = sock
        sock.setblocking(False)
        self.message_max = message_max
        self._inside = threading.Lock()  # so that the socket is not closed under a system call
        self.ep, self.window = endpoint.core()
        self.answer = self.window + lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
        self.call = caller(self.ep, self.window)  # the hottest path's door: hotpath/, stub()

    def bulk(
        self,
        number: int,
        timeout_us: int,
        body: bytes,
        attachment: Attachment,
        fds: Sequence[Fd] = (),
        landing: Landing | None = None,
    ) -> Reply:
        """Call method `number`; the request and the reply may have an attachment and descriptors.

        landing: where the reply's attachment goes; by default it is bytes.

        Raises what the call raises; CallError (RESOURCE_EXHAUSTED), naming both sizes, for a request or a reply
        larger than message_max.
        """
        what = number | timeout_us << lib.FC_CALL_TIMEOUT_SHIFT
        if fds:
            return self._bulk_with_fds(what, body, attachment, fds, landing)
        return self._bulk(what, body, attachment, landing)

    def filled(self, filling: Filling, body: bytes, streaming: bool = False) -> Attachment:
        """The attachment of a request with this body, written now: where it goes from, if it fits the window.

        Raises as Filling.write() does, CallError as bulk() does. A view of the window that is left closes it.
        """
        before = len(body) + (lib.FC_STREAM_START - _FRAME_END if streaming else 0)
        room = self.endpoint.data_cap + lib.FC_PACKET_HEADER
        if before + len(filling) > room or (start := lib.fc_attach_offset(before)) + len(filling) > room:
            self.check_size(body, filling)
            return filling.private()
        filling.write(self.window, start, self.close)
        return memoryview(ffi.buffer(self.window))[start : start + len(filling)]

    def _bulk(self, what: int, body: bytes, attachment: Attachment, landing: Landing | None) -> Reply:
        return self.settle(self.ask(what, body, attachment), what, body, attachment, landing)

    def ask(self, what: int, body: bytes, attachment: Attachment) -> int:
        """Give a request and wait; the C core's result, for settle(). FC_ERR_SIZE: it does not fit, undone."""
        if not attachment:
            return int(lib.fc_call(self.ep, what, body, len(body)))
        if type(attachment) is bytes and len(attachment) <= self.endpoint.data_cap:  # most often, and quicker
            return int(lib.fc_call_attached(self.ep, what, body, len(body), attachment, len(attachment)))
        with memoryview(attachment) as view, ffi.from_buffer("char[]", view) as data:
            if len(data) > self.endpoint.data_cap:  # and perhaps more than a u32 can say
                return int(lib.FC_ERR_SIZE)
            return int(lib.fc_call_attached(self.ep, what, body, len(body), data, len(data)))

    def _bulk_with_fds(
        self, what: int, body: bytes, attachment: Attachment, fds: Sequence[Fd], landing: Landing | None
    ) -> Reply:
        self.check_size(body, attachment)
        call_id, sent = self.ep.call_id % 0xFFFFFFFF + 1, True
        try:
            with self._guarded():
                try:
                    hand_over(self.socket, call_id, fds)
                except (CallError, MisuseError):
                    sent = False
                    raise
            return self._bulk(what | FDS_SENT, body, attachment, landing)
        except BaseException:
            if sent and self.ep.call_id != call_id:
                # They may have gone, and their frame has not: the next call would have its number, and find them.
                self.close()
            raise

    @property
    def unsent(self) -> bool:
        """Whether the last call found the connection ended before it was given: the server knows nothing of it."""
        return bool(self.ep.fault == lib.FC_FAULT_UNSENT)

    def settle(
        self, result: int, what: int, body: bytes, attachment: Any = b"", landing: Landing | None = None
    ) -> Reply:
        """What the C core's `result` of a call means: wait on over ticks, then the reply, or the error raised.

        what, body, attachment: of the request, which goes in parts if it was too big.
        """
        if result == lib.FC_ERR_SIZE:
            result = self._split(what, body, attachment)
        while result == _TICK:
            result = lib.fc_call_resume(self.ep)
        return self.came(result, landing)

    def came(self, result: int, landing: Landing | None = None) -> Reply:
        """The reply that came, or the error raised; parts that are missing yet are waited for."""
        if result < 0:
            self.endpoint.fail(result)
        rights = self.taken() if result & FDS_CAME else NO_RIGHTS
        frame = self.ep.received
        code = (result >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        if code:
            landing = None
        if result & SPLIT:
            body, attachment = self._gathered(frame.whole_body, frame.whole_attach, landing)
        else:
            body = ffi.unpack(self.answer, result & PLAIN_MAX)
            attachment = self._landed(frame.attach_off, frame.attach_len, landing)
        if code:
            raise rebuild(code, body)
        return Reply(body, attachment, rights)

    def _landed(self, start: int, size: int, landing: Landing | None) -> Any:
        if landing is not None:
            return landing.copied(self.window, start, size)
        return ffi.unpack(self.window + start, size) if size else b""

    def taken(self) -> Rights:
        """The descriptors of the reply that has come."""
        try:
            with self._guarded():
                return take(self.socket, self.ep.call_id)
        except ProtocolError:
            self.close()
            raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """The socket is not closed meanwhile: close() leaves that to whoever is inside."""
        if self._closed() or not self._inside.acquire(blocking=False):
            raise ClosedError("this channel is closed")
        try:
            yield
        finally:
            self._inside.release()
            if self._closed():
                self.close()

    def _closed(self) -> bool:
        return self.endpoint.state is State.CLOSED

    def _split(self, what: int, body: bytes, attachment: Any) -> int:
        """Send a request in parts; bodies stay where they are until the answer is there."""
        self.check_size(body, attachment)
        with ffi.from_buffer("char[]", body) as start, ffi.from_buffer("char[]", attachment) as data:
            result: int = lib.fc_call_split(self.ep, what, start, len(start), data, len(data))
            while result == _TICK:
                result = lib.fc_call_resume(self.ep)
        return result

    def check_size(self, body: bytes, attachment: Attachment | Filling) -> None:
        if len(body) + len(attachment) > self.message_max:
            raise too_large("a request", len(body) + len(attachment), self.message_max)

    def _gathered(self, body_len: int, attach_len: int, landing: Landing | None) -> tuple[bytes, Any]:
        """Body and attachment of a reply that comes in parts."""
        body, (landed, place) = self.room(body_len, attach_len, landing)
        with address(body) as to, place as behind:
            result: int = _TICK
            while result == _TICK:
                result = lib.fc_gather(self.ep, to, body_len, behind, attach_len)
        if result < 0:
            self.endpoint.fail(result)
        return body, landed

    def room(self, body_len: int, attach_len: int, landing: Landing | None) -> tuple[bytes, tuple[Any, Any]]:
        """Memory for a reply that comes in parts: its body, and what Landing.room() gives for its attachment."""
        if body_len + attach_len > self.message_max:
            raise too_large("a reply", body_len + attach_len, self.message_max)
        return fresh(body_len), (landing or PRIVATE).room(attach_len)

    def flow(self, incoming: Items | None) -> WindowFlow:
        """A streaming call over this channel, not opened yet."""
        return WindowFlow(self.endpoint, self.ep, self.window, incoming, self.message_max)

    def cancel(self) -> None:
        """Tell the server that nobody waits for the rest of the call under way."""
        lib.fc_cancel(self.ep)

    @property
    def state(self) -> State:
        """What the channel can do next. WAITING also when control is here in the middle of a call."""
        state = self.endpoint.state
        return State.WAITING if state is State.ACTIVE and self.ep.call else state

    def reclaim(self) -> bool:
        """Whether the call that was given up is over, without waiting. Raises when the channel is."""
        result: int = lib.fc_reclaim(self.ep)
        if result not in (lib.FC_OK, _TICK):
            self.endpoint.fail(result)
        if result != _TICK:
            with self._guarded():
                drop(self.socket)  # descriptors that came with the answer
        return result != _TICK

    def abandon(self) -> None:
        """In a forked child: the channel is the parent's, who is told nothing."""
        self.socket.close()

    def close(self) -> None:
        """End it. Any thread, idempotent."""
        self.endpoint.close()
        if self._inside.acquire(blocking=False):
            self.socket.close()
            self._inside.release()

    def __del__(self) -> None:
        if hasattr(self, "window"):
            self.close()
