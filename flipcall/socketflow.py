"""One streaming call over the socket, as either side sees it; the same doors as WindowFlow (flow.py).

A stream socket can hold items that nobody has asked for yet, so the producer sends each as it comes (ITEMS with
code EARLY: control stays) and gives control away after AHEAD bytes, which bounds what lies in the kernel. Whoever
is not to speak may say one thing all the same: CANCEL, once a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .frame import CANCEL, END, ITEMS, MORE, REPLY, REQUEST, STREAM, TIMEOUT_NONE
from .items import Items, encode
from .stream import Frame, FrameSocket

EARLY = 1  # code of ITEMS: more may follow
AHEAD = 65536  # bytes, and so many for each message beside its own, which the kernel counts, too:
EACH = 1024  # a producer must come to ask whether it shall stop, not sleep in a write


class SocketFlowState:
    """What a streaming call over the socket knows, and what the frames that come make of it.

    deadline_ns: CLOCK_MONOTONIC, of the call.
    """

    def __init__(
        self,
        frames: FrameSocket,
        incoming: Items | None,
        call_id: int,
        deadline_ns: int | None,
        client: bool = False,
    ) -> None:
        self.items: list[Any] = []
        self.mine = True
        self.kind = 0
        self.code = 0
        self.body = self.attachment = b""
        self._frames = frames
        self._incoming = incoming
        self._call_id = call_id
        self._deadline = None if deadline_ns is None else deadline_ns / 1e9
        self._client = client
        self._ahead = 0
        self._stopped = False

    @property
    def over(self) -> bool:
        """The reply has come."""
        return self.mine and self.kind == REPLY

    def drain(self) -> list[Any]:
        """See WindowFlow.drain."""
        items, self.items = self.items, []
        return items

    def _came(self, frame: Frame) -> None:
        possible = (MORE, ITEMS, REPLY, CANCEL) if self._client else (MORE, ITEMS, END, CANCEL)
        out_of_turn = self.mine and frame.kind != CANCEL
        if frame.kind not in possible or out_of_turn or frame.call_id != self._call_id:
            raise self._frames.nonsense(f"frame kind {frame.kind} of call {frame.call_id}, in a stream")
        if frame.kind == ITEMS:
            if frame.body and self._incoming is not None:
                self.items.append(self._incoming.decode_one(frame.body))
            self.mine = frame.code != EARLY
        elif frame.kind == CANCEL:
            self._stopped = True
            self.mine = self.mine or not self._client
        else:
            self.mine = True
        if self.mine and not (frame.kind == CANCEL and self._client):
            self.kind, self.code = frame.kind, frame.code
            if frame.kind == REPLY:
                self.body, self.attachment = frame.body, frame.attachment


class SocketFlow(SocketFlowState):
    """See above. step: entered around all reading and writing."""

    step: Callable[[SocketFlow], AbstractContextManager[Any]] = nullcontext

    def open(self, number: int, timeout_us: int, body: bytes, attachment: Any) -> None:
        """Client: the request. Does not wait for an answer."""
        if timeout_us != TIMEOUT_NONE:
            self._deadline = time.monotonic() + timeout_us / 1e6
        with self.step(self):
            self._send(REQUEST, number, body, attachment, timeout_us)
        self.mine = False

    def give(self, item: Any) -> bool:
        """See WindowFlow.give."""
        return self.publish(encode(item))

    def publish(self, item: bytes) -> bool:
        """See WindowFlow.publish."""
        with self.step(self):
            self._send(ITEMS, EARLY, item)
            self._ahead += len(item) + EACH
            while self._frames.waiting():  # nothing but CANCEL is said out of turn
                self._receive()
        if self._stopped:
            return False
        if self._ahead >= AHEAD:
            self.flip()
            return self.kind == MORE
        return True

    def publish_bulk(self, data: memoryview) -> bool:
        """See WindowFlow.publish_bulk."""
        return self.publish(encode(data))

    def flip(self) -> None:
        """See WindowFlow.flip."""
        self.hand(ITEMS)
        while not self.mine:
            self.take()

    def hand(self, kind: int, code: int = 0) -> None:
        """See WindowFlow.hand."""
        with self.step(self):
            self._send(kind, code)
        self._ahead = 0
        self.mine = False

    def take(self) -> None:
        """See WindowFlow.take."""
        with self.step(self):
            self._receive()

    def regain(self) -> None:
        """See WindowFlow.regain."""
        self._deadline = None
        if not self.mine:
            self._send(CANCEL, 0)
        while not self.mine:
            self._incoming = None
            self.take()

    def _send(
        self, kind: int, code: int, body: bytes = b"", attachment: Any = b"", timeout_us: int = 0
    ) -> None:
        self._frames.send(
            kind, code, self._call_id, timeout_us, body, attachment, self._deadline, flags=STREAM
        )

    def _receive(self) -> None:
        self._came(self._frames.receive(self._deadline))
