"""Placement same-cpu: both sides on one CPU while they talk, and every thread's CPUs given back exactly.

What a thread is restricted to is decided in core/follow.c; tests/core/follow.c has the cases that need no process.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import flipcall
from flipcall.errors import PeerDiedError
from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, PacketWindow, Side, WaitPolicy
from flipcall.policy import waits
from tests.policy.conftest import WINDOW, Pair
from tests.support import child, run_python, wait_until

SAME = WaitPolicy.same_cpu()
MEETING = 20  # calls; both sides are on one CPU after three

MakePair = Callable[[WaitPolicy, WaitPolicy], Pair]


def meet(both: Pair) -> None:
    """Call until both threads are on one CPU. That is more than a few calls only where this process hardly gets to
    run, and the CPU is given back between a call and the look.
    """

    def together() -> bool:
        both.call(MEETING)
        mine = os.sched_getaffinity(0)
        return len(mine) == 1 and os.sched_getaffinity(both.server_tid) == mine

    wait_until(together)


def test_both_sides_meet_on_one_cpu(pair: MakePair, cpus: frozenset[int]) -> None:
    """While calls go to and fro, client's and server's threads may run on one and the same CPU."""
    both = pair(SAME, SAME)
    meet(both)
    assert "placement=same-cpu" in repr(both.client)
    assert "placement=same-cpu" in repr(both.server)
    both.close()


def test_an_idle_channel_gives_the_cpus_back(pair: MakePair, cpus: frozenset[int]) -> None:
    """Without calls both threads get their CPUs back, though neither does anything; the next calls meet again."""
    both = pair(SAME, SAME)
    for _ in range(2):
        meet(both)
        wait_until(lambda: os.sched_getaffinity(0) == cpus)
        wait_until(lambda: os.sched_getaffinity(both.server_tid) == cpus)


def test_close_gives_the_cpus_back(pair: MakePair, cpus: frozenset[int]) -> None:
    """At once, to the thread that closes."""
    both = pair(SAME, SAME)
    meet(both)
    both.close()
    assert os.sched_getaffinity(0) == cpus


def test_a_change_of_mask_meanwhile_stays(pair: MakePair, cpus: frozenset[int]) -> None:
    """What the user set while the thread was restricted is what it has afterwards."""
    both = pair(SAME, SAME)
    meet(both)
    chosen = cpus - (os.sched_getaffinity(0) if len(os.sched_getaffinity(0)) == 1 else {min(cpus)})
    os.sched_setaffinity(0, chosen)
    both.call(MEETING)
    both.close()
    assert os.sched_getaffinity(0) == chosen
    os.sched_setaffinity(0, cpus)


def test_another_thread_takes_over(pair: MakePair, cpus: frozenset[int]) -> None:
    """A client used by one thread and then by another: the first gets its CPUs back, both meet the server."""
    both = pair(SAME, SAME)
    meet(both)
    thread = threading.Thread(target=meet, args=[both])
    thread.start()
    thread.join()
    wait_until(lambda: os.sched_getaffinity(0) == cpus)
    meet(both)
    both.close()


def test_one_side_alone_stays_free(pair: MakePair, cpus: frozenset[int]) -> None:
    """Placement is in force where both sides ask for it; else both are where the scheduler puts them."""
    for client, server in ((SAME, WaitPolicy.frugal()), (WaitPolicy.frugal(), SAME)):
        both = pair(client, server)
        both.call(MEETING)
        assert os.sched_getaffinity(0) == os.sched_getaffinity(both.server_tid) == cpus
        assert "placement=free" in repr(both.client)
        assert "placement=free" in repr(both.server)
        both.close()


def test_hostile_cpu_numbers(cpus: frozenset[int]) -> None:
    """A client that writes any CPU number into the window: the server's thread stays within its own CPUs, and no
    call fails for it.
    """
    allowed = {min(cpus)}
    window = MemfdAllocator().allocate(WINDOW)
    other = PacketWindow.attach(os.dup(window.fd), window.length)
    masks: list[set[int]] = []

    def serve() -> None:
        os.sched_setaffinity(0, allowed)
        with Endpoint(other, Side.SERVER, policy=SAME) as server:
            server.recv_first()
            for _ in range(100):
                masks.append(os.sched_getaffinity(0))
                server.send_recv(0)
            server.send_last(0)
        masks.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=serve)
    thread.start()
    with Endpoint(window, Side.CLIENT, policy=SAME) as client:
        client.connect()
        for n in range(100):
            for shift in (10, 21):
                struct.pack_into("=I", window.buffer, 8, (n * 37 % 2048) << shift | 3)
            client.send_recv(0)
        client.send_recv(0)
        thread.join()
    assert masks == [allowed] * 101


def test_new_endpoints_of_a_restricted_thread_may_spin(pair: MakePair, cpus: frozenset[int]) -> None:
    """A thread restricted for one channel is not taken for one that has a single CPU when it opens another."""
    both = pair(SAME, SAME)
    meet(both)
    assert waits(WaitPolicy.latency()).spin_ns > 0
    assert os.sched_getaffinity(0) == cpus
    both.close()


def _answer(fd: int, parent: int) -> None:
    """Child: answer every datagram; say hello first."""
    from flipcall.errors import ClosedError
    from flipcall.lowlevel import Endpoint, Liveness, PacketWindow, Side, WaitPolicy

    window = PacketWindow.attach(fd, 4096)
    with Endpoint(window, Side.SERVER, peer=Liveness(pid=parent), policy=WaitPolicy.same_cpu()) as server:
        print("here", flush=True)
        try:
            server.recv_first()
            while True:
                server.send_recv(0)
        except ClosedError:
            pass


def test_the_peer_is_killed(cpus: frozenset[int]) -> None:
    """The survivor is told, and gets its CPUs back without having to close."""
    window = MemfdAllocator().allocate(WINDOW)
    fd = os.dup(window.fd)
    with child(_answer, fd, os.getpid(), pass_fds=[fd]) as peer:
        os.close(fd)
        peer.expect("here")
        client = Endpoint(window, Side.CLIENT, peer=Liveness(pid=peer.pid), policy=SAME)
        client.connect()

        def together() -> bool:
            client.send_recv(0)
            mine = os.sched_getaffinity(0)
            return len(mine) == 1 and os.sched_getaffinity(peer.pid) == mine

        wait_until(together)
        peer.kill()
        with pytest.raises(PeerDiedError):
            client.send_recv(0)
        wait_until(lambda: os.sched_getaffinity(0) == cpus)
        client.close()


def _fork_while_pinned() -> None:
    """Child program: what a process forked from a restricted thread may run on."""
    import os
    import threading

    from flipcall.errors import ClosedError
    from flipcall.lowlevel import Endpoint, MemfdAllocator, PacketWindow, Side, WaitPolicy

    before = os.sched_getaffinity(0)
    window = MemfdAllocator().allocate(4096)
    other = PacketWindow.attach(os.dup(window.fd), window.length)
    server = Endpoint(other, Side.SERVER, policy=WaitPolicy.same_cpu())

    def serve() -> None:
        try:
            server.recv_first()
            while True:
                server.send_recv(0)
        except ClosedError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    client = Endpoint(window, Side.CLIENT, policy=WaitPolicy.same_cpu())
    client.connect()
    while os.sched_getaffinity(0) == before:
        client.send_recv(0)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if os.sched_getaffinity(0) == before else 1)
    assert os.waitpid(pid, 0)[1] == 0
    client.shutdown()


def test_a_forked_child_has_the_cpus_from_before(cpus: frozenset[int]) -> None:
    """fork() in a restricted thread: the child starts with the mask the thread had before."""
    done = run_python(_fork_while_pinned)
    assert done.returncode == 0, done.stderr


class Where(flipcall.Service):
    """Says which CPUs the thread that answers may use."""

    def cpus(self) -> list[int]:
        """Sorted."""
        raise NotImplementedError


class WhereServer(Where):
    """The implementation."""

    def cpus(self) -> list[int]:
        return sorted(os.sched_getaffinity(0))


def test_typed_calls(tmp_path: Path, cpus: frozenset[int]) -> None:
    """connect(policy=) and Server(policy=): the handler runs on the caller's CPU, and both are free afterwards."""
    path = str(tmp_path / "s")
    with (
        flipcall.Server(WhereServer(), path, policy=SAME),
        flipcall.connect(Where, path, policy=SAME) as where,  # pyright: ignore
    ):

        def together() -> bool:
            there = where.cpus()
            return len(there) == 1 and there == sorted(os.sched_getaffinity(0))

        wait_until(together)
        wait_until(lambda: os.sched_getaffinity(0) == cpus)
        assert where.cpus() == sorted(cpus)
    assert os.sched_getaffinity(0) == cpus


def test_the_keeper_does_not_hold_up_the_exit(cpus: frozenset[int]) -> None:
    """A program that ends while its thread is restricted ends at once and cleanly."""
    program = """
        import os, threading
        from flipcall.lowlevel import Endpoint, MemfdAllocator, PacketWindow, Side, WaitPolicy
        window = MemfdAllocator().allocate(4096)
        other = PacketWindow.attach(os.dup(window.fd), window.length)
        client = Endpoint(window, Side.CLIENT, policy=WaitPolicy.same_cpu())
        server = Endpoint(other, Side.SERVER, policy=WaitPolicy.same_cpu())
        def serve():
            server.recv_first()
            while True:
                server.send_recv(0)
        threading.Thread(target=serve, daemon=True).start()
        client.connect()
        while len(os.sched_getaffinity(0)) > 1:
            client.send_recv(0)
        say("ending")
    """
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "ending\n"), done.stderr
