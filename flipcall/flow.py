"""One streaming call over a packet window, as either side sees it (core/items.c has the theory).

             publish(), hand(), take()            `mine`: control is here, brought by a frame of `kind`
      MINE ──────── hand(kind) ────────► THEIRS
       ▲  publish(): items, no flip        │  take(): items, no flip
       └────────────── take() ◄────────────┘  ... or a frame, and with it control

A producer publishes while control is here; a consumer takes while it is not. `items` are those that have come and
were not handed out yet. One thread at a time, as for the channel it runs on.
"""

from __future__ import annotations

from typing import Any

from ._core import ffi, lib
from .buffers import address, fresh
from .endpoint import Endpoint
from .errors import CallError
from .fast import stream
from .frame import CANCEL, END, ITEMS, MORE, REPLY
from .items import Items, encode
from .outcome import Side
from .status import Status

_STREAM: int = lib.FC_FLAG_STREAM << lib.FC_WHAT_FLAGS_SHIFT
_SPLIT: int = lib.FC_FLAG_SPLIT << lib.FC_FRAME_FLAGS_SHIFT
_EARLY: int = lib.FC_FRAME_EARLY
_TICK: int = lib.FC_TICK
_LENGTH = (1 << 32) - 1
WHAT = {kind: kind << lib.FC_WHAT_KIND_SHIFT for kind in (MORE, ITEMS, END, CANCEL)}
_PUBLISHED: int = lib.FC_PUBLISHED
_STOPPED: int = lib.FC_STOPPED
_FULL: int = lib.FC_FULL
_FLIP: int = lib.FC_FLIP
_TOO_LARGE: int = lib.FC_ERR_SIZE


def too_large(what: str, size: int, most: int) -> CallError:
    """The error for a message beyond a side's limit, bytes."""
    return CallError(Status.RESOURCE_EXHAUSTED, f"{what} of {size} bytes, more than the {most} allowed")


