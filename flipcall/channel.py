"""The client's end of one channel over a packet window: a call is one C call and one copy.

States are the endpoint's: a channel that is ACTIVE can be called; WAITING, its last caller gave up and the
answer has not come back yet (reclaim() says when); OVER and CLOSED, it is done for.
"""

from socket import socket as UnixSocket
from typing import Any, NamedTuple

from ._core import ffi, lib
from .buffers import address, fresh
from .endpoint import Endpoint
from .failure import rebuild
from .flow import WindowFlow, too_large
from .items import Items
from .outcome import State

Attachment = bytes | bytearray | memoryview
_TICK: int = lib.FC_TICK
_SPLIT: int = lib.FC_FLAG_SPLIT << lib.FC_FRAME_FLAGS_SHIFT
PLAIN_MAX = (1 << lib.FC_FRAME_CODE_SHIFT) - 1  # a result up to here: code OK, no attachment


class Reply(NamedTuple):
    """An OK reply: the msgpack body and the bulk bytes behind it, both private copies."""

    body: bytes
    attachment: bytes


class WindowChannel:
    """One channel. One thread at a time, but close() is for any. Owns endpoint and socket.

    message_max: bytes of body and attachment that the server takes, and that are taken from it.
    """

    __slots__ = ("__weakref__", "answer", "endpoint", "ep", "message_max", "socket", "window")

    def __init__(self, endpoint: Endpoint, sock: UnixSocket, message_max: int) -> None:
        self.endpoint = endpoint
        self.socket = sock
        self.message_max = message_max
        self.ep, self.window = endpoint.core()
        self.answer = self.window + lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER

    def bulk(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> Reply:
        """Call method `number`; the request and the reply may have an attachment.

        Raises what the call raises; CallError (RESOURCE_EXHAUSTED), naming both sizes, for a request or a reply
        larger than message_max.
        """
        what = number | timeout_us << lib.FC_CALL_TIMEOUT_SHIFT
        if not attachment:
            return self.settle(lib.fc_call(self.ep, what, body, len(body)), what, body)
        with memoryview(attachment) as view, ffi.from_buffer("char[]", view) as data:
            if len(data) > self.endpoint.data_cap:  # and perhaps more than a u32 can say
                result = lib.FC_ERR_SIZE
            else:
                result = lib.fc_call_attached(self.ep, what, body, len(body), data, len(data))
            return self.settle(result, what, body, view)

    def settle(self, result: int, what: int, body: bytes, attachment: Any = b"") -> Reply:
        """What the C core's `result` of a call means: wait on over ticks, then the reply, or the error raised.

        what, body, attachment: of the request, which goes in parts if it was too big.
        """
        if result == lib.FC_ERR_SIZE:
            result = self._split(what, body, attachment)
        while result == _TICK:
            result = lib.fc_call_resume(self.ep)
        if result < 0:
            self.endpoint.fail(result)
        frame = self.ep.received
        if result & _SPLIT:
            reply = self._gathered(frame.whole_body, frame.whole_attach)
        else:
            reply = Reply(
                ffi.unpack(self.answer, result & PLAIN_MAX),
                ffi.unpack(self.window + frame.attach_off, frame.attach_len) if frame.attach_len else b"",
            )
        code = (result >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        if code:
            raise rebuild(code, reply.body)
        return reply

    def _split(self, what: int, body: bytes, attachment: Any) -> int:
        """Send a request in parts; bodies stay where they are until the answer is there."""
        if len(body) + len(attachment) > self.message_max:
            raise too_large("a request", len(body) + len(attachment), self.message_max)
        with ffi.from_buffer("char[]", body) as start, ffi.from_buffer("char[]", attachment) as data:
            result: int = lib.fc_call_split(self.ep, what, start, len(start), data, len(data))
            while result == _TICK:
                result = lib.fc_call_resume(self.ep)
        return result

    def _gathered(self, body_len: int, attach_len: int) -> Reply:
        """A reply that comes in parts."""
        if body_len + attach_len > self.message_max:
            raise too_large("a reply", body_len + attach_len, self.message_max)
        reply = Reply(fresh(body_len), fresh(attach_len))
        with address(reply.body) as body, address(reply.attachment) as attachment:
            result: int = _TICK
            while result == _TICK:
                result = lib.fc_gather(self.ep, body, body_len, attachment, attach_len)
        if result < 0:
            self.endpoint.fail(result)
        return reply

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
        return result != _TICK

    def abandon(self) -> None:
        """In a forked child: the channel is the parent's, who is told nothing."""
        self.socket.close()

    def close(self) -> None:
        """End it. Any thread, idempotent."""
        self.endpoint.close()
        self.socket.close()

    def __del__(self) -> None:
        if hasattr(self, "window"):
            self.close()
