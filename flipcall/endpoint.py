"""One side of a packet window: gVisor's verbs over the C core.

                connect / recv_first               send_recv: flip ──┐
      NEW ───────────────────────────────► ACTIVE ◄──────────────────┤ the answer came
                                             │  │                    │
                                   send_last │  └──► WAITING ────────┘
                                             ▼          │  deadline, Ctrl-C: still WAITING, recv() goes on
                                           LAST         │
      any state ── shutdown, peer's shutdown, peer's death, protocol error ──► OVER ── close ──► CLOSED

Concurrency: one thread at a time; a second gets BusyError and changes nothing. shutdown() is for any thread.
A wait releases the GIL, never installs a signal handler, and comes back to Python at every signal and at least
every 50 ms on the way, so Ctrl-C works and a dead peer is noticed.
"""

import enum
import json
import os
import threading
import time
from types import TracebackType
from typing import Any, NoReturn

import msgspec

from ._core import ffi, lib
from .errors import (
    BusyError,
    ClosedError,
    DeadlineExceeded,
    FlipcallError,
    ForkedError,
    MisuseError,
    PeerDiedError,
    ProtocolError,
)
from .liveness import Liveness
from .notify import NotifyLink
from .policy import WaitPolicy, waits
from .switch import FUTEX, NOTIFY, number, offered, taken
from .window import PacketWindow

os.register_at_fork(after_in_child=lib.fc_forked)

_NO_DEADLINE: int = lib.FC_NO_DEADLINE
_TICK: int = lib.FC_TICK
_send_recv = lib.fc_send_recv  # looked up once: an attribute of lib costs 30 ns
_WATCHED_SLICE_NS = (
    2_000_000_000  # a thousand idle channels then wake five hundred times a second, not 20,000
)


class Side(enum.IntEnum):
    """Which side of the window; the client is active first."""

    CLIENT = lib.FC_CLIENT_ACTIVE
    SERVER = lib.FC_SERVER_ACTIVE


class State(enum.IntEnum):
    """What an endpoint can do next."""

    NEW = lib.FC_TURN_NEW
    ACTIVE = lib.FC_TURN_MINE
    WAITING = lib.FC_TURN_THEIRS
    LAST = lib.FC_TURN_LAST
    OVER = lib.FC_TURN_OVER
    CLOSED = 100


class Stats(msgspec.Struct, frozen=True):
    """What an endpoint has done so far; counts."""

    flips: int
    spins_paid: int
    spins_lost: int
    parks: int
    swaps: int
    wakes: int
    wakes_skipped: int
    rescues: int


_FAULTS = {
    lib.FC_FAULT_STATE: "conn_state was {}",
    lib.FC_FAULT_LENGTH: "data_len {} is beyond the window's {cap}",
    lib.FC_FAULT_SHORT: "a datagram of {} bytes cannot hold a frame header",
    lib.FC_FAULT_KIND: "unexpected frame kind {}",
    lib.FC_FAULT_FLAGS: "unknown frame flags {:#x}",
    lib.FC_FAULT_BODY: "body_len {} is beyond its datagram",
    lib.FC_FAULT_PADDING: "a datagram of {} bytes ends between body and attachment",
    lib.FC_FAULT_CALL_ID: "frame for call {}, which was not asked",
    lib.FC_FAULT_RESERVED: "a reserved field was {}",
}


