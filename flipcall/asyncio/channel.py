"""The client's end of one channel in an event loop: as flipcall.channel, but where that sleeps, this suspends
a task.

──take()──► ACTIVE ──a call──► answered within the spin budget: the task goes on, the loop never knew
              ▲                 └──► FC_ARMED: suspended until the bell rings, or the deadline's timer
              │                        │ cancelled, or the deadline
              └──── rung, reclaimed ◄──┴──► lent: nobody's until the handler lets go
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence

from .._core import ffi, lib
from ..buffers import address
from ..channel import FDS_CAME, FDS_SENT, SPLIT, Attachment, Reply, WindowChannel
from ..control import hand_over
from ..errors import FlipcallError
from ..failure import rebuild
from ..fd import Fd
from ..filled import Filling
from ..items import Items
from ..landing import Landing
from ..outcome import State
from ..rights import NO_RIGHTS
from .bell import Bell
from .control import Control
from .flow import LoopFlow

_TICK: int = lib.FC_TICK
_ARMED: int = lib.FC_ARMED
_TOO_LARGE: int = lib.FC_ERR_SIZE


class Channel:
    """One channel. One task at a time. Owns the WindowChannel.

    returned: called with the channel when it was lent and can be used again, and when it is over then.
    """

    __slots__ = ("__weakref__", "_bell", "_loop", "_returned", "call", "ep", "lent", "window")

    def __init__(
        self, window: WindowChannel, loop: asyncio.AbstractEventLoop, returned: Callable[["Channel"], None]
    ) -> None:
        """Raises UnsupportedError when the server does not ring; the WindowChannel is closed then."""
        self.window = window
        self.ep, self.call = window.ep, window.call
        self.lent = False
        self._loop = loop
        self._returned = returned
        me = weakref.ref(self)  # the loop must not keep a channel that its owner has lost

        def rung() -> None:
            if (channel := me()) is not None:
                channel._rung()

        def gone() -> None:
            if (channel := me()) is not None:
                channel._gone()

        try:
            window.endpoint.wait_by_doorbell()
            control = Control(window.socket)
            window.socket = control
            self._bell = Bell(loop, control, window.endpoint.pidfd, rung, gone)
        except BaseException:
            window.close()
            raise

    @property
    def unsent(self) -> bool:
        """See WindowChannel.unsent."""
        return self.window.unsent

    def filled(self, filling: Filling, body: bytes, streaming: bool = False) -> Attachment:
        """See WindowChannel.filled."""
        return self.window.filled(filling, body, streaming)

    def hurry(self) -> None:
        """Do not spin in the next call: the loop has been held for long enough."""
        self.ep.brief = 1

    def ask(self, what: int, body: bytes, attachment: Attachment, fds: Sequence[Fd]) -> tuple[int, int]:
        """Give a request, and wait for the spin budget: `what` and the C core's result, both for settle()."""
        window = self.window
        if not fds:
            return what, window.ask(what, body, attachment)
        window.check_size(body, attachment)
        call_id = self.ep.call_id % 0xFFFFFFFF + 1
        hand_over(window.socket, call_id, fds)
        what |= FDS_SENT
        return what, window.ask(what, body, attachment)

    async def settle(
        self,
        result: int,
        what: int,
        body: bytes,
        attachment: Attachment = b"",
        landing: Landing | None = None,
    ) -> Reply:
        """See WindowChannel.settle. Cancelled, it leaves the channel WAITING."""
        window = self.window
        if result == _TOO_LARGE:
            result = await self._split(what, body, attachment)
        result = await self._on(result)
        if result >= 0 and result & SPLIT:
            return await self._gathered(result, landing)
        return window.came(result, landing)

    async def _on(self, result: int) -> int:
        while result in (_ARMED, _TICK):
            if result == _ARMED:
                await self._bell.ring(self.ep)
            result = lib.fc_call_resume(self.ep)
        return result

    async def _split(self, what: int, body: bytes, attachment: Attachment) -> int:
        """See WindowChannel._split."""
        self.window.check_size(body, attachment)
        with ffi.from_buffer("char[]", body) as start, ffi.from_buffer("char[]", attachment) as data:
            return await self._on(lib.fc_call_split(self.ep, what, start, len(start), data, len(data)))

    async def _gathered(self, announced: int, landing: Landing | None) -> Reply:
        """See WindowChannel._gathered."""
        frame, window = self.ep.received, self.window
        rights = window.taken() if announced & FDS_CAME else NO_RIGHTS
        code = (announced >> lib.FC_FRAME_CODE_SHIFT) & 0xFFFF
        body_len, attach_len = frame.whole_body, frame.whole_attach
        body, (landed, place) = window.room(body_len, attach_len, None if code else landing)
        with address(body) as to, place as behind:
            result: int = _TICK
            while result in (_ARMED, _TICK):
                if result == _ARMED:
                    await self._bell.ring(self.ep)
                result = lib.fc_gather(self.ep, to, body_len, behind, attach_len)
        if result < 0:
            window.endpoint.fail(result)
        if code:
            raise rebuild(code, body)
        return Reply(body, landed, rights)

    def _rung(self) -> None:
        if self.lent:
            self._look()

    def _gone(self) -> None:
        """An idle channel is left as it is: the next call finds out, and says why."""
        lib.fc_hung_up(self.ep)
        self._rung()

    def flow(self, incoming: Items | None) -> LoopFlow:
        """A streaming call over this channel, not opened yet."""
        w = self.window
        return LoopFlow(w.endpoint, self.ep, w.window, incoming, w.message_max, self._bell, self._loop)

    # ---- after a call that was given up -----------------------------------------------------------------

    @property
    def state(self) -> State:
        """What the channel can do next."""
        return self.window.state

    def lend(self) -> None:
        """The last caller gave up: tell the server, and have `returned` called once the channel is back.

        That may be at once.
        """
        self.lent = True
        self.window.cancel()
        self._look()

    def _look(self) -> None:
        try:
            back = self.window.reclaim()
        except (FlipcallError, OSError):
            self.window.close()  # its state says so then, also in a forked child, where it is the parent's
            back = True
        if back:
            self.lent = False
            self._returned(self)

    def close(self) -> None:
        """End it. Idempotent."""
        self._bell.close()
        self.window.close()

    def __del__(self) -> None:
        if hasattr(self, "_bell"):
            self.close()
