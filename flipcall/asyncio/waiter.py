"""Waiter: where one task at a time waits for something that is told in the loop."""

import asyncio
import os
import time

from ..errors import ForkedError
from .hold import at_home, hold_of


class Waiter:
    """Only in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self, deadline: float | None = None) -> bool:
        """Until wake(), or the deadline, time.monotonic() seconds: whether that has not come yet.

        Raises MisuseError in another loop, which this one would never wake, ForkedError in a forked child.
        """
        at_home(self._loop)
        if hold_of(self._loop).pid != os.getpid():
            raise ForkedError("this channel belongs to the parent process: connect again after fork()")
        if deadline is not None and time.monotonic() >= deadline:
            return False
        self._waiter = self._loop.create_future()
        timer = None
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self.wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return True

    def wake(self) -> None:
        """Let it look again, whoever waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
