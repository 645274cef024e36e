"""A client's channels: handed out one caller each, grown on demand to a limit, mended or dropped after errors.

      free ──take()──► in use ──give()──► free
        ▲                │ mend(): after an error, by the channel's state
        │                ├─ ACTIVE ──────────────► free     the call was answered, with an error
        └──── reclaim ◄──┼─ WAITING ─────────────► lent     its handler still runs: nobody's until it lets go
                         └─ OVER, CLOSED ────────► closed

take() and give() are on the hot path: a list's pop and append, which the interpreter makes atomic. A waiter
stands in line, then looks at `free` once more; give() appends, then looks for waiters: none is missed. A client's
hottest path (hotpath/) does both itself.

Whoever waits is served in turn: notify() hands the free channel to the first in line, before the thread that gave
it back can take it again. Rejected: waking the waiter to look for itself. The giver, which need not be woken, is
always quicker, and a thread that calls without pause keeps a channel for ever.

Where a server has no room for one more channel, whoever wanted it waits for those there are: its call could be
made by one of them. Only the first channel's refusal is the caller's error.

A signal can raise between any two bytecodes, so also between take() and the caller's try: a channel can be lost.
The pool therefore holds the channels in use only weakly: a lost one is collected, closes itself, and no longer
counts against the limit.
"""

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from .channel import WindowChannel
from .errors import CallError, ClosedError, DeadlineExceeded, FlipcallError, ForkedError
from .outcome import State
from .socketchannel import SocketChannel
from .status import Status

Channel = WindowChannel | SocketChannel

_PATIENCE_S = 1.0
_LENT_S = 0.005
REFUSED_S = 1.0  # after a server had no room for one more channel, it is not asked again for so long


