"""The peer's end, by SIGKILL and SIGSTOP, at every moment: side x moment x kind of window, real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from flipcall import ClosedError, DeadlineExceeded, PeerDiedError
from flipcall.lowlevel import Endpoint, Liveness, MemfdAllocator, NamedAllocator, PacketWindow, Side, State
from tests.endpoint.running import KINDS, POLICIES, SIDES, Running, check_over, new_name, until_waiting
from tests.support import SLOW, Child, child, is_gone, resume, stop, wait_until

# The margin is wide because the machine is shared; how many slices it took is counted beside it.
NOTICED_S = 1.0 * SLOW
SLICES = 4 * SLOW


def peer(fd: int, length: int, name: str, side: int) -> None:
    """The other process: connects when told, then echoes, giving control away when told."""
    import os

    from flipcall.errors import FlipcallError
    from flipcall.lowlevel import Endpoint, Liveness, NamedWindow, PacketWindow, Side

    window = NamedWindow.open(name) if name else PacketWindow.attach(fd, length)
    end = Endpoint(window, Side(side), peer=Liveness(os.getppid()))
    say("ready")
    hear()
    try:
        if end.side is Side.CLIENT:
            end.connect()
            n = 1
        else:
            n = end.recv_first()
        while True:
            say("active")
            hear()
            n = end.send_recv(n)
    except FlipcallError as e:
        say(type(e).__name__)


def say(*_words: object) -> None:
    """In the child: tests.support has another one there."""


def hear() -> str:
    """In the child: see say()."""
    return ""


@contextmanager
def across(kind: str, side: Side, moment: str = "parked") -> Iterator[tuple[Endpoint, Child]]:
    """This process's endpoint of `side`, and a child, ready, that is to be the other one."""
    name = new_name() if kind == "named" else ""
    window: PacketWindow = (NamedAllocator(name) if name else MemfdAllocator()).allocate(4096)
    try:
        with child(peer, window.fd, 4096, name, int(1 - side), pass_fds=[window.fd]) as other:
            other.expect("ready")
            with Endpoint(window, side, peer=Liveness(other.pid), policy=POLICIES[moment]) as mine:
                yield mine, other
    finally:
        window.close()


def connect(mine: Endpoint, other: Child) -> None:
    """Connect; this side is ACTIVE then."""
    other.tell("connect")
    if mine.side is Side.CLIENT:
        mine.connect()
    else:
        mine.accept()
        other.expect("active")
        other.tell("give")
        mine.recv()


def begin(mine: Endpoint, other: Child, when: str) -> Running:
    """A wait for a peer that will not answer, because it has not begun or is thinking."""
    if when == "before_connect":
        return Running(mine.connect if mine.side is Side.CLIENT else mine.recv_first)
    if mine.side is Side.CLIENT:
        connect(mine, other)
        running = Running(mine.send_recv, 1)
        other.expect("active")
        return running
    other.tell("connect")
    running = Running(mine.recv_first)
    other.expect("active")
    return running


def check_died(error: BaseException, mine: Endpoint, pid: int) -> None:
    assert isinstance(error, PeerDiedError)
    assert error.pid == pid
    assert str(pid) in str(error)
    assert mine.peer_pid == pid
    check_over(mine)
    with pytest.raises(ClosedError):
        mine.recv()


@pytest.mark.parametrize("side", SIDES, ids=lambda s: s.name.lower())
@pytest.mark.parametrize("moment", POLICIES)
@pytest.mark.parametrize("when", ["before_connect", "connected"])
@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_of_peer_during_wait(side: Side, moment: str, when: str, kind: str) -> None:
    """A killed peer is noticed, asleep or spinning, connected or not, within a few slices; its pid is named."""
    with across(kind, side, moment) as (mine, other):
        running = begin(mine, other, when)
        until_waiting(mine, moment)
        parks = mine.stats.parks
        killed = time.monotonic()
        other.kill()
        error = running.error()
        assert time.monotonic() - killed < NOTICED_S
        assert mine.stats.parks - parks <= SLICES
        check_died(error, mine, other.pid)


@pytest.mark.parametrize("side", SIDES, ids=lambda s: s.name.lower())
@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_of_peer_while_active(side: Side, kind: str) -> None:
    """A side that was active when its peer was killed learns it from its next wait."""
    with across(kind, side) as (mine, other):
        connect(mine, other)
        other.kill()
        assert mine.state is State.ACTIVE
        parks = mine.stats.parks
        with pytest.raises(PeerDiedError) as raised:
            mine.send_recv(1)
        assert mine.stats.parks - parks <= SLICES
        check_died(raised.value, mine, other.pid)


