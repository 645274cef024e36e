"""A client's channels in an event loop: handed out one task each, in the order they asked, grown on demand to
a limit.

      free ──pop──► in use ──give()──► the first that waits, else free
        ▲             │ mend(): after an error, by the channel's state
        │             ├─ ACTIVE ──► as give()        the call was answered, with an error
        └─ returned ◄─┼─ WAITING ─► lent             its handler still runs: nobody's until the bell rings
                      └─ OVER ────► closed

Everything happens in the loop's thread, and hand-over is one step without an await: whoever finds `free` empty
waits in a queue that nobody can jump. Only making a channel blocks; a thread does that. A server that has no room
for one more is asked again later, while there are channels to wait for.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable

from ..channel import WindowChannel
from ..errors import ClosedError, ForkedError
from ..outcome import State
from ..pool import REFUSED_S, no_room, none_free
from ..socketchannel import SocketChannel
from .channel import Channel
from .hold import at_home, hold_of
from .socketchannel import LoopSocketChannel
from .stream import LoopFrames
from .thread import in_thread

Made = WindowChannel | SocketChannel
AnyChannel = Channel | LoopSocketChannel

_MAKING_AT_ONCE = 4  # threads


class Pool:
    """Channels from `connect()`, which blocks, at most `limit` at a time. Only in the thread of `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Callable[[], Made], limit: int) -> None:
        self.free: list[AnyChannel] = []
        self.waiters: deque[asyncio.Future[AnyChannel]] = deque()
        self.loop = loop
        self.hold = hold_of(loop)
        self._connect = connect
        self.limit = limit
        self._all: set[AnyChannel] = set()
        self._making = 0
        self._again = 0.0  # not before that, of the loop's time, is one more channel asked for
        self._closed = False
        self._pid = os.getpid()

    async def take(self, timeout: float | None) -> AnyChannel:
        """A channel for this task alone. Waits up to `timeout` seconds when all are in use.

        Raises DeadlineExceeded, ClosedError, ForkedError, MisuseError in another loop, and what connecting raises.
        """
        self._usable()
        if self.free:
            return self.free.pop()
        waiter: asyncio.Future[AnyChannel] = self.loop.create_future()
        self.waiters.append(waiter)
        self._grow()
        timer = None if timeout is None else self.loop.call_later(timeout, self._too_late, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give(waiter.result())  # cancelled at the moment it was handed over
            raise
        finally:
            if waiter in self.waiters:  # it gave up
                self.waiters.remove(waiter)
            if timer is not None:
                timer.cancel()

    def give(self, channel: AnyChannel) -> None:
        """The task is done and the channel ACTIVE."""
        self.free.append(channel)
        if self.waiters:
            self.notify()

    def notify(self) -> None:
        """Hand what is free to those who wait, first come, first served."""
        while self.waiters and self.free:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(self.free.pop())

    def mend(self, channel: AnyChannel) -> None:
        """A call failed, or a lent channel is back: keep, lend or drop it, as its state says."""
        state = channel.state
        if state is State.ACTIVE:
            self.give(channel)
        elif state is State.WAITING:
            channel.lend()
        else:
            self._all.discard(channel)
            channel.close()
            self._grow()

    def close(self) -> None:
        """Close every channel; calls under way end with ClosedError, as do those that wait. Idempotent."""
        self._closed = True
        self.free.clear()
        channels, self._all = self._all, set()
        for channel in channels:
            channel.close()
        while self.waiters:
            self._fail(ClosedError("this client is closed"))

    def channels(self) -> list[AnyChannel]:
        """The channels there are now."""
        return list(self._all)

    # ---- growing ----------------------------------------------------------------------------------------

    def _usable(self) -> None:
        if self._pid != os.getpid():
            raise ForkedError("this client belongs to the parent process: connect again after fork()")
        if self._closed:
            raise ClosedError("this client is closed")
        at_home(self.loop)

    def _grow(self) -> None:
        """Have a channel made if somebody waits for more than are being made, and one more is allowed."""
        waiting = sum(1 for w in self.waiters if not w.done())
        room = self.limit - len(self._all)
        if self._making >= min(waiting, room, _MAKING_AT_ONCE) or self._closed:
            return
        if self._all and self.loop.time() < self._again:
            return
        self._making += 1
        in_thread(self.loop, "flipcall-connect", self._connect, self._made, self._not_made)

    def _made(self, made: Made) -> None:
        self._making -= 1
        if self._closed:
            made.close()
            return
        try:
            channel = self._looped(made)
        except Exception as e:
            self._fail(e)
            return
        self._all.add(channel)
        self.give(channel)
        self._grow()

    def _looped(self, made: Made) -> AnyChannel:
        if isinstance(made, WindowChannel):
            return Channel(made, self.loop, self.mend)
        return LoopSocketChannel(LoopFrames.of(made.frames, self.loop), self.loop, self.mend)

    def _not_made(self, error: BaseException) -> None:
        self._making -= 1
        if no_room(error) and self._all:
            self._again = self.loop.time() + REFUSED_S
            self.loop.call_at(self._again, self._grow)
            return
        self._fail(error)
        self._grow()

    def _fail(self, error: BaseException) -> None:
        """Tell the first that waits."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return

    def _too_late(self, waiter: "asyncio.Future[AnyChannel]") -> None:
        if not waiter.done():
            lent = sum(channel.lent for channel in self._all)
            waiter.set_exception(none_free(len(self._all), lent, self.limit))


def left(timeout: float | None, since: float) -> float | None:
    """What is left of `timeout` seconds that began at time.monotonic() `since`."""
    return None if timeout is None else max(0.0, timeout - (time.monotonic() - since))
