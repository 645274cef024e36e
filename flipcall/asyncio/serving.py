"""The server's end of one channel in an event loop.

      IDLE ──the bell rings──► RUNNING: answer request after request, as long as they come within the spin budget
       ▲                        │   │ ├─ no more: FC_ARMED ──► IDLE
       └────────────────────────┘   │ ├─ the loop was held for long enough: READY, goes on when the loop has run
                                    │ └─ a coroutine that suspended: TASK, goes on when it has ended
                                    ▼
      the channel is over: END, once a task that runs has ended

Only RUNNING and TASK touch the endpoint's verbs, and there is never more than one of them. A plain handler is
called right there; of an `async def` one a task is made (task.py), in a context
in which context() tells of this call. What the bell rings for while a task runs is that its caller has given up,
or is gone: the task is cancelled.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from .._core import ffi, lib
from ..buffers import address, release
from ..channel import FDS_CAME, PLAIN_MAX
from ..context import NO_METADATA, Context, set_context
from ..control import take
from ..dispatch import NOTHING, Answer, Opened
from ..endpoint import Endpoint
from ..errors import CallError
from ..liveness import Liveness, Peer
from ..metadata import unwrapped
from ..method import Method, encode
from ..rights import NO_RIGHTS, Rights
from ..serving import WindowServing
from .bell import Bell
from .control import Control
from .dispatch import LoopDispatcher
from .flow import LoopFlow
from .hold import hold_of
from .task import CallTask, Outcome

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_TOO_BIG: int = lib.FC_ERR_SIZE
_BODY: int = lib.FC_PACKET_HEADER + lib.FC_FRAME_HEADER
_SHIFT: int = lib.FC_FRAME_CODE_SHIFT
NO_VIEW = memoryview(b"")  # nobody minds its release


class LoopServing(WindowServing):
    """A channel over a packet window, served in a loop. Owns the endpoint, borrows the socket.

    accept() is for any thread, everything else for the loop's.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: LoopDispatcher,
        peer: Peer,
        message_max: int,
        control: Control,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(endpoint, dispatcher, peer, message_max, control)
        self._dispatcher: LoopDispatcher = dispatcher
        self._events = loop
        self._bell: Bell | None = None
        self._calls = contextvars.copy_context()
        self._calls.run(set_context, Context(self))
        self._task = CallTask(loop, self._calls, self.deadline_ns, self._came_to)
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
        """A task is over."""
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

    # ---- answers given by a task -----------------------------------------------------------------------------

    async def _handled(self, handler: Any, method: Method, view: memoryview) -> int:
        """Await a handler, answer. As all of these it ends with the answer given; the C core's next result."""
        try:
            answer = self._dispatcher.result(method, await handler)
        except BaseException as e:
            answer = self._dispatcher.ended(e, self._task)
        return await self._answered(answer, view)

    async def _answered(self, answer: Answer, view: memoryview, flow: LoopFlow | None = None) -> int:
        """See WindowServing._reply."""
        self._task.answering = True
        try:
            status, out, data, fds = answer
            if fds:
                status, out, data, _ = self._handed_over(status, out, fds)
            result = self._fit(status, out, data)
            if result == _TOO_BIG and flow is not None:
                await flow.flip()  # let the items in front of it be taken
                result = self._fit(status, out, data)
            return await self._in_parts(status, out, data) if result == _TOO_BIG else result
        finally:
            release(view)

    async def _in_parts(self, status: int, out: bytes, data: Any) -> int:
        with memoryview(data) as view, ffi.from_buffer("char[]", view) as pointer:
            if len(out) + len(pointer) <= self._message_max:
                with ffi.from_buffer("char[]", out) as start:
                    result: int = lib.fc_reply_split(
                        self._ep, status, start, len(start), pointer, len(pointer)
                    )
                    while result in (_TICK, _ARMED) and self._ep.call:  # until it has gone
                        result = await self._next(result, lib.fc_request, self._ep)
                return result
        return await self._answered(self._too_large(status, out, data), NO_VIEW)

    async def _next(self, result: int, verb: Callable[..., int], *args: Any) -> int:
        """Call the verb again, when the peer has rung if it was FC_ARMED."""
        if result == _ARMED:
            assert self._bell is not None
            await self._bell.ring(self._ep)
        return verb(*args)

    # ---- requests in parts, and streams -------------------------------------------------------------------

    def _unwrapped(self, request: int, body: bytes) -> bytes:
        """The body without the metadata before it, which context() tells until the next call."""
        if request >> lib.FC_FRAME_FLAGS_SHIFT & lib.FC_FLAG_META:
            self.metadata, body = unwrapped(body)
        else:
            self.metadata = NO_METADATA
        return body

    def _rights(self, request: int) -> Rights:
        """The descriptors of a request that has come."""
        return take(self._control, self._ep.received.call_id) if request & FDS_CAME else NO_RIGHTS

    async def _long(self, request: int) -> int:
        """See WindowServing._answer."""
        number, flags = (request >> _SHIFT) & 0xFFFF, request >> lib.FC_FRAME_FLAGS_SHIFT
        view, flow, rights = NO_VIEW, None, self._rights(request)
        try:
            if flags & lib.FC_FLAG_SPLIT:
                body, attachment = await self._gather()
                view = memoryview(attachment)
            else:
                body, view = self._whole(request)
            body = self._unwrapped(request, body)
            if flags & lib.FC_FLAG_STREAM:
                flow = self._flow(number)
            answer = await self._dispatcher.asked(number, body, view, rights, flow, self._task)
        except CallError as e:  # what came in parts was too large, or was given up
            answer = self._dispatcher.failed(e)
        finally:
            rights.close()
        return await self._answered(answer, view, flow)

    def _flow(self, number: int) -> LoopFlow:
        assert self._bell is not None
        incoming = self._dispatcher.incoming(number)
        return LoopFlow(
            self._endpoint, self._ep, self._window, incoming, self._message_max, self._bell, self._events
        )

    async def _gather(self) -> tuple[bytes, bytes]:
        """See WindowServing._gathered."""
        body, attachment = self._room()
        with address(body) as to, address(attachment) as behind:
            more = (lib.fc_gather, self._ep, to, len(body), behind, len(attachment))
            result: int = _TICK
            while result in (_TICK, _ARMED):
                result = await self._next(result, *more)
        self._complete(result)
        return body, attachment
