"""The server's end of one channel over the socket in an event loop; the same doors as LoopServing (serving.py).

      IDLE ──a request──► TASK: its handler runs, its answer goes ──► IDLE
                            │ CANCEL, or the client is gone: the task is cancelled
      the channel is over: END, once a task that runs has ended

The socket is read all the time, also while a task runs, which then is told what a stream brings (socketflow.py).
"""

import asyncio
import contextvars
import os
from collections.abc import Callable
from typing import Any

from .._core import lib
from ..context import Context, set_context
from ..errors import CallError, ClosedError, MisuseError
from ..fd import Fd
from ..frame import CANCEL, REPLY, REQUEST
from ..liveness import Liveness
from ..meter import Meters
from ..socketserving import SocketCalls
from ..stream import Frame
from .dispatch import LoopDispatcher
from .socketflow import LoopSocketFlow
from .stream import LoopFrames
from .task import CallTask, Outcome


class LoopSocketServing(SocketCalls):
    """A channel over the Unix socket, served in a loop. Borrows the socket from the server.

    accept() and stop() are for any thread, everything else for the loop's.
    """

    def __init__(
        self,
        frames: LoopFrames,
        dispatcher: LoopDispatcher,
        meters: Meters | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(frames, meters)
        self._stream = frames
        self._dispatcher = dispatcher
        self._loop = loop
        self._calls = contextvars.copy_context()
        self._calls.run(set_context, Context(self))
        self._task = CallTask(loop, self._calls, self.deadline_ns, self._came_to)
        self._call_id = 0
        self._flow: LoopSocketFlow | None = None
        self._early: Frame | None = (
            None  # a request that came before the task had ended that answered the last
        )
        self._given_up = False
        self._starting = False
        self._reading = False
        self._draining = False
        self._over = False
        self._failure: Exception | None = None
        self._watched: list[int] = []
        self._pid = os.getpid()
        self.stop = frames.shutdown

    def accept(self, deadline_ns: int) -> None:
        """See LoopServing.accept: here nothing is to be agreed on that the handshake has not settled."""

    def begin(self, life: Liveness, ended: Callable[[Exception], None]) -> None:
        """See LoopServing.begin. Raises OSError when the loop can watch no more."""
        self._ended = ended
        self._read_on()
        if life.pidfd >= 0:
            self._loop.add_reader(life.pidfd, self._gone)
            self._watched.append(life.pidfd)

    @property
    def busy(self) -> bool:
        """Whether a call is under way. Any thread."""
        return self._task.running

    # ---- what comes ---------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        """Read from now on, also what has been read with the frame before."""
        if not self._reading and not self._over and self._failure is None:
            self._reading = True
            self._loop.add_reader(self._stream.socket.fileno(), self._readable)
            if self._stream.held:
                self._loop.call_soon(self._readable)

    def _rest(self) -> None:
        """Read no more, and never touch the loop in a forked child: it is the parent's."""
        if self._reading and self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.remove_reader(self._stream.socket.fileno())
        self._reading = False

    def _readable(self) -> None:
        if not self._reading:
            return
        try:
            frame = self._stream.arrived()
            if frame is not None:
                self._take(frame)
        except Exception as e:
            self._fail(e)
            return
        if self._flow is not None and self._flow.full:
            self._rest()
        elif frame is not None and self._stream.held and self._reading:
            self._loop.call_soon(self._readable)

    def _take(self, frame: Frame) -> None:
        if frame.kind == CANCEL and frame.call_id == self._call_id:
            if self._flow is not None:
                self._flow.heard(frame)
            self._given_up = True
            self._task.cancel()  # if there is one: it may have crossed the reply
        elif self._flow is not None:
            self._flow.heard(frame)
        elif frame.kind == REQUEST and frame.call_id and not self._task.running:
            self._serve(frame)
        elif frame.kind == REQUEST and frame.call_id and self._task.answering and self._early is None:
            self._early = frame
        else:
            frame.rights.close()
            what = f"frame kind {frame.kind}, call {frame.call_id}, instead of a request"
            raise self._frames.nonsense(what)

    def _gone(self) -> None:
        """The client's process has ended."""
        self._fail(ClosedError(f"process {self.peer.pid} has ended"))

    def _fail(self, error: Exception) -> None:
        """Nothing will come any more, and nobody waits for an answer."""
        self._unwatch()
        self._stream.shutdown()
        self._given_up = True
        if self._failure is None:
            self._failure = error
        if self._flow is not None:
            self._flow.ended(ClosedError(str(self._failure)))
        if self._task.running:
            self._task.cancel()
        elif not self._starting:
            self._end(self._failure)

    # ---- requests -----------------------------------------------------------------------------------------

    def _serve(self, frame: Frame) -> None:
        self._call_id, self._given_up = frame.call_id, False
        self._starting = True
        try:
            answered = self._task.start(self._answer(frame, self._begin(frame)))
        finally:
            self._starting = False
        if answered is not None:
            self._answered()

    async def _answer(self, frame: Frame, body: bytes) -> int:
        """Nobody wants to know what it returns."""
        try:
            if frame.flags & lib.FC_FLAG_STREAM:
                incoming = self._dispatcher.incoming(frame.code)
                self._flow = LoopSocketFlow(
                    self._stream, incoming, frame.call_id, self.deadline_ns(), self._loop, self._read_on
                )
            answer = await self._dispatcher.asked(
                frame.code, body, memoryview(frame.attachment), frame.rights, self._flow, self._task
            )
        finally:
            frame.rights.close()
            self._flow = None
        self._task.answering = True
        self._read_on()
        self._count(frame, answer)
        await self._reply(*answer)
        return 0

    async def _reply(self, status: int, out: bytes, data: Any, fds: list[Fd]) -> None:
        try:
            self._stream.put(REPLY, status, self._call_id, out, data, fds=fds)
        except (CallError, MisuseError) as e:
            status, out = self._instead(e, status, out)
            self._stream.put(REPLY, status, self._call_id, out)
        finally:
            fds.clear()  # now, and not when the next request has come
        await self._stream.drained()

    def _came_to(self, outcome: Outcome) -> None:
        """A task is over."""
        if isinstance(outcome, Exception):
            self._end(outcome)
        else:
            self._answered()

    def _answered(self) -> None:
        early, self._early = self._early, None
        if self._failure is not None:
            self._end(self._failure)
        elif self._draining:
            self.retire()
        elif early is not None:
            try:
                self._serve(early)
            except Exception as e:
                self._fail(e)

    # ---- its end ------------------------------------------------------------------------------------------

    def retire(self) -> bool:
        """See LoopServing.retire."""
        self._draining = True
        if not self._task.running and not self._starting:
            self._end(ClosedError("the server takes no more calls"))
        return self._over

    def cut(self) -> None:
        """See LoopServing.cut."""
        self._fail(ClosedError("the server has stopped"))

    def runs(self, task: object) -> bool:
        """See LoopServing.runs."""
        return self._starting or self._task.runs(task)

    def _end(self, error: Exception) -> None:
        if not self._over:
            self._over, self._failure = True, None  # whose traceback has this object in its frames
            self.close()
            self._ended(error)

    def _unwatch(self) -> None:
        self._rest()
        watched, self._watched = self._watched, []
        if self._pid == os.getpid() and not self._loop.is_closed():
            for fd in watched:
                self._loop.remove_reader(fd)

    def close(self) -> None:
        """See LoopServing.close."""
        self._unwatch()
        self._stream.close()

    def cancelled(self) -> bool:
        """See Context.cancelled."""
        return self._given_up
