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
from .control import drop, hand_over, take
from .endpoint import Endpoint
from .errors import CallError, ClosedError, MisuseError, ProtocolError
from .failure import rebuild
from .fd import Fd
from .landing import Landing
from .outcome import State
from .rights import NO_RIGHTS, Rights
from .status import Status

Attachment = bytes | bytearray | memoryview
_TICK: int = lib.FC_TICK
FDS_SENT: int = lib.FC_FLAG_FDS << lib.FC_WHAT_FLAGS_SHIFT
FDS_CAME: int = lib.FC_FLAG_FDS << lib.FC_FRAME_FLAGS_SHIFT
PLAIN_MAX = (1 << lib.FC_FRAME_CODE_SHIFT) - 1  # a result up to here: code OK, no attachment


class Reply(NamedTuple):
    """An OK reply: the msgpack body, the bulk bytes behind it (private bytes, or what a Landing made of them), and
    its descriptors.
    """

    body: bytes
    attachment: Any
    rights: Rights = NO_RIGHTS


def message_size(body_len: int, attach_len: int) -> int:
    """Bytes of a datagram: header, body, and when there is one, the attachment with its padding."""
    if not attach_len:
        return int(lib.FC_FRAME_HEADER) + body_len
    return int(lib.fc_attach_offset(body_len)) - int(lib.FC_PACKET_HEADER) + attach_len


class WindowChannel:
    """One channel. One thread at a time, but close() is for any. Owns endpoint and socket."""

    __slots__ = ("__weakref__", "_inside", "answer", "endpoint", "ep", "socket", "window")

    def __init__(self, endpoint: Endpoint, sock: UnixSocket) -> None:
        self.endpoint = endpoint
        self.socket = sock
        sock.setblocking(False)
        self._inside = threading.Lock()  # so that the socket is not closed under a system call
        self.ep, self.window = endpoint.core()
        self.answer = self.window + lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER

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

        Raises what the call raises; CallError (RESOURCE_EXHAUSTED), naming both sizes, for a request larger than
        the window.
        """
        what = number | timeout_us << lib.FC_CALL_TIMEOUT_SHIFT
        call = self._call_with_fds if fds else self._call
        return self.settle(call(what, body, attachment, fds), len(body), len(attachment), landing)

    def _call(self, what: int, body: bytes, attachment: Attachment, fds: Sequence[Fd]) -> int:
        if len(attachment) > self.endpoint.data_cap:  # and perhaps more than a u32 can say
            result: int = lib.FC_ERR_SIZE
        elif attachment:
            with memoryview(attachment) as view, ffi.from_buffer("char[]", view) as data:
                result = lib.fc_call_attached(self.ep, what, body, len(body), data, len(data))
        else:
            result = lib.fc_call(self.ep, what, body, len(body))
        return result

    def _call_with_fds(self, what: int, body: bytes, attachment: Attachment, fds: Sequence[Fd]) -> int:
        if message_size(len(body), len(attachment)) > self.endpoint.data_cap:
            return int(lib.FC_ERR_SIZE)
        try:
            with self._guarded():
                hand_over(self.socket, self.ep.call_id % 0xFFFFFFFF + 1, fds)
            return self._call(what | FDS_SENT, body, attachment, fds)
        except (CallError, MisuseError):
            raise  # nothing was sent
        except BaseException:
            # They went without their frame, it may be: the next call would have that number, and with it these.
            self.close()
            raise

    def settle(
        self, result: int, body_len: int, attach_len: int = 0, landing: Landing | None = None
    ) -> Reply:
        """What the C core's `result` of a call means: wait on over ticks, then the reply, or the error raised.

        body_len, attach_len: of the request, for the error when it was too big.
        """
        while result == _TICK:
            result = lib.fc_call_resume(self.ep)
        if result == lib.FC_ERR_SIZE:
            raise self._too_big(message_size(body_len, attach_len))
        if result < 0:
            self.endpoint.fail(result)
        rights = self._taken() if result & FDS_CAME else NO_RIGHTS
        body = ffi.unpack(self.answer, result & PLAIN_MAX)
        code = (result >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        if code:
            raise rebuild(code, body)
        frame = self.ep.received
        start, size = frame.attach_off, frame.attach_len
        if landing is None:
            return Reply(body, ffi.unpack(self.window + start, size), rights)
        return Reply(body, landing.copied(self.window, start, size), rights)

    def _taken(self) -> Rights:
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
