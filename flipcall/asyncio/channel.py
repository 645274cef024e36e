"""The client's end of one channel in an event loop: as flipcall.channel, but where that sleeps, this suspends a task.

──take()──► ACTIVE ──a call──► answered within the spin budget: the task goes on, the loop never knew
              ▲                 └──► FC_ARMED: suspended until the bell rings, or the deadline's timer
              │                        │ cancelled, or the deadline
              └──── rung, reclaimed ◄──┴──► lent: nobody's until the handler lets go
"""

import asyncio
import weakref
from collections.abc import Callable

from .._core import lib
from ..channel import Reply, WindowChannel
from ..errors import FlipcallError
from ..outcome import State
from .bell import Bell

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_NO_DEADLINE: int = lib.FC_NO_DEADLINE


class Channel:
    """One channel. One task at a time. Owns the WindowChannel.

    returned: called with the channel when it was lent and can be used again, and when it is over then.
    """

    __slots__ = ("__weakref__", "_bell", "_loop", "_returned", "_waiter", "answer", "ep", "lent", "window")

    def __init__(
        self, window: WindowChannel, loop: asyncio.AbstractEventLoop, returned: Callable[["Channel"], None]
    ) -> None:
        """Raises UnsupportedError when the server does not ring; the WindowChannel is closed then."""
        self.window = window
        self.ep, self.answer = window.ep, window.answer
        self.lent = False
        self._loop = loop
        self._returned = returned
        self._waiter: asyncio.Future[None] | None = None
        me = weakref.ref(self)  # the loop must not keep a channel that its owner has lost

        def rung() -> None:
            if (channel := me()) is not None:
                channel._rung()

        def gone() -> None:
            if (channel := me()) is not None:
                channel._gone()

        try:
            window.endpoint.wait_by_doorbell()
            self._bell = Bell(loop, window.socket, window.endpoint.pidfd, rung, gone)
        except BaseException:
            window.close()
            raise

    async def settle(self, result: int, body_len: int, attach_len: int = 0) -> Reply:
        """See WindowChannel.settle. Cancelled, it leaves the channel WAITING."""
        while result in (_ARMED, _TICK):
            if result == _ARMED:
                await self.ring()
            result = lib.fc_call_resume(self.ep)
        return self.window.settle(result, body_len, attach_len)

    async def ring(self) -> None:
        """Until the peer rings, or is gone, or the deadline of the call has come. What of it, the next look tells."""
        self._waiter = waiter = self._loop.create_future()
        deadline, timer = self.ep.deadline, None
        if deadline != _NO_DEADLINE:
            left = max(0.0, (deadline - lib.fc_now()) / 1e9)
            timer = self._loop.call_later(left, _let_go, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _rung(self) -> None:
        if self._waiter is not None:
            _let_go(self._waiter)
        elif self.lent:
            self._look()

    def _gone(self) -> None:
        """An idle channel is left as it is: the next call finds out, and says why."""
        lib.fc_hung_up(self.ep)
        self._rung()

    # ---- after a call that was given up -----------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the channel can do next."""
        return self.window.state

    def lend(self) -> None:
        """The last caller gave up: tell the server, and have `returned` called once the channel is back.

        That may be at once.
        """
        self.lent = True
        self.window.cancel()
        self._look()

    def _look(self) -> None:
        try:
            back = self.window.reclaim()
        except (FlipcallError, OSError):
            back = True  # it is over, which its state says
        if back:
            self.lent = False
            self._returned(self)

    def close(self) -> None:
        """End it. Idempotent."""
        self._bell.close()
        self.window.close()
        if self._waiter is not None:
            _let_go(self._waiter)

    def __del__(self) -> None:
        if hasattr(self, "_bell"):
            self.close()


def _let_go(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
