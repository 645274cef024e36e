"""The server's end of one channel in an event loop.

      IDLE ──the bell rings──► RUNNING: answer request after request, as long as they come within the spin budget
       ▲                        │   │ ├─ no more: FC_ARMED ──► IDLE
       └────────────────────────┘   │ ├─ the loop was held for long enough: READY, goes on when the loop has run
                                    │ └─ a coroutine that suspended: TASK, goes on when it has ended
                                    ▼
      the channel is over: END, once a task that runs has ended

Only RUNNING touches the endpoint's verbs, and it is one function, so nothing is ever inside twice. A plain handler is
called right there; of an `async def` one a task is made, in a context in which context() tells of this call. What the
bell rings for while a task runs is that its caller has given up, or is gone: the task is cancelled.
"""

import asyncio
import contextvars
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from .._core import ffi, lib
from ..channel import PLAIN_MAX
from ..context import Context, set_context
from ..dispatch import NOTHING, Answer, Dispatcher
from ..endpoint import Endpoint
from ..errors import CallError, ClosedError
from ..liveness import Liveness, Peer
from ..method import Method, encode
from ..serving import WindowServing
from ..status import Status
from .bell import Bell
from .hold import hold_of

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_TOO_BIG: int = lib.FC_ERR_SIZE
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
_SHIFT: int = lib.FC_FRAME_CODE_SHIFT


