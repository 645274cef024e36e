"""The swap switch at work. Needs a kernel with FUTEX_SWAP: `make test-swap` runs this in a guest that has one."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import flipcall
from flipcall import ClosedError, DeadlineExceeded, PeerDiedError
from flipcall.lowlevel import Liveness, Side, State, WaitPolicy
from flipcall.testing import Pair, pair, read_word, until_parked, write_word
from tests.support import PATIENCE_S, child, wait_until
from tests.switch.support import Thread, needs_swap
from tests.switch.test_negotiation import Sum, SumServer

pytestmark = needs_swap

FRUGAL = WaitPolicy.frugal()
MS = 1_000_000


def _echo(both: Pair, rounds: int) -> Thread:
    def serve() -> None:
        n = both.server.recv()
        for _ in range(rounds - 1):
            n = both.server.send_recv(n)
        both.server.send_last(n)

    return Thread(serve)


def _swap_pair() -> Pair:
    both = pair(policy=FRUGAL)
    assert both.client.switch == both.server.switch == "swap"
    return both


def test_flips_are_swaps() -> None:
    """Never spinning, a flip to a peer that sleeps is one system call; no wake is lost, none is issued twice."""
    with _swap_pair() as both:
        for end in (both.client, both.server):
            end.core()[0].slice_ns = 3600 * 1000 * MS  # on whose end an answer may fall
        server = _echo(both, 500)
        for i in range(500):
            until_parked(both.server, Side.SERVER)
            both.client.data[:4] = i.to_bytes(4, "little")
            assert both.client.send_recv(4) == 4
            assert bytes(both.client.data[:4]) == i.to_bytes(4, "little")
        assert server.error() is None
        mine = both.client.stats
        assert mine.swaps >= 499  # the server may have been just about to sleep, once
        assert mine.swaps + mine.wakes + mine.wakes_skipped == mine.flips
        assert mine.rescues == both.server.stats.rescues == 0


def test_deadline_is_kept_and_control_comes_back_later() -> None:
    """A swap ends at the absolute deadline; the peer has been woken, and its late answer is received."""
    with _swap_pair() as both:
        taken = threading.Event()
        answer = threading.Event()

        def serve() -> None:
            assert both.server.recv() == 5
            taken.set()
            answer.wait()
            both.server.send_last(6)

        server = Thread(serve)
        until_parked(both.server, Side.SERVER)
        deadline = time.monotonic_ns() + 80 * MS
        with pytest.raises(DeadlineExceeded):
            both.client.send_recv(5, deadline_ns=deadline)
        assert time.monotonic_ns() >= deadline
        assert both.client.state is State.WAITING
        assert taken.wait(PATIENCE_S)
        answer.set()
        assert both.client.recv() == 6
        assert server.error() is None


def test_deadline_in_the_past_still_wakes() -> None:
    """With no time left nothing sleeps, and the peer gets its turn."""
    with _swap_pair() as both:
        server = Thread(both.server.recv)
        until_parked(both.server, Side.SERVER)
        with pytest.raises(DeadlineExceeded):
            both.client.send_recv(3, deadline_ns=1)
        assert server.error() is None
        both.server.send_last(4)
        assert both.client.recv() == 4


@pytest.mark.parametrize("by", ["client", "server"])
def test_shutdown_during_a_swap(by: str) -> None:
    """Either side's shutdown(), from another thread, ends a sleep that began with a swap."""
    with _swap_pair() as both:
        got = threading.Event()

        def serve() -> None:
            both.server.recv()
            got.set()

        server = Thread(serve)
        until_parked(both.server, Side.SERVER)
        client = Thread(lambda: both.client.send_recv(0))
        assert got.wait(PATIENCE_S)
        assert server.error() is None
        until_parked(both.client, Side.CLIENT)
        getattr(both, by).shutdown()
        assert isinstance(client.error(), ClosedError)


def test_word_changed_under_a_swap() -> None:
    """A peer that writes nonsense into conn_state is a ProtocolError, not a sleep for ever."""
    with _swap_pair() as both:
        client = Thread(lambda: both.client.send_recv(0))
        until_parked(both.client, Side.CLIENT)
        write_word(both.client, "conn_state", 77)
        error = client.error()
        assert isinstance(error, flipcall.ProtocolError)
        assert read_word(both.client, "conn_state") == 2


def test_peer_that_lies_about_sleeping() -> None:
    """A bit set by a peer that does not sleep costs a swap that wakes nobody, and nothing else."""
    with _swap_pair() as both:
        write_word(both.server, "sleepers", 2, wake=False)
        with pytest.raises(DeadlineExceeded):
            both.client.send_recv(0, deadline_ns=time.monotonic_ns() + 30 * MS)
        assert both.client.stats.swaps == 1
        assert both.server.recv() == 0


def _serve_and_hang(path: str) -> None:
    import flipcall

    class Sum(flipcall.Service):
        def add(self, a: int, b: int) -> int: ...

    class SumServer(Sum):
        def add(self, a: int, b: int) -> int:
            if b == 0:
                say("hanging")  # type: ignore[name-defined]  # noqa: F821
                hear()  # type: ignore[name-defined]  # noqa: F821
            return a + b

    with flipcall.Server(SumServer(), path, switch="swap", policy=flipcall.WaitPolicy.frugal()):
        say("ready")  # type: ignore[name-defined]  # noqa: F821
        hear()  # type: ignore[name-defined]  # noqa: F821


def test_calls_between_processes(tmp_path: Path) -> None:
    """Typed calls over swap, asked for by name; a server that is killed in the middle of one is noticed."""
    path = str(tmp_path / "s")
    with child(_serve_and_hang, path) as server:
        server.expect("ready")
        with flipcall.connect(Sum, path, switch="swap", policy=FRUGAL, timeout=60) as client:
            assert [client.add(i, 1) for i in range(200)] == [i + 1 for i in range(200)]
            calling = Thread(lambda: client.add(1, 0))
            server.expect("hanging")
            server.kill()
            assert isinstance(calling.error(), PeerDiedError)


def test_signal_during_a_swap(tmp_path: Path) -> None:
    """A Python signal handler runs while the main thread is inside a swap, and its exception comes out of it."""

    class Alarm(Exception):
        pass

    def handler(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with _swap_pair() as both:
            main = threading.get_ident()

            def interrupt() -> None:
                until_parked(both.client, Side.CLIENT)
                signal.pthread_kill(main, signal.SIGUSR1)

            interrupting = Thread(interrupt)
            with pytest.raises(Alarm):
                both.client.send_recv(4)
            assert interrupting.error() is None
            assert both.client.state is State.WAITING
            assert both.server.recv() == 4  # what was given stays given
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_death_of_a_peer_during_a_swap() -> None:
    """The peer watched by a pidfd dies while this side is asleep in a swap: PeerDiedError."""
    with child("hear()") as peer, pair(policy=FRUGAL, client_peer=Liveness(pid=peer.pid)) as both:
        waiting = Thread(lambda: both.client.send_recv(0))
        until_parked(both.client, Side.CLIENT)
        os.kill(peer.pid, signal.SIGKILL)
        assert isinstance(waiting.error(), PeerDiedError)
        wait_until(lambda: both.client.state is State.OVER)


def test_calls_by_default(tmp_path: Path) -> None:
    """Calls that ask for no switch work, too."""
    path = str(tmp_path / "s")
    with flipcall.Server(SumServer(), path), flipcall.connect(Sum, path) as client:
        assert client.add(2, 3) == 5
