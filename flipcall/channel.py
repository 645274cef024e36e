"""The client's end of one channel over a packet window: a call is one C call and one copy.

States are the endpoint's: a channel that is ACTIVE can be called; WAITING, its last caller gave up and the
answer has not come back yet (reclaim() says when); OVER and CLOSED, it is done for.
"""

from socket import socket as UnixSocket
from typing import NamedTuple

from ._core import ffi, lib
from .endpoint import Endpoint
from .errors import CallError
from .failure import rebuild
from .outcome import State
from .status import Status

Attachment = bytes | bytearray | memoryview
_TICK: int = lib.FC_TICK
PLAIN_MAX = (1 << lib.FC_FRAME_CODE_SHIFT) - 1  # a result up to here: code OK, no attachment


class Reply(NamedTuple):
    """An OK reply: the msgpack body and the bulk bytes behind it, both private copies."""

    body: bytes
    attachment: bytes


def message_size(body_len: int, attach_len: int) -> int:
    """Bytes of a datagram: header, body, and when there is one, the attachment with its padding."""
    if not attach_len:
        return int(lib.FC_FRAME_HEADER) + body_len
    return int(lib.fc_attach_offset(body_len)) - int(lib.FC_PACKET_HEADER) + attach_len


class WindowChannel:
    """One channel. One thread at a time, but close() is for any. Owns endpoint and socket."""

    __slots__ = ("__weakref__", "answer", "endpoint", "ep", "socket", "window")

    def __init__(self, endpoint: Endpoint, sock: UnixSocket) -> None:
        self.endpoint = endpoint
        self.socket = sock
        self.ep, self.window = endpoint.core()
        self.answer = self.window + lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER

    def bulk(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> Reply:
        """Call method `number`; the request and the reply may have an attachment.

        Raises what the call raises; CallError (RESOURCE_EXHAUSTED), naming both sizes, for a request larger than
        the window.
        """
        result = self.ask(number, timeout_us, body, attachment)
        return self.settle(result, len(body), len(attachment))

    def ask(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> int:
        """The first half of bulk(): the C core's result, for settle()."""
        what = number | timeout_us << lib.FC_CALL_TIMEOUT_SHIFT
        if len(attachment) > self.endpoint.data_cap:  # and perhaps more than a u32 can say
            result = lib.FC_ERR_SIZE
        elif attachment:
            with memoryview(attachment) as view, ffi.from_buffer("char[]", view) as data:
                result = lib.fc_call_attached(self.ep, what, body, len(body), data, len(data))
        else:
            result = lib.fc_call(self.ep, what, body, len(body))
        return int(result)

    def settle(self, result: int, body_len: int, attach_len: int = 0) -> Reply:
        """What the C core's `result` of a call means: wait on over ticks, then the reply, or the error raised.

        body_len, attach_len: of the request, for the error when it was too big.
        """
        while result == _TICK:
            result = lib.fc_call_resume(self.ep)
        if result == lib.FC_ERR_SIZE:
            raise self._too_big(message_size(body_len, attach_len))
        if result < 0:
            self.endpoint.fail(result)
        body = ffi.unpack(self.answer, result & PLAIN_MAX)
        code = (result >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        if code:
            raise rebuild(code, body)
        frame = self.ep.received
        return Reply(body, ffi.unpack(self.window + frame.attach_off, frame.attach_len))

    def _too_big(self, need: int) -> CallError:
        have = self.endpoint.data_cap
        return CallError(
            Status.RESOURCE_EXHAUSTED,
            f"the request needs {need} bytes, the window has {have}: connect with a larger window_size",
        )

    def cancel(self) -> None:
        """Tell the server that nobody waits for the call under way."""
        lib.fc_cancel(self.ep)

    @property
    def state(self) -> State:
        """What the channel can do next."""
        return self.endpoint.state

    def reclaim(self) -> bool:
        """Whether control is back, without waiting. Raises when the channel is over."""
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
