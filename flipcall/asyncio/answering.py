"""The awaited half of a channel's server: a handler that is a coroutine, requests and replies in parts, streams.

Each coroutine ends with the answer given, and returns the C core's next result; serving.py goes on with it.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import Any

from .._core import ffi, lib
from ..buffers import address, release
from ..channel import FDS_CAME
from ..context import NO_METADATA, Context, set_context
from ..control import take
from ..dispatch import NOTHING, Answer, Dispatcher, Opened
from ..endpoint import Endpoint
from ..errors import CallError
from ..liveness import Peer
from ..metadata import unwrapped
from ..method import Method
from ..rights import NO_RIGHTS, Rights
from ..serving import WindowServing
from ..status import Status
from ..streams import BrokenRequest
from .bell import Bell
from .control import Control
from .flow import LoopFlow
from .streams import give_all, received
from .task import CallTask, Outcome

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_TOO_BIG: int = lib.FC_ERR_SIZE
_SHIFT: int = lib.FC_FRAME_CODE_SHIFT
NO_VIEW = memoryview(b"")  # nobody minds its release


class Answering(WindowServing):
    """What a call's task does. Only in the loop's thread."""

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: Dispatcher,
        peer: Peer,
        message_max: int,
        control: Control,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(endpoint, dispatcher, peer, message_max, control)
        self._events = loop
        self._bell: Bell | None = None
        self._calls = contextvars.copy_context()
        self._calls.run(set_context, Context(self))
        self._task = CallTask(loop, self._calls, self.deadline_ns, self._came_to)

    def _came_to(self, outcome: Outcome) -> None:
        """A task is over."""
        raise NotImplementedError

    async def _handled(self, handler: Coroutine[Any, Any, Any], method: Method, view: memoryview) -> int:
        """Await a handler, answer."""
        try:
            answer = self._dispatcher.result(method, await handler)
        except asyncio.CancelledError:
            answer = self._dispatcher.failed(self._task.why_cancelled())
        except BaseException as e:
            if self._events.is_closed():  # and with it this task: GeneratorExit
                raise
            answer = self._dispatcher.failed(e)
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
            answer = await self._dispatched(number, body, view, rights, flow)
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

    async def _dispatched(
        self, number: int, body: bytes, view: memoryview, rights: Rights, flow: LoopFlow | None
    ) -> Answer:
        """See Dispatcher.answer."""
        opened = self._dispatcher.opened(number, body, view, rights, flow is not None)
        if not isinstance(opened, Opened):
            return opened
        method, args = opened
        if flow is not None:
            return await self._streamed(method, args, flow)
        try:
            value = self._dispatcher.call(method, args)
            return self._dispatcher.result(method, await value if type(value) is CoroutineType else value)
        except asyncio.CancelledError:
            return self._dispatcher.failed(self._task.why_cancelled())
        except BaseException as e:
            if self._events.is_closed():
                raise
            return self._dispatcher.failed(e)

    async def _streamed(self, method: Method, args: tuple[Any, ...], flow: LoopFlow) -> Answer:
        """See Dispatcher._stream."""
        requests = received(flow, method.name)
        dispatcher = self._dispatcher
        try:
            value = dispatcher.call(method, method.joined(args, requests))
            if method.stream_out is None:
                answer = dispatcher.result(method, await value if type(value) is CoroutineType else value)
            elif await give_all(flow, value, method.stream_out):
                answer = 0, NOTHING, NOTHING, []
            else:
                answer = dispatcher.failed(CallError(Status.CANCELLED, "the caller gave up"))
        except BrokenRequest:
            raise
        except asyncio.CancelledError:
            answer = self._dispatcher.failed(self._task.why_cancelled())
        except BaseException as e:
            if self._events.is_closed():
                raise
            answer = dispatcher.failed(e)
        self._task.answering = True
        await requests.aclose()
        await flow.regain()
        return answer
