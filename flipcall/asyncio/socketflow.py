"""One streaming call over the socket in an event loop: flipcall.socketflow, its waits awaited."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..frame import CANCEL, ITEMS, MORE, REQUEST, STREAM, TIMEOUT_NONE
from ..items import Items, encode
from ..socketflow import AHEAD, EACH, EARLY, SocketFlowState
from ..stream import Frame
from .stream import LoopFrames
from .waiter import Waiter

_HELD = 2 * AHEAD  # bytes of items that nobody has taken yet: an honest peer waits long before


class LoopSocketFlow(SocketFlowState):
    """Every method is as SocketFlow's of the same name. Who reads the socket tells what comes.

    room: called when `full` no longer holds.
    """

    def __init__(
        self,
        frames: LoopFrames,
        incoming: Items | None,
        call_id: int,
        deadline_ns: int | None,
        loop: asyncio.AbstractEventLoop,
        room: Callable[[], None],
        client: bool = False,
    ) -> None:
        super().__init__(frames, incoming, call_id, deadline_ns, client)
        self.opened = False
        self._stream = frames
        self._room = room
        self._inbox: deque[Frame] = deque()
        self._held = 0
        self._fault: Exception | None = None  # why nothing will come any more
        self._waiter = Waiter(loop)

    # ---- for who reads the socket -------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Nothing more is to be read for now."""
        return self._held > _HELD

    def heard(self, frame: Frame) -> None:
        """It has come."""
        self._inbox.append(frame)
        self._held += len(frame.body)
        self._waiter.wake()

    def ended(self, error: Exception) -> None:
        """Nothing will come any more."""
        self._fault = error
        self._waiter.wake()

    # ---- for the call's task ------------------------------------------------------------------------------

    def open(self, number: int, timeout_us: int, body: bytes, attachment: Any) -> None:
        """See WindowFlow.open."""
        if timeout_us != TIMEOUT_NONE:
            self._deadline = time.monotonic() + timeout_us / 1e6
        self._stream.put(
            REQUEST, number, self._call_id, body, attachment, flags=STREAM, timeout_us=timeout_us
        )
        self.opened, self.mine = True, False

    async def publish(self, item: bytes) -> bool:
        """See WindowFlow.publish."""
        self._put(ITEMS, EARLY, item)
        self._ahead += len(item) + EACH
        await self._stream.drained(self._deadline)
        while self._inbox:  # nothing but CANCEL is said out of turn
            self._came(self._next())
        if self._stopped:
            return False
        if self._ahead >= AHEAD:
            await self.flip()
            return self.kind == MORE
        return True

    async def publish_bulk(self, data: memoryview) -> bool:
        """See WindowFlow.publish_bulk."""
        return await self.publish(encode(data))

    async def flip(self) -> None:
        """See WindowFlow.flip."""
        self.hand(ITEMS)
        while not self.mine:
            await self.take()

    def hand(self, kind: int, code: int = 0) -> None:
        """See WindowFlow.hand."""
        self._put(kind, code)
        self._ahead = 0
        self.mine = False

    async def take(self) -> None:
        """See WindowFlow.take."""
        while not self._inbox:
            if self._fault is not None:
                raise self._fault
            if not await self._waiter.wait(self._deadline):
                raise self._stream.late()
        self._came(self._next())

    async def regain(self) -> None:
        """See WindowFlow.regain."""
        self._incoming = self._deadline = None
        while self._inbox:
            self._came(self._next())
        if not self.mine:
            self._put(CANCEL, 0)
        while not self.mine:
            await self.take()

    def _next(self) -> Frame:
        frame = self._inbox.popleft()
        was_full = self.full
        self._held -= len(frame.body)
        if was_full and not self.full:
            self._room()
        return frame

    def _put(self, kind: int, code: int, body: bytes = b"") -> None:
        self._stream.put(kind, code, self._call_id, body, flags=STREAM)
