"""One streaming call over a packet window in an event loop: flipcall.flow, its waits awaited."""

import asyncio
import time
from typing import Any

from .._core import ffi, lib
from ..buffers import address
from ..endpoint import Endpoint
from ..flow import WHAT, FlowState
from ..frame import ITEMS, MORE
from ..items import Items, encode
from .bell import Bell
from .hold import hold_of

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_PUBLISHED: int = lib.FC_PUBLISHED
_STOPPED: int = lib.FC_STOPPED
_FULL: int = lib.FC_FULL
_FLIP: int = lib.FC_FLIP
_TOO_LARGE: int = lib.FC_ERR_SIZE


class LoopFlow(FlowState):
    """Every method is as WindowFlow's of the same name. The loop runs in between, however quick the other side
    is."""

    def __init__(
        self,
        endpoint: Endpoint,
        ep: Any,
        window: Any,
        incoming: Items | None,
        message_max: int,
        bell: Bell,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(endpoint, ep, window, incoming, message_max)
        self._bell = bell
        self._loop = loop
        self._hold = hold_of(loop)

    async def _breathe(self) -> None:
        """Let the loop run if it has been held for long enough."""
        if time.monotonic() > self._hold.until and self._hold.over(self._loop):
            await asyncio.sleep(0)

    async def publish(self, item: bytes) -> bool:
        """See WindowFlow."""
        await self._breathe()
        while True:
            result = lib.fc_publish(self._ep, item, len(item))
            if result == _PUBLISHED:
                return True
            if result == _TOO_LARGE:
                return await self._publish_parts(item)
            if not await self._flipped(result):
                return False
            if result == _FLIP:
                return True

    async def publish_bulk(self, data: memoryview) -> bool:
        """See WindowFlow."""
        if data.nbytes > self._endpoint.data_cap:
            return await self.publish(encode(data))
        await self._breathe()
        with ffi.from_buffer("char[]", data) as start:
            while True:
                result = lib.fc_publish_bulk(self._ep, start, len(start))
                if result == _PUBLISHED:
                    return True
                if result == _TOO_LARGE:
                    return await self.publish(encode(data))
                if not await self._flipped(result):
                    return False
                if result == _FLIP:
                    return True

    async def _flipped(self, result: int) -> bool:
        """See WindowFlow."""
        if result == _STOPPED:
            return False
        if result != _FULL and result != _FLIP:
            self._endpoint.fail(result)
        await self.flip()
        return self.kind == MORE

    async def _publish_parts(self, item: bytes) -> bool:
        self._sendable(item)
        while True:
            with ffi.from_buffer("char[]", item) as data:
                result = lib.fc_items_split(self._ep, data, len(item))
                if result != lib.FC_ERR_TURN:
                    await self._settle(result)
                    return self.kind == MORE
            await self.flip()
            if self.kind != MORE:
                return False

    async def flip(self) -> None:
        """See WindowFlow."""
        await self._settle(lib.fc_exchange(self._ep, WHAT[ITEMS], b"", 0))

    async def take(self) -> None:
        """See WindowFlow."""
        await self._breathe()
        await self._settle(lib.fc_take(self._ep))

    async def regain(self) -> None:
        """See WindowFlow."""
        self._give_up()
        while not self.mine:
            await self.take()

    async def _settle(self, result: int) -> None:
        self.mine = False
        while result in (_TICK, _ARMED):
            if result == _ARMED:
                await self._bell.ring(self._ep)
            result = lib.fc_take(self._ep)
        if self._came(result):
            await self._gather()

    async def _gather(self) -> None:
        body, attachment = self._room()
        with address(body) as to, address(attachment) as behind:
            result = _TICK
            while result in (_TICK, _ARMED):
                if result == _ARMED:
                    await self._bell.ring(self._ep)
                result = lib.fc_gather(self._ep, to, len(body), behind, len(attachment))
        if result:
            self._came(result)
        else:
            self._whole(body, attachment)
