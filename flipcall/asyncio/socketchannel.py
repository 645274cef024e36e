"""The client's end of a channel over the socket in an event loop; the same doors as Channel (channel.py).

──take()──► ACTIVE ──a call──► WAITING: the loop reads the socket ──its REPLY──► ACTIVE
              ▲                   │ cancelled, or the deadline: lent, what comes is dropped ──its REPLY──┐
              └─ returned ────────┴───────────────────────────────────────────────────────────────────────┘
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from .._core import lib
from ..channel import Attachment, Reply
from ..errors import BusyError, ClosedError, FlipcallError
from ..fd import Fd
from ..filled import Filling
from ..frame import CANCEL, REPLY, REQUEST, TIMEOUT_NONE
from ..items import Items
from ..landing import Landing
from ..liveness import hang_up
from ..outcome import State
from ..socketchannel import filled, reply_of
from ..stream import Frame
from .socketflow import LoopSocketFlow
from .stream import LoopFrames
from .waiter import Waiter

_ARMED: int = lib.FC_ARMED
_NUMBER = (1 << lib.FC_CALL_TIMEOUT_SHIFT) - 1


class LoopSocketChannel:
    """One channel. One task at a time. Owns the socket.

    returned: called with the channel when it was lent and can be used again, and when it is over then.
    """

    unsent = False  # see WindowChannel.unsent: a stream does not tell

    def __init__(
        self,
        frames: LoopFrames,
        loop: asyncio.AbstractEventLoop,
        returned: Callable[["LoopSocketChannel"], None],
    ) -> None:
        self.lent = False
        self._frames = frames
        self._loop = loop
        self._returned = returned
        self._call_id = 0
        self._state = State.ACTIVE
        self._deadline: float | None = None
        self._waiter = Waiter(loop)
        self._reply: Frame | None = None
        self._flow: LoopSocketFlow | None = None
        self._fault: FlipcallError | None = None  # why it is over
        self._reading = False
        self._pid = os.getpid()

    # ---- a call -------------------------------------------------------------------------------------------

    def ask(self, what: int, body: bytes, attachment: Attachment, fds: Sequence[Fd]) -> tuple[int, int]:
        """See Channel.ask."""
        timeout = what >> lib.FC_CALL_TIMEOUT_SHIFT
        self._begin()
        try:
            self._frames.put(
                REQUEST, what & _NUMBER, self._call_id, body, attachment, timeout_us=timeout, fds=fds
            )
        except ClosedError as e:
            self._hung_up(e)
        self._deadline = None if timeout == TIMEOUT_NONE else time.monotonic() + timeout / 1e6
        self._wait()
        return what, _ARMED

    def call(self, what: int, body: bytes) -> int:
        """A plain one: what settle() wants."""
        return self.ask(what, body, b"", ())[1]

    async def settle(
        self,
        result: int,
        what: int,
        body: bytes,
        attachment: Attachment = b"",
        landing: Landing | None = None,
    ) -> Reply:
        """See Channel.settle."""
        await self._frames.drained(self._deadline)
        while self._reply is None:
            if self._fault is not None:
                raise self._fault
            if not await self._waiter.wait(self._deadline):
                raise self._frames.late()
        reply, self._reply = self._reply, None
        return reply_of(reply, landing)

    def flow(self, incoming: Items | None) -> LoopSocketFlow:
        """See Channel.flow."""
        self._begin()
        self._flow = LoopSocketFlow(
            self._frames, incoming, self._call_id, None, self._loop, self._read_on, client=True
        )
        self._wait()
        return self._flow

    def filled(self, filling: Filling, body: bytes, streaming: bool = False) -> Attachment:
        """See WindowChannel.filled."""
        return filled(self._frames, filling, body)

    def hurry(self) -> None:
        """See Channel.hurry: it never spins."""

    def _begin(self) -> None:
        if self._pid == os.getpid() and self.state is not State.ACTIVE:
            raise self._fault or BusyError("this channel waits for an answer")
        self._call_id = self._call_id % 0xFFFFFFFF + 1
        if self._reply is not None:
            self._reply.rights.close()  # it came when nobody waited any more
        self._reply = self._flow = None

    def _wait(self) -> None:
        self._state = State.WAITING
        self._read_on()

    @property
    def state(self) -> State:
        """See Channel.state."""
        if self._pid != os.getpid() or (self._state is State.WAITING and self._fault is not None):
            return State.OVER
        unopened = self._flow is not None and not self._flow.opened
        return State.ACTIVE if unopened and self._state is State.WAITING else self._state

    # ---- what comes ---------------------------------------------------------------------------------------

    def _read_on(self) -> None:
        if not self._reading and self._fault is None and self._state is State.WAITING:
            self._reading = True
            self._loop.add_reader(self._frames.socket.fileno(), self._readable)
            if self._frames.held:
                self._loop.call_soon(self._readable)

    def _rest(self) -> None:
        """Read no more, and never touch the loop in a forked child: it is the parent's."""
        if self._reading and self._pid == os.getpid() and not self._loop.is_closed():
            self._loop.remove_reader(self._frames.socket.fileno())
        self._reading = False

    def _readable(self) -> None:
        if not self._reading:
            return
        try:
            frame = self._frames.arrived()
            if frame is not None:
                self._take(frame)
        except ClosedError as e:
            self._hung_up(e)
            return
        except FlipcallError as e:
            self._over(e)
            return
        if self._flow is not None and self._flow.full:
            self._rest()
        elif frame is not None and self._frames.held and self._reading:
            self._loop.call_soon(self._readable)

    def _take(self, frame: Frame) -> None:
        if frame.call_id != self._call_id:
            frame.rights.close()
            what = f"the peer answered call {frame.call_id}, asked was {self._call_id}"
            raise self._frames.nonsense(what)
        if self.lent:
            frame.rights.close()
        elif self._flow is not None:
            self._flow.heard(frame)
        elif frame.kind == REPLY:
            self._reply = frame
        else:
            raise self._frames.nonsense(f"frame kind {frame.kind} instead of a reply")
        if frame.kind == REPLY:
            self._rest()
            self._state = State.ACTIVE
            self._waiter.wake()
            self._back()

    def _hung_up(self, error: ClosedError) -> None:
        """The stream has ended. Whether its process has, too, may take a moment to tell, which the loop does not
        wait for.
        """
        self._rest()
        try:
            told = self._loop.run_in_executor(None, hang_up, self._frames.peer, str(error))
        except RuntimeError:  # the loop is ending
            self._over(error)
        else:
            told.add_done_callback(lambda told: self._over(error if told.cancelled() else told.result()))

    def _over(self, error: FlipcallError) -> None:
        self._rest()
        if self._fault is None:
            self._fault = error
        if self._state is State.WAITING:
            self._state = State.OVER
        if self._flow is not None:
            self._flow.ended(self._fault)
        self._waiter.wake()
        self._back()

    # ---- after a call that was given up -------------------------------------------------------------------

    def lend(self) -> None:
        """See Channel.lend."""
        self.lent = True
        self._flow = None
        try:
            self._frames.put(CANCEL, 0, self._call_id)
        except ClosedError:
            pass  # who reads finds out
        self._read_on()

    def _back(self) -> None:
        if self.lent:
            self.lent = False
            self._returned(self)

    def close(self) -> None:
        """See Channel.close."""
        self._returned = lambda channel: None
        self._over(ClosedError("this channel is closed"))
        self._state = State.CLOSED
        self._frames.close()
        self._frames.socket.close()

    def __del__(self) -> None:
        if hasattr(self, "_pid"):
            self.close()
