"""The client's end of one channel over a packet window: a call is one C call and one copy.

States are the endpoint's: a channel that is ACTIVE can be called; WAITING, its last caller gave up and the
answer has not come back yet (reclaim() says when); OVER and CLOSED, it is done for.
"""

from collections.abc import Callable
from socket import socket as UnixSocket
from typing import NamedTuple

from ._core import ffi, lib
from .endpoint import Endpoint, State
from .errors import CallError
from .failure import rebuild
from .status import Status

Attachment = bytes | bytearray | memoryview
_TICK: int = lib.FC_TICK
_PLAIN_MAX = (1 << lib.FC_FRAME_CODE_SHIFT) - 1  # a result up to here: code OK, no attachment


class Reply(NamedTuple):
    """An OK reply: the msgpack body and the bulk bytes behind it, both private copies."""

    body: bytes
    attachment: bytes


class WindowChannel:
    """One channel. One thread at a time, but close() is for any. Owns endpoint and socket."""

    __slots__ = ("_ep", "_window", "call", "endpoint", "socket")

    def __init__(self, endpoint: Endpoint, sock: UnixSocket) -> None:
        self.endpoint = endpoint
        self.socket = sock
        self._ep, self._window = endpoint.core()
        self.call = self._make_call()

    def _make_call(self) -> Callable[[int, int, bytes], bytes]:
        """call(number, timeout_us, body) -> body of the reply: a closure, for it is the hottest path there is."""
        ep, fc_call, unpack = self._ep, lib.fc_call, ffi.unpack
        answer = self._window + lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
        null, settle = ffi.NULL, self._settle

        def call(number: int, timeout_us: int, body: bytes) -> bytes:
            result = fc_call(ep, number, timeout_us, body, len(body), null, 0)
            if 0 <= result <= _PLAIN_MAX:
                return unpack(answer, result)  # type: ignore[no-any-return]
            return settle(result).body

        return call

    def bulk(self, number: int, timeout_us: int, body: bytes, attachment: Attachment) -> Reply:
        """As call(), with an attachment either way."""
        if attachment:
            with memoryview(attachment) as view, ffi.from_buffer("char[]", view) as data:
                result = lib.fc_call(self._ep, number, timeout_us, body, len(body), data, len(data))
        else:
            result = lib.fc_call(self._ep, number, timeout_us, body, len(body), ffi.NULL, 0)
        if result == lib.FC_ERR_SIZE:
            need = lib.fc_attach_offset(len(body)) + len(attachment) - lib.FC_PACKET_HEADER
            raise self._too_big(need)
        return self._settle(result)

    def _settle(self, result: int) -> Reply:
        """Wait on over ticks, then the reply, or the error raised."""
        while result == _TICK:
            result = lib.fc_call_resume(self._ep)
        if result < 0:
            if result == lib.FC_ERR_TIMEOUT:
                lib.fc_cancel(self._ep)
            self.endpoint.fail(result)
        body_len = result & _PLAIN_MAX
        body = ffi.unpack(self._window + lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER, body_len)
        code = (result >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        if code:
            raise rebuild(code, body)
        frame = self._ep.received
        return Reply(body, ffi.unpack(self._window + frame.attach_off, frame.attach_len))

    def _too_big(self, need: int) -> CallError:
        have = self.endpoint.data_cap
        return CallError(
            Status.RESOURCE_EXHAUSTED,
            f"the request needs {need} bytes, the window has {have}: connect with a larger window_size",
        )

    def cancel(self) -> None:
        """Tell the server that nobody waits for the call under way."""
        lib.fc_cancel(self._ep)

    @property
    def state(self) -> State:
        """What the channel can do next."""
        return self.endpoint.state

    def reclaim(self) -> bool:
        """Whether control is back, without waiting. Raises when the channel is over."""
        result: int = lib.fc_reclaim(self._ep)
        if result not in (lib.FC_OK, _TICK):
            self.endpoint.fail(result)
        return result != _TICK

    def close(self) -> None:
        """End it. Any thread, idempotent."""
        self.endpoint.close()
        self.socket.close()
