"""The server's end of one channel in an event loop.

      IDLE ──the bell rings──► RUNNING: answer request after request, as long as they come within the spin budget
       ▲                        │   │ ├─ no more: FC_ARMED ──► IDLE
       └────────────────────────┘   │ ├─ the loop was held for long enough: READY, goes on when the loop has run
                                    │ └─ a coroutine that suspended: TASK, goes on when it has ended
                                    ▼
      the channel is over: END, once a task that runs has ended

Only RUNNING and TASK touch the endpoint's verbs, and there is never more than one of them. A plain handler is
called right there; of an `async def` one a task is made (task.py, and answering.py for what it does), in a context
in which context() tells of this call. What the bell rings for while a task runs is that its caller has given up,
or is gone: the task is cancelled.
"""

import asyncio
import time
from collections.abc import Callable
from types import CoroutineType

from .._core import ffi, lib
from ..channel import PLAIN_MAX
from ..context import NO_METADATA
from ..dispatch import NOTHING, Answer, Dispatcher, Opened
from ..endpoint import Endpoint
from ..liveness import Liveness, Peer
from ..method import encode
from ..serving import release
from .answering import NO_VIEW, Answering
from .bell import Bell
from .control import Control
from .hold import hold_of
from .task import Outcome

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_TOO_BIG: int = lib.FC_ERR_SIZE
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
_SHIFT: int = lib.FC_FRAME_CODE_SHIFT


class LoopServing(Answering):
    """A channel over a packet window, served in a loop. Owns the endpoint, borrows the socket.

    accept() is for any thread, everything else for the loop's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: Dispatcher,
        peer: Peer,
        message_max: int,
        control: Control,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(endpoint, dispatcher, peer, message_max, control, loop)
        self._bell_at = control
        self._hold = hold_of(loop)
        self._running = False
        self._ready = False
        self._draining = False
        self._over = False
        self._ended: Callable[[Exception], None] = lambda error: None

    def accept(self, deadline_ns: int) -> None:
        """Wait for the client's first flip, and agree. Raises as Endpoint.accept() does."""
        self._endpoint.accept(deadline_ns=deadline_ns)
        self._endpoint.wait_by_doorbell()

    def begin(self, life: Liveness, ended: Callable[[Exception], None]) -> None:
        """Serve from now on; `ended` is called once when the channel is over, with the reason."""
        self._ended = ended
        self._bell = Bell(self._events, self._bell_at, life.pidfd, self._rung, self._gone)
        self._run(lib.fc_request(self._ep))

    # ---- what can happen to it ----------------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        return not (self._running or self._ready or self._task.running)

    def _rung(self) -> None:
        if self._idle:
            self._run(lib.fc_request(self._ep))
        elif self._task.running and self._endpoint.cancelled():
            self._task.cancel()

    def _gone(self) -> None:
        self._endpoint.condemn()
        self._rung()

    def retire(self) -> bool:
        """End it if no call is under way, else after that call, which no call to come is told of: whoever makes it
        finds the channel ended before. Whether it has ended.
        """
        self._endpoint.drain()
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
        return self._running or self._task.runs(task)

    def _end(self, error: Exception) -> None:
        if not self._over:
            self._over = True
            if self._bell is not None:
                self._bell.close()
            self._ended(error)

    def close(self) -> None:
        """See Serving.close."""
        if self._bell is not None:
            self._bell.close()
        super().close()

    # ---- requests -----------------------------------------------------------------------------------------

    def _run(self, result: int | None) -> None:
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
        if self._task.running and self._endpoint.cancelled():  # told of while READY
            self._task.cancel()

    def _came_to(self, outcome: Outcome) -> None:
        """See Answering."""
        if isinstance(outcome, int):
            self._run(outcome)
        else:
            self._end(outcome)

    def _serve(self, request: int) -> int | None:
        """Answer a request; the next result, None when a task does it."""
        number = request >> _SHIFT
        plain = self._dispatcher.plain
        way = plain[number] if number < len(plain) else None
        if way is None:
            return self._other(request)
        decode, handler, bulk = way
        try:
            self.metadata = NO_METADATA
            args = decode(ffi.unpack(self._window + _BODY, request & PLAIN_MAX))
        except BaseException as e:
            return self._send(self._dispatcher.undecodable(number, e), NO_VIEW)
        try:
            value = self._calls.copy().run(handler, *args)
            if type(value) is CoroutineType:
                return self._task.start(self._handled(value, self._dispatcher.methods[number], NO_VIEW))
            out = b"" if bulk else encode(value)
        except BaseException as e:
            return self._send(self._dispatcher.failed(e), NO_VIEW)
        if bulk:
            return self._send(self._dispatcher.packed(number, value), NO_VIEW)
        result: int = lib.fc_reply_request(self._ep, 0, out, len(out))
        return self._send((0, out, NOTHING, []), NO_VIEW) if result == _TOO_BIG else result

    def _other(self, request: int) -> int | None:
        """The same for a request with an attachment, or of a method with bulk, whose view lasts until the
        reply has gone; for one in parts, or that opens a stream, there always is a task.
        """
        if request >> lib.FC_FRAME_FLAGS_SHIFT & (lib.FC_FLAG_SPLIT | lib.FC_FLAG_STREAM):
            return self._task.start(self._long(request))
        rights = self._rights(request)
        try:
            body, view = self._whole(request)
            body = self._unwrapped(request, body)
            opened = self._dispatcher.opened((request >> _SHIFT) & 0xFFFF, body, view, rights, False)
        finally:
            rights.close()
        if not isinstance(opened, Opened):
            return self._send(opened, view)
        method, args = opened
        try:
            value = self._calls.copy().run(self._dispatcher.call, method, args)
            if type(value) is CoroutineType:
                return self._task.start(self._handled(value, method, view))
            answer = self._dispatcher.result(method, value)
        except BaseException as e:
            answer = self._dispatcher.failed(e)
        return self._send(answer, view)

    def _send(self, answer: Answer, view: memoryview) -> int | None:
        """Answer at once, if it fits; else a task sends the parts."""
        status, out, data, fds = answer
        if fds:
            status, out, data, _ = answer = self._handed_over(status, out, fds)
        result = self._fit(status, out, data)
        if result == _TOO_BIG:
            return self._task.start(self._answered(answer, view))
        release(view)
        return result