class Pool:
    """Channels made by `connect(deadline)`, at most `limit` at a time. Every method is for any thread."""

    def __init__(self, connect: Callable[[float | None], Channel], limit: int) -> None:
        self.free: list[Channel] = []
        self.waiters: deque[_Ticket] = deque()  # in line
        self.limit = limit
        self._connect = connect
        self._lock = threading.Lock()  # _all, _lent, _closed, _making
        self._all: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._lent: list[Channel] = []
        self._making = 0
        self._refused = -REFUSED_S  # when one more was; time.monotonic()
        self._closed = False
        self._forked = False

    def take(self, timeout: float | None) -> Channel:
        """A channel for this caller alone. Waits up to `timeout` seconds when all are in use.

        Raises DeadlineExceeded, ClosedError, and what connecting raises.
        """
        try:
            return self.free.pop()
        except IndexError:
            pass
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._reclaimed() or self._grown(deadline) or self._queued(deadline)

    def give(self, channel: Channel) -> None:
        """The caller is done and the channel ACTIVE."""
        self.free.append(channel)
        if self.waiters:
            self.notify()

    def mend(self, channel: Channel) -> None:
        """The caller's call failed: keep, lend or drop the channel, as its state says."""
        state = channel.state
        if state is State.ACTIVE:
            self.give(channel)
            return
        if state is State.WAITING:
            channel.cancel()
            with self._lock:
                self._lent.append(channel)
            # At once, too: a handler that has given control away in a stream hears of it only so.
            if (back := self._reclaimed()) is not None:
                self.give(back)
        else:
            self._drop(channel)
        self.notify()

    def close(self) -> None:
        """Close every channel; calls under way end with ClosedError."""
        with self._lock:
            self._closed = True
            channels = list(self._all)
            self._all.clear()
            self._lent.clear()
        self.free.clear()
        for channel in channels:
            channel.close()
        for ticket in list(self.waiters):
            ticket.ring()

    def forget(self) -> None:
        """In a forked child: these channels are the parent's. Using the pool raises ForkedError from now on."""
        self._forked = True
        self._lock = threading.Lock()  # its holder may be a thread that this process does not have
        # Before they can be collected, which would end them for the parent, too.
        for channel in list(self._all):
            channel.abandon()
        self.free.clear()
        self.waiters.clear()
        self._lent.clear()

    def channels(self) -> list[Channel]:
        """The channels there are now."""
        with self._lock:
            return list(self._all)

    # ---- the slow path ----------------------------------------------------------------------------------

    def _reclaimed(self) -> Channel | None:
        """A lent channel whose handler has let go meanwhile."""
        with self._lock:
            lent, self._lent = self._lent, []
        found: Channel | None = None
        for channel in lent:
            try:
                back = found is None and channel.reclaim()
            except (FlipcallError, OSError):
                self._drop(channel)
                continue
            if back:
                found = channel
            else:
                with self._lock:
                    self._lent.append(channel)
        return found

    def _grown(self, deadline: float | None) -> Channel | None:
        """A new channel, if one more is allowed, here and by the server, made by the deadline."""
        if self._forked:
            raise ForkedError("this client belongs to the parent process: connect again after fork()")
        with self._lock:
            if self._closed:
                raise ClosedError("this client is closed")
            if len(self._all) + self._making >= self.limit:
                return None
            if self._all and time.monotonic() < self._refused + REFUSED_S:
                return None
            self._making += 1
        try:
            channel = self._connect(deadline)
        except BaseException as e:
            with self._lock:
                self._making -= 1
                waits = no_room(e) and len(self._all) > 0
                if waits:
                    self._refused = time.monotonic()
            self.notify()
            if waits:
                return None
            raise
        with self._lock:
            self._making -= 1
            closed = self._closed
            if not closed:
                self._all.add(channel)
        if closed:
            channel.close()
            raise ClosedError("this client is closed")
        return channel

    def _drop(self, channel: Channel) -> None:
        with self._lock:
            self._all.discard(channel)
        channel.close()

    def _queued(self, deadline: float | None) -> Channel:
        """The channel that is this caller's turn; lent ones are looked after every few milliseconds."""
        ticket = _Ticket()
        self.waiters.append(ticket)
        try:
            self.notify()  # what was given back before it stood in line
            while not ticket.channels:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise none_free(len(self._all), len(self._lent), self.limit)
                patience = _LENT_S if self._lent else _PATIENCE_S
                if not ticket.wait(patience if left is None else min(left, patience)):
                    self._stay(ticket)
                if not ticket.channels:
                    channel = self._reclaimed() or self._grown(deadline)
                    if channel is not None:
                        return channel
            return ticket.channels.pop()
        finally:
            self._leave(ticket)

    def _stay(self, ticket: "_Ticket") -> None:
        """A caller that took the ticket out of the line and was interrupted before it said so: line up again."""
        if ticket not in self.waiters and not ticket.channels:
            self.waiters.append(ticket)

    def _leave(self, ticket: "_Ticket") -> None:
        """Out of line; what was handed over meanwhile is the next one's."""
        try:
            self.waiters.remove(ticket)
        except ValueError:
            pass
        for channel in ticket.channels:
            self.give(channel)

    def notify(self) -> None:
        """A channel is free, or one more may be made: the first in line gets it, or is woken to see."""
        while self.free and self.waiters:
            try:
                channel = self.free.pop()
            except IndexError:
                return
            try:
                self.waiters.popleft().hand(channel)
            except IndexError:  # it has just left
                self.free.append(channel)
        try:
            self.waiters[0].ring()
        except IndexError:
            pass


def no_room(error: BaseException) -> bool:
    """Whether a server could not take one more channel, as what connecting raised says."""
    return isinstance(error, CallError) and error.status is Status.RESOURCE_EXHAUSTED


def none_free(channels: int, lent: int, limit: int) -> DeadlineExceeded:
    """For a caller that had no channel by its deadline. lent: those whose handler runs on, its call given up."""
    busy = f"{channels} of at most {limit} (max_channels) are in use"
    given_up = f", {lent} of them by handlers of calls that were given up" if lent else ""
    return DeadlineExceeded(f"no channel was free in time: {busy}{given_up}")


class _Ticket:
    """A caller that waits for a channel."""

    __slots__ = ("_bell", "channels")

    def __init__(self) -> None:
        self.channels: list[Channel] = []  # handed over; a second one only after an interrupt: see _stay
        self._bell = threading.Lock()
        self._bell.acquire()

    def hand(self, channel: Channel) -> None:
        self.channels.append(channel)
        self.ring()

    def ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it has been rung already

    def wait(self, seconds: float) -> bool:
        """Whether it was rung."""
        return self._bell.acquire(timeout=seconds)
