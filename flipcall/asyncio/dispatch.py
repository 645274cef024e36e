"""Dispatcher: flipcall.dispatch in an event loop, where handlers may be coroutines, and are awaited."""

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from ..dispatch import NOTHING, Answer, Dispatcher, Opened
from ..errors import CallError
from ..method import Method
from ..rights import Rights
from ..status import Status
from ..streams import BrokenRequest
from .interceptor import server_chain
from .streams import Flow, give_all, received
from .task import CallTask


class LoopDispatcher(Dispatcher):
    """Handlers may be `async def` or plain."""

    _chain = staticmethod(server_chain)

    def _check(self, handler: Callable[..., Any]) -> None:
        pass

    async def asked(
        self,
        number: int,
        body: bytes,
        attachment: memoryview,
        rights: Rights,
        flow: Flow | None,
        task: CallTask,
    ) -> Answer:
        """See Dispatcher.answer. task: the one that this runs in."""
        opened = self.opened(number, body, attachment, rights, flow is not None)
        if not isinstance(opened, Opened):
            return opened
        method, args = opened
        if flow is not None:
            return await self._streamed(method, args, flow, task)
        try:
            value = self.call(method, args)
            return self.result(method, await value if type(value) is CoroutineType else value)
        except BaseException as e:
            return self.ended(e, task)

    async def _streamed(self, method: Method, args: tuple[Any, ...], flow: Flow, task: CallTask) -> Answer:
        """See Dispatcher._stream."""
        requests = received(flow, method.name)
        try:
            value = self.call(method, method.joined(args, requests))
            if method.stream_out is None:
                answer = self.result(method, await value if type(value) is CoroutineType else value)
            elif await give_all(flow, value, method.stream_out):
                answer = 0, NOTHING, NOTHING, []
            else:
                answer = self.failed(CallError(Status.CANCELLED, "the caller gave up"))
        except BrokenRequest:
            raise
        except BaseException as e:
            answer = self.ended(e, task)
        task.answering = True
        await requests.aclose()
        await flow.regain()
        return answer

    def ended(self, error: BaseException, task: CallTask) -> Answer:
        """The answer for what a handler raised that `task` has awaited. Raises it when nobody can be answered."""
        if isinstance(error, asyncio.CancelledError):
            return self.failed(task.why_cancelled())
        if task.orphaned:
            raise error
        return self.failed(error)