class Endpoint:
    """One side of a connection over `window`, which it owns from now on, as it does `peer`.

    peer: how to notice the other process's death; without it only deadlines and shutdown end a wait.
    switch: the only one to use (see flipcall.switch); by default the best that both sides can do.
    notify: this side's part in the switch of that name (flipcall.notify); owned from now on, too.
    watched: somebody else watches the peer and calls condemn(), so waits here need not look every 50 ms.
    Raises UnsupportedError for a switch that cannot work here.
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
    ) -> None:
        self.side = Side(side)
        self.policy = policy or WaitPolicy.balanced()
        self.switch = FUTEX  # until connected
        self._offer = _offered(switch, notify)
        self._notify = notify
        self._window = window
        self._peer = peer or Liveness()
        self._lock = threading.Lock()  # shutdown and close, against each other
        self._closed = False
        self._base = ffi.from_buffer("char[]", window.buffer)
        self._ep = ffi.new("struct fc_endpoint *")
        result = lib.fc_init(self._ep, self._base, window.length, self.side, _c_policy(self.policy))
        if result != lib.FC_OK:
            raise MisuseError(f"a window of {window.length} bytes cannot be used")
        self._ep.life_fd[0] = self._peer.pidfd
        self._ep.life_fd[1] = -1 if self._peer.socket is None else self._peer.socket.fileno()
        if watched:
            self._ep.slice_ns = _WATCHED_SLICE_NS
        if notify is not None:
            notify.used = True
        self.data = memoryview(window.buffer)[lib.FC_PACKET_HEADER :]
        self.data_cap: int = self._ep.cap

    # ---- gVisor's verbs ---------------------------------------------------------------------------------

    def connect(self, *, deadline_ns: int | None = None) -> None:
        """Client: agree on extensions with the server's recv_first(). Call once, before anything else.

        deadline_ns: absolute, CLOCK_MONOTONIC. Raises DeadlineExceeded (the connection is then over, as the
        answer would be taken for a datagram), ClosedError, PeerDiedError, ProtocolError.
        """
        keys: dict[str, Any] = {"sleepers": 1, "switches": self._offer}
        if self._notify is not None:
            keys["notify"] = self._notify.index
        offer = json.dumps(keys).encode()
        if self.state is not State.NEW or self.side is not Side.CLIENT:
            raise MisuseError(f"connect() on a {self.side.name.lower()} endpoint in state {self.state.name}")
        self.data[: len(offer)] = offer
        try:
            n = self._settle(lib.fc_connect(self._ep, len(offer), _deadline(deadline_ns)), deadline_ns)
            answer = self._agree(n)
            index = 0 if self._notify is None else self._notify.index
            self._use(taken(self._offer, [answer["switch"]] if "switch" in answer else None), index)
        except BaseException:
            self.shutdown()
            raise

    def recv_first(self, *, deadline_ns: int | None = None) -> int:
        """Server: answer the client's connect(), then wait for its first datagram; its length in bytes.

        Raises as connect() does.
        """
        self.accept(deadline_ns=deadline_ns)
        return self.recv(deadline_ns=deadline_ns)

    def accept(self, *, deadline_ns: int | None = None) -> None:
        """Server: the first half of recv_first(), which answers the connection and leaves the first wait to
        recv(). Raises as connect() does.
        """
        try:
            n = self._settle(lib.fc_first(self._ep, _deadline(deadline_ns)), deadline_ns)
            offer = self._agree(n)
            switch, index = taken(self._offer, offer.get("switches")), offer.get("notify")
            reply = {"sleepers": 1, "switch": switch} if offer else {}
            answer = json.dumps(reply).encode()
            self.data[: len(answer)] = answer
            self._check(lib.fc_send(self._ep, len(answer)))
            self._use(switch, index)
        except MisuseError:
            raise
        except BaseException:
            self.shutdown()
            raise

    def send_recv(self, n: int, *, deadline_ns: int | None = None) -> int:
        """Give the first `n` bytes of `data` to the peer, wait for its answer; the answer's length in bytes.

        Raises MisuseError (not ACTIVE, or n > data_cap: nothing was sent), BusyError, DeadlineExceeded (WAITING:
        recv() goes on), ClosedError, PeerDiedError, ProtocolError.
        """
        result: int = _send_recv(self._ep, n, _NO_DEADLINE if deadline_ns is None else deadline_ns)
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
        self._check(lib.fc_send_last(self._ep, n))

    def shutdown(self) -> None:
        """End the connection, from any thread: waits on both sides return with ClosedError. Idempotent."""
        with self._lock:
            if not self._closed:
                lib.fc_shutdown(self._ep)

    def condemn(self) -> None:
        """The peer is known to be gone: waits here return with PeerDiedError. Any thread, idempotent."""
        with self._lock:
            if not self._closed:
                lib.fc_condemn(self._ep)

    def retire(self) -> bool:
        """Shut down if no datagram is on its way: only while the peer is active. Whether it is shut down now.

        Any thread. A peer that was about to send finds out before it does, so nothing is lost.
        """
        with self._lock:
            return self._closed or bool(lib.fc_retire(self._ep))

    def cancelled(self) -> bool:
        """Server: nobody waits for the call under way any more. Any thread."""
        with self._lock:
            return self._closed or bool(lib.fc_cancelled(self._ep))

    def close(self) -> None:
        """Shut down and give back window and descriptors. Any thread; waits for a thread inside. Idempotent.

        Views of `data` that are still held keep the memory mapped until they go.
        """
        self.shutdown()
        while lib.fc_enter(self._ep) == lib.FC_ERR_BUSY and not self._closed:
            time.sleep(0)
        with self._lock:
            if self._closed:
                return
            self._closed = True  # and fc_leave is never called: whoever comes later gets FC_ERR_BUSY
        try:
            self.data.release()
        except BufferError:
            pass  # somebody holds a view of it: the mapping lives until that goes
        if self._notify is not None:
            self._notify.close()
        ffi.release(self._base)
        self._window.close()
        self._peer.close()

    # ---- what state it is in ----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What can be done next. Any thread; may be outdated at once while another thread is inside."""
        return State.CLOSED if self._closed else State(self._ep.turn)

    @property
    def stats(self) -> Stats:
        """Counts so far. Any thread."""
        s = self._ep.stats
        return Stats(*(getattr(s, name) for name in Stats.__struct_fields__))

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
            f"switch={self.switch} ({spin}) peer={self.peer_pid}>"
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
            self._check(self._notify.join(self._ep, index))
        self._check(lib.fc_use_switch(self._ep, number(switch)))
        self.switch = switch

    def _agree(self, n: int) -> dict[str, Any]:
        """Read the peer's JSON object of n bytes; trust its sleepers bit if it says that it keeps one."""
        try:
            offer = json.loads(bytes(self.data[: min(n, lib.FC_CONNECT_JSON_MAX)]))
        except (ValueError, RecursionError):
            offer = None
        if not isinstance(offer, dict):
            raise ProtocolError(self._name("connected with something else than a JSON object"), self.peer_pid)
        self._ep.trust_sleepers = offer.get("sleepers") == 1
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
        if self._closed:
            return ClosedError("this endpoint is closed")
        match result:
            case lib.FC_ERR_TIMEOUT:
                return DeadlineExceeded(self._name("did not answer before the deadline"))
            case lib.FC_ERR_SHUTDOWN:
                return ClosedError(f"the connection with process {self.peer_pid or '?'} was shut down")
            case lib.FC_ERR_DIED:
                return PeerDiedError(self._name("is gone"), self.peer_pid)
            case lib.FC_ERR_PROTOCOL:
                what = _FAULTS[self._ep.fault].format(self._ep.fault_value, cap=self.data_cap)
                return ProtocolError(self._name(f"broke the protocol: {what}"), self.peer_pid)
            case lib.FC_ERR_BUSY:
                return BusyError("another thread is using this endpoint")
            case lib.FC_ERR_TURN:
                return MisuseError(f"not possible in state {self.state.name}")
            case lib.FC_ERR_SIZE:
                return MisuseError(f"the datagram is larger than the window's {self.data_cap} bytes")
            case lib.FC_ERR_FORKED:
                return ForkedError("this endpoint belongs to the parent process: connect again after fork()")
        code = self._ep.fault_value
        return FlipcallError(f"futex: {os.strerror(code)} (errno {code})")

    def _name(self, what: str) -> str:
        return f"the peer (process {self.peer_pid or '?'}) {what}"


def _offered(switch: str | None, notify: NotifyLink | None) -> list[str]:
    if notify is None:
        if switch == NOTIFY:
            raise MisuseError("switch notify needs notify=, this side's NotifyLink (flipcall.notify)")
        return offered(switch)
    if switch not in (None, NOTIFY):
        raise MisuseError(f"a NotifyLink is of no use to switch {switch}")
    return [NOTIFY] if switch == NOTIFY else [NOTIFY, *offered(None)]


def _deadline(deadline_ns: int | None) -> int:
    return _NO_DEADLINE if deadline_ns is None else deadline_ns


def _c_policy(policy: WaitPolicy) -> Any:
    how = waits(policy)
    return ffi.new("struct fc_policy *", (how.spin_ns, how.adaptive, how.yields))[0]
