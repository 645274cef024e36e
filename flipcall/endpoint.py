"""One side of a packet window: gVisor's verbs over the C core.

                connect / recv_first               send_recv: flip ──┐
      NEW ───────────────────────────────► ACTIVE ◄──────────────────┤ the answer came
                                             │  │                    │
                                   send_last │  └──► WAITING ────────┘
                                             ▼          │  deadline, Ctrl-C: still WAITING, recv() goes on
                                           LAST         │
      any state ── shutdown, peer's shutdown, peer's death, protocol error ──► OVER ── close ──► CLOSED

Concurrency: one thread at a time; a second gets BusyError and changes nothing. shutdown() is for any thread,
and for signal handlers. What was given before a shutdown is not taken back: a peer that keeps its sleepers bit
(agreed on when connecting) still receives it, and finds the end when it gives control away next.
A wait releases the GIL, never installs a signal handler, and comes back to Python at every signal and at least
every 50 ms on the way, so Ctrl-C works and a dead peer is noticed.
"""

import os
import threading
import time
import weakref
from socket import socket as UnixSocket
from types import TracebackType
from typing import Any, NoReturn

from . import greeting
from ._core import ffi, lib
from .errors import (
    BusyError,
    ClosedError,
    FlipcallError,
    MisuseError,
    ProtocolError,
    UnsupportedError,
    WindowInUseError,
)
from .liveness import Liveness
from .notify import NotifyLink
from .outcome import Side, State, Stats, error_of
from .policy import FREE, WaitPolicy, waits
from .switch import FUTEX, NOTIFY, number, taken
from .window import PacketWindow

os.register_at_fork(after_in_child=lib.fc_forked)

# Windows that have an endpoint: two over one window would both believe that control is theirs.
_owned: "weakref.WeakSet[PacketWindow]" = weakref.WeakSet()
_NO_DEADLINE: int = lib.FC_NO_DEADLINE
_TICK: int = lib.FC_TICK
_send_recv = lib.fc_send_recv  # looked up once: an attribute of lib costs 30 ns
# A wait that somebody else watches over looks for itself so often: a thousand idle channels wake 17 times a
# second, not 20,000. Nothing an honest peer does needs it, dead or alive: answers, shutdown() and condemn() wake
# the waiter, and the last two set `stop` first, which it looks at before it sleeps and after. What it bounds is a
# peer that writes the word back between a look and the sleep: that keeps a thread and a window for so much longer.
_WATCHED_SLICE_NS = 60_000_000_000


