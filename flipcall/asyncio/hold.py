"""Hold: for how long an event loop has been kept from running, by all clients and servers of it together.

A call that is answered within the spin budget never suspends its task. That is why it is quick, and why a task
that makes one call after the other would keep the loop for ever:

      FREE ──a call──► HELD, until = now + HOLD_S ──the loop runs (its call_soon)──► FREE
                         │ a call after `until`
                         └──► does not spin; answered at once all the same, it lets the loop run before it returns
"""

import asyncio
import os
import time
import weakref

from ..errors import ForkedError, MisuseError

HOLD_S = (
    50e-6  # what a spin may take, policy.BALANCED_SPIN_NS: twenty calls, or one that is waited for in vain
)


class Hold:
    """See above. One a loop; only in its thread."""

    __slots__ = ("__weakref__", "pid", "until")

    def __init__(self) -> None:
        self.until = 0.0  # time.monotonic() seconds; 0.0 when FREE
        self.pid = os.getpid()  # the process in which the loop runs

    def over(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Precondition: it is later than `until`. Whether the loop should run now; else a new hold has begun.

        Raises MisuseError in another loop than this one.
        """
        if self.until:
            return True
        at_home(loop)
        self.until = time.monotonic() + HOLD_S
        loop.call_soon(self._free)
        return False

    def _free(self) -> None:
        self.until = 0.0


def at_home(loop: asyncio.AbstractEventLoop) -> None:
    """Raises MisuseError when another loop than `loop` runs here: for what only its tasks may do. ForkedError, if
    that is the parent process's.

    Where a child was forked inside of a loop none runs; its calls are refused as such.
    """
    running = asyncio._get_running_loop()
    if running is not None and running is not loop:
        if hold_of(loop).pid != os.getpid():
            raise ForkedError("this client belongs to the parent process: connect again after fork()")
        raise MisuseError("this client belongs to another event loop: connect in the one that uses it")


_holds: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hold]" = weakref.WeakKeyDictionary()


def hold_of(loop: asyncio.AbstractEventLoop) -> Hold:
    """The one of `loop`."""
    hold = _holds.get(loop)
    if hold is None:
        hold = _holds[loop] = Hold()
    return hold
