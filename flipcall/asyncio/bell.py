"""Bell: what an event loop watches of one channel: rings (core/doorbell.c), a hang-up, the end of the peer's
process."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from .._core import lib
from .control import Control
from .hold import at_home

_NO_DEADLINE: int = lib.FC_NO_DEADLINE


class Bell:
    """Wakes who waits in ring(), and calls `rung`, when the peer has rung; and `gone`, once, when it is gone.

    Borrows the socket and the pidfd (-1 for none). Only in the loop's thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        control: Control,
        pidfd: int,
        rung: Callable[[], None],
        gone: Callable[[], None],
    ) -> None:
        """Raises OSError when the loop can watch no more."""
        self._loop = loop
        self._control = control
        self._pid = os.getpid()
        self._rung = rung
        self._gone = gone
        self._waiter: asyncio.Future[None] | None = None
        self._fds: list[int] = []
        try:
            self._watch(control.fileno(), self._readable)
            if pidfd >= 0:
                self._watch(pidfd, self._ended)
        except BaseException:
            self.close()
            raise

    def _watch(self, fd: int, call: Callable[[], None]) -> None:
        self._loop.add_reader(fd, call)
        self._fds.append(fd)

    async def ring(self, ep: Any) -> None:
        """Until the peer rings, or is gone, or the deadline of the C endpoint `ep` has come, or close().

        What of it, the next look tells. One task at a time. Raises MisuseError in another loop, which this one
        would never wake.
        """
        at_home(self._loop)
        self._waiter = waiter = self._loop.create_future()
        deadline, timer = ep.deadline, None
        if deadline != _NO_DEADLINE:
            left = max(0.0, (deadline - lib.fc_now()) / 1e9)
            timer = self._loop.call_later(left, self._wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Watch no more; before the descriptors are closed. Idempotent.

        In a forked child it does nothing: the epoll set is the parent's, and would forget its channels.
        """
        fds, self._fds = self._fds, []
        if self._pid == os.getpid() and not self._loop.is_closed():
            for fd in fds:
                self._loop.remove_reader(fd)
            self._wake()

    def _readable(self) -> None:
        if self._control.hear():
            self._wake()
            self._rung()
        else:
            self._ended()

    def _ended(self) -> None:
        self._gone()
        self.close()