class Endpoint:
    """One side of a connection over `window`, which it owns from now on, as it does `peer`.

    Also when it raises: it has closed both then.

    peer: how to notice the other process's death; without it only deadlines and shutdown end a wait.
    switch: the only one to use (see flipcall.switch); by default the best that both sides can do.
    notify: this side's part in the switch of that name (flipcall.notify); owned from now on, too.
    doorbell: the socket both sides have, on which this one rings a peer that waits in an event loop; borrowed, and
        open until close() has returned.
    watched: somebody else watches the peer and calls condemn(), so waits here need not look every 50 ms.
    Raises UnsupportedError for a switch that cannot work here, ClosedError for a closed window, MisuseError for a
    window that is another endpoint's (and then closes nothing).
    """

    def __init__(
        self,
        window: PacketWindow,
        side: Side,
        *,
        peer: Liveness | None = None,
        policy: WaitPolicy | None = None,
        watched: bool = False,
        switch: str | None = None,
        notify: NotifyLink | None = None,
        doorbell: UnixSocket | None = None,
    ) -> None:
        if window in _owned:  # and so is `peer`, perhaps: both stay with the other endpoint
            raise MisuseError(f"{window!r} is another endpoint's")
        _owned.add(window)
        self.switch = FUTEX  # until connected
        self.placement = FREE  # until connected
        self._window = window
        self._peer = peer or Liveness()
        self._doorbell = doorbell
        # shutdown and close, against each other; taken anew by a signal handler that interrupts its holder
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._closed = False
        self._rings = False  # both sides agreed on doorbells
        try:
            self.side = Side(side)
            self.policy = policy or WaitPolicy.balanced()
            self._offer = greeting.switches(switch, notify)
            self._base: Any = ffi.from_buffer("char[]", window.buffer)
            self._ep = ffi.new("struct fc_endpoint *")
            result = lib.fc_init(self._ep, self._base, window.length, self.side, _c_policy(self.policy))
            if result != lib.FC_OK:
                raise MisuseError(f"a window of {window.length} bytes cannot be used")
            self._ep.life_fd[0] = self._peer.pidfd
            self._ep.life_fd[1] = -1 if self._peer.socket is None else self._peer.socket.fileno()
            if watched:
                self._ep.slice_ns = _WATCHED_SLICE_NS
            self._notify = notify
            if notify is not None:
                notify.used = True
            self.data = memoryview(window.buffer)[lib.FC_PACKET_HEADER :]
            self.data_cap: int = self._ep.cap
        except BaseException:
            self._base = None
            if notify is not None:
                notify.close()
            window.close()
            self._peer.close()
            raise

    # ---- gVisor's verbs ---------------------------------------------------------------------------------

    def connect(self, *, deadline_ns: int | None = None) -> None:
        """Client: agree on extensions with the server's recv_first(). Call once, before anything else.

        deadline_ns: absolute, CLOCK_MONOTONIC. Raises DeadlineExceeded (the connection is then over, as the
        answer would be taken for a datagram), ClosedError, PeerDiedError, ProtocolError, WindowInUseError (this
        window has been connected before: nothing was changed), UnsupportedError (no switch in common).
        """
        self._usable()
        turn = State(self._ep.turn)  # not self.state, which another thread's shutdown() may just have changed
        if turn is not State.NEW or self.side is not Side.CLIENT:
            raise MisuseError(f"connect() on a {self.side.name.lower()} endpoint in state {turn.name}")
        bell = self._doorbell is not None
        offer = greeting.request(self._offer, self.policy.placement, self._notify, bell)
        try:
            self._put(offer)
            n = self._settle(lib.fc_connect(self._ep, len(offer), _deadline(deadline_ns)), deadline_ns)
            answer = self._agree(n)
            index = 0 if self._notify is None else self._notify.index
            self._use(taken(self._offer, [answer["switch"]] if "switch" in answer else None), index)
            self._settle_at(answer.get("placement"))
        except (MisuseError, BusyError, WindowInUseError):
            raise  # nothing has happened, or not to this connection
        except BaseException:
            self.shutdown()
            raise

    def recv_first(self, *, deadline_ns: int | None = None) -> int:
        """Server: answer the client's connect(), then wait for its first datagram; its length in bytes.

        Raises as accept() and recv() do: what ends the first half ends the connection, in the second half, which
        state WAITING tells from it, DeadlineExceeded leaves it as it is.
        """
        self.accept(deadline_ns=deadline_ns)
        return self.recv(deadline_ns=deadline_ns)

    def accept(self, *, deadline_ns: int | None = None) -> None:
        """Server: the first half of recv_first(), which answers the connection and leaves the first wait to
        recv(). Raises as connect() does.
        """
        self._usable()
        try:
            n = self._settle(lib.fc_first(self._ep, _deadline(deadline_ns)), deadline_ns)
            offer = self._agree(n)
            switch, index = taken(self._offer, offer.get("switches")), offer.get("notify")
            place = self._settle_at(offer.get("placement"))
            answer = greeting.answer(offer, switch, place, self._rings)
            self._put(answer)
            self._check(lib.fc_send(self._ep, len(answer)))
            self._use(switch, index)
        except (MisuseError, BusyError):
            raise  # nothing has happened, or not in this thread
        except BaseException:
            self.shutdown()
            raise

    def send_recv(self, n: int, *, deadline_ns: int | None = None) -> int:
        """Give the first `n` bytes of `data` to the peer, wait for its answer; the answer's length in bytes.

        Raises MisuseError (not ACTIVE, or n > data_cap: nothing was sent), BusyError, DeadlineExceeded (WAITING:
        recv() goes on), ClosedError, PeerDiedError, ProtocolError.
        """
        try:
            result: int = _send_recv(self._ep, n, _NO_DEADLINE if deadline_ns is None else deadline_ns)
        except OverflowError:
            raise self._no_length(n) from None
        if result >= 0:
            return result
        return self._settle(result, deadline_ns)

    def recv(self, *, deadline_ns: int | None = None) -> int:
        """Go on waiting, in state WAITING; the datagram's length in bytes. Raises as send_recv() does."""
        return self._settle(lib.fc_resume(self._ep, _deadline(deadline_ns)), deadline_ns)

    def send_last(self, n: int) -> None:
        """Give the first `n` bytes of `data` to the peer and never ask for control again.

        Raises as send_recv() does, but never DeadlineExceeded: it does not wait.
        """
        try:
            self._check(lib.fc_send_last(self._ep, n))
        except OverflowError:
            raise self._no_length(n) from None

    def shutdown(self) -> None:
        """End the connection, from any thread: waits on both sides return with ClosedError. Idempotent.

        What was given to the peer before stays given (see above). Does nothing in a forked child.
        """
        if self._pid == os.getpid():
            with self._lock:
                if not self._closed:
                    lib.fc_shutdown(self._ep)

    def condemn(self) -> None:
        """The peer is known to be gone: waits here return with PeerDiedError. Any thread, idempotent."""
        if self._pid == os.getpid():
            with self._lock:
                if not self._closed:
                    lib.fc_condemn(self._ep)

    def retire(self) -> bool:
        """Shut down if no datagram is on its way and no call under way: only while the peer is active. Whether it
        is shut down now.

        Any thread. A peer that was about to send finds out before it does, so nothing is lost; one that has not
        looked at our last datagram yet still receives it.
        """
        if self._pid != os.getpid():
            return False
        with self._lock:
            return self._closed or bool(lib.fc_retire(self._ep))

    def drain(self) -> None:
        """Server: let the answer to the call under way be the last one; retire() then. Any thread."""
        if self._pid == os.getpid():
            with self._lock:
                if not self._closed:
                    lib.fc_drain(self._ep)

    def cancelled(self) -> bool:
        """Server: nobody waits for the call under way any more. Any thread."""
        if self._pid != os.getpid():
            return True
        with self._lock:
            return self._closed or bool(lib.fc_cancelled(self._ep))

    def wait_by_doorbell(self) -> None:
        """Never park from now on: waits end with FC_ARMED, and the peer rings on the socket given as doorbell=.

        Once connected, before anything else. Raises UnsupportedError when the peer does not ring.
        """
        if not self._rings:
            raise UnsupportedError(self._name("does not ring doorbells"))
        self._check(lib.fc_wait_by_doorbell(self._ep))

    def close(self) -> None:
        """Shut down and give back window and descriptors. Any thread; waits for a thread inside. Idempotent: one
        that an exception interrupted goes on where it was.

        Views of `data` that are still held, and what core() gave, keep the memory mapped until they go. In a
        forked child it gives back the child's copies and leaves the parent's connection alone.
        """
        if self._pid != os.getpid():
            self._lock = threading.RLock()  # its holder may be a thread that this process does not have
        self.shutdown()
        while lib.fc_seal(self._ep) == lib.FC_ERR_BUSY:
            time.sleep(0)
        lib.fc_unpin()
        with self._lock:
            self._closed = True
            try:
                self.data.release()
            except BufferError:
                pass  # somebody holds a view of it: the mapping lives until that goes
            self._base = None
            if self._notify is not None:
                self._notify.close()
            self._window.close()
            self._peer.close()

    # ---- what state it is in ----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What can be done next. Any thread; may be outdated at once while another thread is inside."""
        if self._closed:
            return State.CLOSED
        return State.OVER if lib.fc_ended(self._ep) else State(self._ep.turn)

    @property
    def stats(self) -> Stats:
        """Counts so far. Any thread."""
        s = self._ep.stats
        return Stats(*(getattr(s, name) for name in Stats.__struct_fields__))

    @property
    def pidfd(self) -> int:
        """What tells of the peer's end, for a loop that watches it; borrowed. -1 for none."""
        return self._peer.pidfd

    @property
    def parked(self) -> bool:
        """Whether this side sleeps in the kernel, or is about to. Any thread."""
        bit = lib.FC_SLEEPS_CLIENT if self.side is Side.CLIENT else lib.FC_SLEEPS_SERVER
        with self._lock:
            return not self._closed and bool(ffi.cast("struct fc_packet *", self._base).sleepers & bit)

    @property
    def serving(self) -> bool:
        """Whether a call is under way on this side. Any thread."""
        return bool(self._ep.call)

    @property
    def peer_pid(self) -> int:
        """The peer's process id, 0 when unknown."""
        return self._peer.pid

    def __enter__(self) -> "Endpoint":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        spin = f"spin {self._ep.policy.spin_ns} ns" if self._ep.policy.spin_ns else "no spin"
        return (
            f"<Endpoint {self.side.name.lower()} {self.state.name} cap={self.data_cap} "
            f"switch={self.switch} ({spin}) placement={self.placement} peer={self.peer_pid}>"
        )

    def core(self) -> tuple[Any, Any]:
        """The C endpoint, and the window's bytes, which stay mapped for as long as that object lives: a thread
        that has just been answered may still be reading them when another one calls close().
        """
        return self._ep, ffi.from_buffer("char[]", self._window.buffer)

    # ---- below the verbs --------------------------------------------------------------------------------

    def _use(self, switch: str, index: object) -> None:
        if switch == NOTIFY and self._notify is not None:
            if not isinstance(index, int) or not 0 < index < 2**32 - 1:
                raise ProtocolError(
                    self._name("did not say which channel of its listener this is"), self.peer_pid
                )
            result = self._notify.join(self._ep, index)
            if result == lib.FC_ERR_SIZE:
                raise UnsupportedError(f"more than {lib.FC_LISTENER_MAX} channels on one listener")
            self._check(result)
        self._check(lib.fc_use_switch(self._ep, number(switch)))
        self.switch = switch

    def _settle_at(self, wished: object) -> str:
        """The placement both sides want, and this side's policy with it; free for any other wish."""
        if wished == self.policy.placement and self._ep.trust_sleepers:
            self.placement = self.policy.placement
        if self.placement != FREE:
            lib.fc_use_same_cpu(self._ep)
        return self.placement

    def _usable(self) -> None:
        """Raise ForkedError or ClosedError where the window must not be written to."""
        if self._pid != os.getpid():
            self.fail(lib.FC_ERR_FORKED)
        if self.state in (State.OVER, State.CLOSED):
            raise self._over()

    def _put(self, datagram: bytes) -> None:
        try:
            self.data[: len(datagram)] = datagram
        except ValueError:  # released: close() in another thread
            raise self._over() from None

    def _agree(self, n: int) -> dict[str, Any]:
        """Read the peer's JSON object of n bytes; trust its sleepers bit if it says that it keeps one."""
        try:
            text = bytes(self.data[: min(n, lib.FC_CONNECT_JSON_MAX)])
        except ValueError:  # released: close() in another thread
            raise self._over() from None
        offer = greeting.read(text)
        if offer is None:
            raise ProtocolError(self._name("connected with something else than a JSON object"), self.peer_pid)
        self._ep.trust_sleepers = offer.get("sleepers") == 1
        if self._doorbell is not None and offer.get("doorbell") == 1 and self._ep.trust_sleepers:
            self._check(lib.fc_use_doorbell(self._ep, self._doorbell.fileno()))
            self._rings = True
        return offer

    def _settle(self, result: int, deadline_ns: int | None) -> int:
        """Wait on over ticks, letting Python see its signals at each; the length, or the error raised."""
        while result == _TICK:
            result = lib.fc_resume(self._ep, _deadline(deadline_ns))
        return self._check(result)

    def _check(self, result: int) -> int:
        if result < 0:
            self.fail(result)
        return result

    def fail(self, result: int) -> NoReturn:
        """Raise what the C core's `result` means."""
        raise self.error(result)

    def error(self, result: int) -> FlipcallError:
        """The exception for a negative result of the C core."""
        if self.state is State.CLOSED or (result == lib.FC_ERR_TURN and self.state is State.OVER):
            return self._over()
        if result == lib.FC_ERR_USED:
            return WindowInUseError(f"{self._window!r} has been connected before")
        return error_of(result, self._ep, self.state, self.peer_pid)

    def _over(self) -> ClosedError:
        return ClosedError("this endpoint is closed" if self._closed else "the connection is over")

    def _no_length(self, n: int) -> MisuseError:
        return MisuseError(f"a datagram has 0 to {self.data_cap} bytes, not {n}")

    def _name(self, what: str) -> str:
        return f"the peer (process {self.peer_pid or '?'}) {what}"


def _deadline(deadline_ns: int | None) -> int:
    return _NO_DEADLINE if deadline_ns is None else deadline_ns


def _c_policy(policy: WaitPolicy) -> Any:
    how = waits(policy)
    return ffi.new("struct fc_policy *", (how.spin_ns, how.adaptive, how.yields))[0]