@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_of_peer_before_it_attached(kind: str) -> None:
    """A peer that dies before it has touched the window is noticed as well."""
    window = (NamedAllocator(new_name()) if kind == "named" else MemfdAllocator()).allocate(4096)
    with child("hear()") as other, Endpoint(window, Side.CLIENT, peer=Liveness(other.pid)) as mine:
        running = Running(mine.connect)
        until_waiting(mine, "parked")
        other.kill()
        check_died(running.error(), mine, other.pid)


@pytest.mark.parametrize("side", SIDES, ids=lambda s: s.name.lower())
@pytest.mark.parametrize("moment", POLICIES)
def test_sigstop_of_peer(side: Side, moment: str) -> None:
    """A stopped peer is not dead: the deadline fires on time, and once it goes on its answer is received."""
    with across("memfd", side, moment) as (mine, other):
        connect(mine, other)
        stop(other.pid)
        for _ in range(2):
            deadline = time.monotonic_ns() + 120_000_000
            wait = partial(mine.send_recv, 3) if mine.state is State.ACTIVE else mine.recv
            with pytest.raises(DeadlineExceeded):
                wait(deadline_ns=deadline)
            assert 0 <= time.monotonic_ns() - deadline < NOTICED_S * 1e9
            assert mine.state is State.WAITING
        resume(other.pid)
        other.expect("active")
        other.tell("give")
        assert mine.recv() == 3
        assert mine.state is State.ACTIVE


@pytest.mark.parametrize("side", SIDES, ids=lambda s: s.name.lower())
def test_shutdown_of_peer_process(side: Side) -> None:
    """This side's close() ends the wait of another process with ClosedError, and that process with it."""
    with across("memfd", side) as (mine, other):
        connect(mine, other)
        mine.close()
        other.expect("ClosedError")
        assert other.wait() == 0


@pytest.mark.parametrize("side", SIDES, ids=lambda s: s.name.lower())
def test_hang_up_is_death(side: Side) -> None:
    """Without a pidfd a socket tells: the last close of its other end is the peer's death, data on it is not."""
    import socket

    here, there = socket.socketpair()
    window = MemfdAllocator().allocate(4096)
    with here, there, Endpoint(window, side, peer=Liveness(socket=here)) as mine:
        running = Running(mine.connect if side is Side.CLIENT else mine.recv_first)
        until_waiting(mine, "parked")
        there.send(b"x")
        parks = mine.stats.parks
        wait_until(lambda: mine.stats.parks > parks + 1, what="slices pass")
        assert mine.state is State.WAITING
        there.close()
        error = running.error()
        assert isinstance(error, PeerDiedError)
        assert error.pid == 0


def parent_and_child(side: int) -> None:
    """A process that forks, connects with its child, and waits until it is killed; `side` is the parent's."""
    import os
    import sys

    from flipcall.errors import PeerDiedError
    from flipcall.lowlevel import Endpoint, Liveness, Side
    from flipcall.testing import windows

    one, other = windows()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        window, mine, watched = one, Side(side), pid
        other.close()
    else:
        window, mine, watched = other, Side(1 - side), parent
        one.close()
    end = Endpoint(window, mine, peer=Liveness(watched))
    try:
        if mine is Side.CLIENT:
            end.connect()
            say(pid or os.getpid())
            end.send_recv(0)
        else:
            n = end.recv_first()
            if pid:  # wait as the parent: the child is the client and waits, too
                import time

                while True:
                    time.sleep(60)
            end.send_recv(n)
    except PeerDiedError as e:
        os._exit(0 if e.pid == watched else 1)
    sys.exit(2)


@pytest.mark.parametrize("side", SIDES, ids=lambda s: s.name.lower())
def test_child_left_alone_by_its_parent_ends(side: Side) -> None:
    """When a parent is killed, its forked child's wait ends with PeerDiedError, and so does the child."""
    with child(parent_and_child, int(side)) as parent:
        pid = int(parent.wait_line())
        pidfd = os.pidfd_open(pid)
        try:
            parent.kill()
            wait_until(lambda: is_gone(pid), what="the child ends")
        finally:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass
            os.close(pidfd)


def test_liveness_of_no_process() -> None:
    """A process that is gone is ProcessLookupError, a number that is none OSError, and nothing stays open."""
    with child("hear()") as other:
        other.kill()
        with pytest.raises(ProcessLookupError):
            Liveness(other.pid)
    with pytest.raises(OSError, match="22"):
        Liveness(-1)


def test_liveness_not_closed_warns() -> None:
    """Who forgets to close it is told, and the descriptor is closed all the same."""
    with pytest.warns(ResourceWarning, match="unclosed Liveness"):
        Liveness(os.getpid())