class FlowState:
    """What of a flow does not wait. `incoming` decodes what this side receives, None when it is not sent any
    items."""

    def __init__(
        self, endpoint: Endpoint, ep: Any, window: Any, incoming: Items | None, message_max: int
    ) -> None:
        self.items: list[Any] = []
        self.mine = True
        self.kind = 0
        self.code = 0
        self.body = self.attachment = b""
        self._on_its_way: tuple[Any, ...] = ()  # keeps the memory of a request in parts until control comes
        self._endpoint = endpoint
        self._ep = ep
        self._window = window
        self._incoming = incoming
        self._message_max = message_max

    def open(self, number: int, timeout_us: int, body: bytes, attachment: Any) -> None:
        """Client: the request. Does not wait."""
        what = number | _STREAM | timeout_us << lib.FC_CALL_TIMEOUT_SHIFT
        size = len(body) + len(attachment)
        if size > self._message_max:
            raise too_large("a request", size, self._message_max)
        self.mine = False
        start, data = ffi.from_buffer("char[]", body), ffi.from_buffer("char[]", attachment)
        result = _TOO_LARGE
        if size <= self._endpoint.data_cap:
            result = lib.fc_call_attached(self._ep, what, start, len(body), data, len(data))
        if result == _TOO_LARGE:
            result = lib.fc_call_split(self._ep, what, start, len(body), data, len(data))
            self._on_its_way = (start, data)
        if result != _TICK:
            self._endpoint.fail(result)

    def hand(self, kind: int, code: int = 0) -> None:
        """Give control away, with what was published, and do not wait. Precondition: mine."""
        result = lib.fc_hand(self._ep, WHAT[kind] | code)
        if result < 0:
            self._endpoint.fail(result)
        self.mine = False

    def drain(self) -> list[Any]:
        """The items that have come and were not handed out."""
        items, self.items = self.items, []
        return items

    def _sendable(self, item: bytes) -> None:
        if len(item) > self._message_max:
            raise too_large("an item", len(item), self._message_max)

    def _give_up(self) -> None:
        """Server: nothing of what comes is wanted any more."""
        self._ep.deadline = lib.FC_NO_DEADLINE
        if not self.mine:
            lib.fc_cancel(self._ep)
        self._incoming = None

    def _came(self, result: int) -> bool:
        """What the C core's `result` has brought; whether that is the announcement of a message in parts."""
        if result < 0:
            self._endpoint.fail(result)
        frame = self._ep.received
        self.mine = not result & _EARLY
        if self.mine:
            self._on_its_way = ()
            self.kind = (result >> lib.FC_FRAME_KIND_SHIFT) or REPLY
            self.code = (result >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
            if result & _SPLIT:
                return True
            length = result & _LENGTH
            self.body = ffi.unpack(self._window + frame.body_off, length) if length else b""
            if frame.attach_len:
                self.attachment = ffi.unpack(self._window + frame.attach_off, frame.attach_len)
        if frame.items_len and self._incoming is not None:
            self.items += self._incoming.decode(ffi.unpack(self._window + frame.items_off, frame.items_len))
        return False

    def _room(self) -> tuple[bytes, bytes]:
        """Memory for the body and the attachment of a message in parts: an item, or a reply."""
        body_len, attach_len = self._ep.received.whole_body, self._ep.received.whole_attach
        if body_len + attach_len > self._message_max:
            what = "an item" if self.kind == ITEMS else "a reply"
            raise too_large(what, body_len + attach_len, self._message_max)
        return fresh(body_len), fresh(attach_len)

    def _whole(self, body: bytes, attachment: bytes) -> None:
        """All parts have come."""
        if self.kind == ITEMS and self._incoming is not None:
            self.items.append(self._incoming.decode_one(body))
        else:
            self.body, self.attachment = body, attachment


class WindowFlow(FlowState):
    """See above."""

    def __init__(
        self, endpoint: Endpoint, ep: Any, window: Any, incoming: Items | None, message_max: int
    ) -> None:
        super().__init__(endpoint, ep, window, incoming, message_max)
        self._put, self._fetch = stream(ep, window, encode)

    # ---- producing ----------------------------------------------------------------------------------------

    def give(self, item: Any) -> bool:
        """Encode an item and publish() it. The way of most items: one builtin, one C call (hotpath/items.c)."""
        put = self._put(item)
        return put is True or self._unpublished(*put)  # type: ignore[misc]

    def publish(self, item: bytes) -> bool:
        """Give the peer an item; False when it wants no more, whether or not it got this one. Precondition: mine.

        Waits while the window is full. Raises what waiting does; CallError for an item beyond the peer's limit.
        """
        return self._unpublished(lib.fc_publish(self._ep, item, len(item)), item)

    def _unpublished(self, result: int, item: bytes) -> bool:
        """Go on with the C core's `result`."""
        while result != _PUBLISHED:
            if result == _TOO_LARGE:
                return self._publish_parts(item)
            if not self._flipped(result):
                return False
            if result == _FLIP:
                return True
            result = lib.fc_publish(self._ep, item, len(item))
        return True

    def publish_bulk(self, data: memoryview) -> bool:
        """The same for bytes, which are copied once: into the window."""
        if data.nbytes > self._endpoint.data_cap:
            return self.publish(encode(data))
        with ffi.from_buffer("char[]", data) as start:
            while True:
                result = lib.fc_publish_bulk(self._ep, start, len(start))
                if result == _PUBLISHED:
                    return True
                if result == _TOO_LARGE:
                    return self.publish(encode(data))
                if not self._flipped(result):
                    return False
                if result == _FLIP:
                    return True

    def _flipped(self, result: int) -> bool:
        """The item is not there, or not noticed, before a flip; whether the peer wants more after it."""
        if result == _STOPPED:
            return False
        if result != _FULL and result != _FLIP:
            self._endpoint.fail(result)
        return self._wanted()

    def _wanted(self) -> bool:
        """flip(); whether the peer wants more.

        A caller that gives up says so, then looks once whether control has come (pool.mend). So a server that has
        given it away looks whether the caller has given up: one of the two sees the other. If it is the server,
        the handler is told at once, though control stays with the client until that looks again.
        """
        self.hand(ITEMS)
        if self._endpoint.side is Side.SERVER and lib.fc_cancelled(self._ep):
            return False
        while not self.mine:
            self.take()
        return self.kind == MORE

    def _publish_parts(self, item: bytes) -> bool:
        """An item larger than the window: in parts, once the peer has taken the others."""
        self._sendable(item)
        while True:
            with ffi.from_buffer("char[]", item) as data:
                result = lib.fc_items_split(self._ep, data, len(item))
                if result != lib.FC_ERR_TURN:
                    self._settle(result)
                    return self.kind == MORE
            if not self._wanted():
                return False

    def flip(self) -> None:
        """Let the peer take everything published so far, and wait for control. Precondition: mine."""
        self._settle(lib.fc_exchange(self._ep, WHAT[ITEMS], b"", 0))

    # ---- consuming ----------------------------------------------------------------------------------------

    def take(self) -> None:
        """Wait for items, which are in `items` then, or for control. Precondition: not mine.

        Raises DeadlineExceeded (the call's), ClosedError, PeerDiedError, ProtocolError; CallError for a message
        beyond this side's limit; what msgspec does for items that do not decode.
        """
        came = self._fetch()
        if isinstance(came, int):
            self._settle(came)
        elif self._incoming is not None:
            self.items += self._incoming.decode(came)

    def regain(self) -> None:
        """Server: get control back, whatever it costs: items are dropped, and the client is told to stop."""
        self._give_up()
        while not self.mine:
            self.take()

    def _settle(self, result: int) -> None:
        self.mine = False
        while result == _TICK:
            result = lib.fc_take(self._ep)
        if self._came(result):
            self._gather()

    def _gather(self) -> None:
        """A message in parts."""
        body, attachment = self._room()
        with address(body) as to, address(attachment) as behind:
            result = _TICK
            while result == _TICK:
                result = lib.fc_gather(self._ep, to, len(body), behind, len(attachment))
        if result:
            self._came(result)
        else:
            self._whole(body, attachment)