class LoopServing(WindowServing):
    """A channel over a packet window, served in a loop. Owns the endpoint, borrows the socket.

    accept() is for any thread, everything else for the loop's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: Dispatcher,
        peer: Peer,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(endpoint, dispatcher, peer)
        self._socket = sock
        self._events = loop
        self._hold = hold_of(loop)
        self._bell: Bell | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answer_now: Answer | None = None  # of a task that ended while it was made
        self._cancelling = False
        self._running = False
        self._ready = False
        self._draining = False
        self._over = False
        self._ended: Callable[[Exception], None] = lambda error: None
        self._calls = contextvars.copy_context()  # the context of each call is a copy of this one
        self._calls.run(set_context, Context(self))

    def accept(self, deadline_ns: int) -> None:
        """Wait for the client's first flip, and agree. Raises as Endpoint.accept() does."""
        self._endpoint.accept(deadline_ns=deadline_ns)
        self._endpoint.wait_by_doorbell()

    def begin(self, life: Liveness, ended: Callable[[Exception], None]) -> None:
        """Serve from now on; `ended` is called once when the channel is over, with the reason."""
        self._ended = ended
        self._bell = Bell(self._events, self._socket, life.pidfd, self._rung, self._gone)
        self._run(lib.fc_request(self._ep))

    # ---- what can happen to it ----------------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return not (self._task or self._running or self._ready)

    def _rung(self) -> None:
        if self._idle:
            self._run(lib.fc_request(self._ep))
        elif self._task is not None and self._endpoint.cancelled():
            self._cancel()

    def _gone(self) -> None:
        self._endpoint.condemn()
        self._rung()

    def retire(self) -> bool:
        """End it if no call is under way, else after that call; whether it has ended."""
        self._dispatcher.drain()
        self._draining = True
        if self._idle and not self._over and self._endpoint.retire():
            self._run(lib.fc_request(self._ep))
        return self._over

    def cut(self) -> None:
        """End it now; a task is cancelled, and what it answers is lost."""
        self._endpoint.shutdown()
        self._rung()

    def runs(self, task: object) -> bool:
        """Whether a handler of this channel is `task`, or is what is running now."""
        return self._running or (self._task is not None and self._task is task)

    def _end(self, error: Exception) -> None:
        if not self._over:
            self._over = True
            if self._bell is not None:
                self._bell.close()
            self._ended(error)

    # ---- requests -----------------------------------------------------------------------------------------

    def _run(self, result: int) -> None:
        """Go on with the C core's `result`. Nothing is raised: the channel ends instead."""
        self._running = True
        try:
            while result is not None and result != _ARMED:
                if result == _TICK:
                    result = lib.fc_request(self._ep)
                elif result < 0:
                    self._endpoint.fail(result)
                elif time.monotonic() > self._hold.until and self._hold.over(self._events):
                    self._ready = True
                    self._events.call_soon(self._go_on, result)
                    return
                else:
                    result = self._serve(result)
        except Exception as e:
            self._end(e)
            return
        finally:
            self._running = False
        if self._draining:
            self.retire()

    def _go_on(self, request: int) -> None:
        self._ready = False
        self._run(request)

    def _serve(self, request: int) -> Any:
        """Answer a request; the next result, None when a task does it."""
        number = request >> _SHIFT
        plain = self._dispatcher.plain
        way = plain[number] if number < len(plain) else None
        if way is None:
            return self._other(request)
        decode, handler = way
        try:
            args = decode(ffi.unpack(self._window + _BODY, request & PLAIN_MAX))
        except BaseException as e:
            return self._reply(*self._dispatcher.undecodable(number, e))
        try:
            value = self._calls.copy().run(handler, *args)
            if type(value) is CoroutineType:
                return self._start(value, self._dispatcher.methods[number], NOTHING)
            out = encode(value)
        except BaseException as e:
            return self._reply(*self._dispatcher.failed(e))
        result = lib.fc_reply_request(self._ep, 0, out, len(out))
        return self._reply_too_big(len(out), 0) if result == _TOO_BIG else result

    def _other(self, request: int) -> Any:
        """The same for a request with an attachment, or a method with bulk; the view lasts until the reply."""
        frame = self._ep.received
        start = frame.attach_off - lib.FC_PACKET_HEADER
        body = ffi.unpack(self._window + _BODY, request & PLAIN_MAX)
        view = self._endpoint.data[start : start + frame.attach_len]
        opened = self._dispatcher.opened((request >> _SHIFT) & 0xFFFF, body, view)
        if isinstance(opened[0], int):
            return self._replied(opened, view)
        method, args = opened
        try:
            value = self._calls.copy().run(self._dispatcher.call, method, args)
            if type(value) is CoroutineType:
                return self._start(value, method, view)
            answer = self._dispatcher.result(method, value)
        except BaseException as e:
            answer = self._dispatcher.failed(e)
        return self._replied(answer, view)

    def _replied(self, answer: Answer, view: Any) -> int:
        try:
            return self._reply(*answer)
        finally:
            release(view)

    # ---- tasks --------------------------------------------------------------------------------------------

    def _start(self, handler: Coroutine[Any, Any, Any], method: Method, view: Any) -> Any:
        """Run a handler as a task: the next result if it ended at once, else None."""
        self._cancelling = False
        task = self._task = self._calls.copy().run(_task, self._events, self._await(handler, method, view))
        if task.done():
            self._task = None
            answer, self._answer_now = self._answer_now, None
            if answer is None:
                raise ClosedError("a handler's task was ended from outside")
            return self._replied(answer, view)
        deadline = self.deadline_ns()
        if deadline is not None:
            left = (deadline - time.monotonic_ns()) / 1e9
            self._timer = self._events.call_later(max(0.0, left), self._cancel)
        return None

    async def _await(self, handler: Coroutine[Any, Any, Any], method: Method, view: Any) -> None:
        try:
            answer = self._dispatcher.result(method, await handler)
        except GeneratorExit:  # the loop is gone, and with it this task
            raise
        except asyncio.CancelledError:
            what = (
                "the caller gave up, or its deadline passed"
                if self._cancelling
                else "the handler was cancelled"
            )
            answer = self._dispatcher.failed(CallError(Status.CANCELLED, what))
        except BaseException as e:
            answer = self._dispatcher.failed(e)
        if self._running:  # started eagerly: _start() goes on
            self._answer_now = answer
            return
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        try:
            result = self._replied(answer, view)
        except Exception as e:
            self._end(e)
        else:
            self._run(result)

    def _cancel(self) -> None:
        """Nobody waits for what the task does. It is told once; what it makes of that is its own affair."""
        if self._task is not None and not self._cancelling:
            self._cancelling = True
            self._task.cancel()

    def close(self) -> None:
        """See Serving.close."""
        if self._bell is not None:
            self._bell.close()
        super().close()


def release(view: Any) -> None:
    """Let go of a view that a handler may still hold."""
    if isinstance(view, memoryview):
        try:
            view.release()
        except BufferError:
            pass  # the handler built something upon it, which keeps the memory, though not its content


if sys.version_info >= (3, 12):

    def _task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that has begun, and perhaps ended, when this returns."""
        return asyncio.Task(work, loop=loop, eager_start=True)

else:

    def _task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task, which begins when the loop comes round."""
        return loop.create_task(work)
