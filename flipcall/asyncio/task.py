"""CallTask: the task of the call that a channel serves, when its handler is a coroutine.

IDLE ──start()──► BEGUN ──► ANSWERING ──► over(outcome), IDLE
                    │ cancel(): once, and what the handler makes of that is its own affair
                    └── the deadline
"""

import asyncio
import contextvars
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import CallError, ClosedError, DeadlineExceeded
from ..status import Status

Outcome = int | Exception  # the C core's next result, or why the channel is over


class CallTask:
    """One a channel, used call after call. Only in the loop's thread.

    calls: the context of each call is a copy of it. deadline_ns: that of the call under way. over: called with
    what a task came to, if start() has not returned it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        calls: contextvars.Context,
        deadline_ns: Callable[[], int | None],
        over: Callable[[Outcome], None],
    ) -> None:
        self._loop = loop
        self._calls = calls
        self._deadline_ns = deadline_ns
        self._over = over
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._making = False
        self._outcome: Outcome | None = None  # of a task that ended while it was made
        self._begun = False  # it has taken its first step
        self._cancelling = False
        self._late = False
        self.answering = False  # it is not cancelled any more

    @property
    def running(self) -> bool:
        """Whether there is one."""
        return self._task is not None

    @property
    def orphaned(self) -> bool:
        """Whether the loop is closed, and with it this task (GeneratorExit): nothing can be answered any more."""
        return self._loop.is_closed()

    def runs(self, task: object) -> bool:
        """Whether it is `task`."""
        return self._task is not None and self._task is task

    def start(self, work: Coroutine[Any, Any, int]) -> int | None:
        """Have a task do the work, which comes to the next result: that if it is there at once, else None. Raises
        what the work has raised by then.
        """
        self._begun = self._cancelling = self._late = self.answering = False
        self._making = True
        task = self._task = self._calls.copy().run(_task, self._loop, self._do(work))
        self._making = False
        if task.done():
            self._task = None
            outcome, self._outcome = self._outcome, None
            if isinstance(outcome, int):
                return outcome
            raise outcome or ClosedError("a handler's task was ended from outside")
        deadline = self._deadline_ns()
        if deadline is not None:
            left = (deadline - time.monotonic_ns()) / 1e9
            self._timer = self._loop.call_later(max(0.0, left), self._expire)
        return None

    async def _do(self, work: Coroutine[Any, Any, int]) -> None:
        self._begun = True
        try:
            outcome: Outcome = await work
        except asyncio.CancelledError:  # while it answered, by who ends the loop
            outcome = ClosedError("the task that answered was cancelled")
        except Exception as e:
            outcome = e
        if self._making:  # started eagerly: start() goes on
            self._outcome = outcome
            return
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        self._over(outcome)

    def _expire(self) -> None:
        """The deadline has come, by the loop's clock, which may be a little ahead."""
        self._late = True
        self.cancel()

    def cancel(self) -> None:
        """Nobody waits for what the task does: it is told, once.

        A task that is cancelled before its first step never takes it, and so would never answer: it is told
        after that step, which stands in the loop's line before what is put there now.
        """
        task = self._task
        if task is None or self._cancelling or self.answering:
            return
        self._cancelling = True
        if self._begun:
            task.cancel()
        else:
            self._loop.call_soon(self._cancel_begun, task)

    def _cancel_begun(self, task: "asyncio.Task[None]") -> None:
        if self._task is task and not self.answering:
            task.cancel()

    def why_cancelled(self) -> CallError | DeadlineExceeded:
        """The answer of a handler that was cancelled. The caller may read it: its own clock has perhaps not rung
        yet."""
        deadline = self._deadline_ns()
        if self._late or (deadline is not None and time.monotonic_ns() >= deadline):
            return DeadlineExceeded("the deadline passed while the handler ran")
        what = "the caller gave up" if self._cancelling else "the handler was cancelled"
        return CallError(Status.CANCELLED, what)


if sys.version_info >= (3, 12):

    def _task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that has begun, and perhaps ended, when this returns."""
        return asyncio.Task(work, loop=loop, eager_start=True)

else:

    def _task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task, which begins when the loop comes round."""
        return loop.create_task(work)
